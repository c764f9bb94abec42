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

// TestSlowStreamIsNotDelayed: a line is enqueued before the next one is read.
func TestSlowStreamIsNotDelayed(t *testing.T) {
	s := newFixture(t)
	o := s.options()
	enqueued := make(chan string)
	o.OnEnqueued = func(_ int, r tasks.Receipt) { enqueued <- r.ID }
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

// TestInterruptedChunkIsNotEnqueued: tasks that wait for a slot when the run is interrupted
// are neither enqueued nor pending.
func TestInterruptedChunkIsNotEnqueued(t *testing.T) {
	s := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	o := s.options()
	enqueued := 0
	o.OnEnqueued = func(int, tasks.Receipt) { enqueued++ }
	runner := s.newRunner(40, o) // chunks of five
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx, taskfile.New(strings.NewReader(lines(1000)))) }()
	redistest.Until(t, 10*time.Second, "the window is full", func() bool { return runner.Pending() == 40 })
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := s.rdb.LLen(t.Context(), "asynq:{"+tasks.QueueName(app, tasks.TypeTextCheck, tasks.Urgent)+"}:pending").Val(); runner.Pending() != enqueued || n != int64(enqueued) {
		t.Errorf("%d reported as enqueued, %d in the queue, %d pending", enqueued, n, runner.Pending())
	}
	runner.Close(t.Context())
}

// failingPipelines fails the first half of the commands of the next pipelines; left counts
// these.
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

// TestTheRestOfAChunkIsRepeated: tasks of a chunk without an answer are submitted again, and
// each task is reported once.
func TestTheRestOfAChunkIsRepeated(t *testing.T) {
	s := newFixture(t)
	failing := &failingPipelines{}
	failing.left.Store(3)
	s.rdb.AddHook(failing)
	o := s.options()
	reports := make(map[int]int)
	o.OnEnqueued = func(line int, _ tasks.Receipt) { reports[line]++ }
	counts, err := ingest.Enqueue(t.Context(), taskfile.New(strings.NewReader(lines(300))), o)
	if err != nil || counts.Enqueued+counts.Already != 300 || len(reports) != 300 {
		t.Errorf("%+v, %v, %d lines reported", counts, err, len(reports))
	}
	for line, times := range reports {
		if times != 1 {
			t.Errorf("line %d was reported %d times", line, times)
		}
	}
}
