package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// A line of a slow stream does not wait for the lines behind it.
func TestASlowStreamIsNotHeldBack(t *testing.T) {
	s := newFixture(t)
	o := s.options()
	enqueued := make(chan string)
	o.Enqueued = func(_ int, r tasks.Receipt) { enqueued <- r.ID }
	r, w := io.Pipe()
	ended := make(chan error)
	go func() {
		_, err := ingest.Enqueue(t.Context(), taskfile.New(r), o)
		ended <- err
	}()
	for i, line := range strings.SplitAfter(strings.TrimSpace(lines(3)), "\n") {
		if _, err := io.WriteString(w, strings.TrimSpace(line)+"\n"); err != nil {
			t.Fatal(err)
		}
		if id := <-enqueued; id != fmt.Sprintf("t%d", i) {
			t.Errorf("enqueued %s", id)
		}
	}
	_ = w.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What waits for room in the window, when a job is interrupted, is not enqueued and not
// waited for.
func TestAnInterruptedChunkIsTakenBack(t *testing.T) {
	s := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := s.options()
	enqueued := 0
	o.Enqueued = func(int, tasks.Receipt) { enqueued++ }
	runner := s.newRunner(40, o) // chunks of five
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx, taskfile.New(strings.NewReader(lines(1000)))) }()
	redistest.Until(t, 10*time.Second, "the window is full", func() bool { return runner.Pending() == 40 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := s.rdb.LLen(t.Context(), "asynq:{"+tasks.QueueName(app, tasks.TypeTextCheck, tasks.Urgent)+"}:pending").Val(); runner.Pending() != enqueued || n != int64(enqueued) {
		t.Errorf("%d were enqueued, %d wait, %d are pending", enqueued, n, runner.Pending())
	}
	runner.Close(t.Context())
}

// failingPipelines fails some of the scripts of a pipeline for a while.
type failingPipelines struct{ left atomic.Int64 }

func (*failingPipelines) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*failingPipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (r *failingPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if r.left.Add(-1) >= 0 {
			for _, cmd := range cmds[:len(cmds)/2] {
				cmd.SetErr(errors.New("the connection broke"))
			}
		}
		return err
	}
}

// Of a chunk that was answered in part the rest is repeated, and each task is told once.
func TestTheRestOfAChunkIsRepeated(t *testing.T) {
	s := newFixture(t)
	failing := &failingPipelines{}
	failing.left.Store(3)
	s.rdb.AddHook(failing)
	o := s.options()
	told := make(map[int]int)
	o.Enqueued = func(line int, _ tasks.Receipt) { told[line]++ }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(300))), o)
	if err != nil || counts.Enqueued+counts.Already != 300 || len(told) != 300 {
		t.Errorf("%+v, %v, %d lines told", counts, err, len(told))
	}
	for line, times := range told {
		if times != 1 {
			t.Errorf("line %d was told %d times", line, times)
		}
	}
}
