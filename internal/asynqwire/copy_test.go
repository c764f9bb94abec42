package asynqwire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestReadCopy: a copy is as asynq's Inspector shows it, in each state.
func TestReadCopy(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client, inspector := asynq.NewClientFromRedisClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
		payload := []byte(strings.Repeat("内容", 200) + "\x00\xff")
		enqueue := func(id string, opts ...asynq.Option) {
			t.Helper()
			task := asynq.NewTaskWithHeaders("type", payload, map[string]string{"a": "b", "c": strings.Repeat("d", 300)})
			opts = append(opts, asynq.Queue("q"), asynq.TaskID(id), asynq.MaxRetry(1_000_001), asynq.Timeout(24*time.Hour), asynq.Retention(time.Hour))
			if _, err := client.Enqueue(task, opts...); err != nil {
				t.Fatal(err)
			}
		}
		enqueue("fails")
		reason := errors.New("outside: " + strings.Repeat("理由", 100))
		server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
			LogLevel: asynq.FatalLevel, Queues: map[string]int{"q": 1}, TaskCheckInterval: 10 * time.Millisecond,
			RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
		})
		if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return reason })); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 20*time.Second, "the retry", func() bool { return rdb.ZCard(t.Context(), asynqwire.Key("q", asynqwire.Retry)).Val() == 1 })
		server.Shutdown()
		enqueue("pending")
		enqueue("scheduled", asynq.ProcessIn(time.Hour))
		enqueue("archived")
		if err := inspector.ArchiveTask("q", "archived"); err != nil {
			t.Fatal(err)
		}
		states := map[string]string{"fails": asynqwire.Retry, "pending": asynqwire.Pending, "scheduled": asynqwire.Scheduled, "archived": asynqwire.Archived}
		for id, state := range states {
			info, err := inspector.GetTaskInfo("q", id)
			if err != nil {
				t.Fatal(err)
			}
			c, err := asynqwire.ReadCopy(t.Context(), rdb, "q", id)
			if err != nil || c == nil {
				t.Fatalf("%s: %+v, %v", id, c, err)
			}
			if c.State != state || c.State != info.State.String() || string(c.Payload) != string(info.Payload) || c.LastErr != info.LastErr || c.Retried != info.Retried || c.Paused {
				t.Errorf("%s: %+v, want %+v", id, c, info)
			}
			if delayed := state == asynqwire.Retry || state == asynqwire.Scheduled; delayed && !c.Due.Equal(info.NextProcessAt) || !delayed && !c.Due.IsZero() {
				t.Errorf("%s is due %v, want %v", id, c.Due, info.NextProcessAt)
			}
		}
		if c, err := asynqwire.ReadCopy(t.Context(), rdb, "q", "none"); c != nil || err != nil {
			t.Errorf("an unknown task: %+v, %v", c, err)
		}
		if err := inspector.PauseQueue("q"); err != nil {
			t.Fatal(err)
		}
		rdb.SRem(t.Context(), asynqwire.Queues, "q") // as after Delete in the asynq web UI
		if c, err := asynqwire.ReadCopy(t.Context(), rdb, "q", "pending"); err != nil || c == nil || !c.Paused {
			t.Errorf("of a paused queue: %+v, %v", c, err)
		}
		if q, err := asynqwire.FindQueue(t.Context(), rdb, []string{"p", "q", "r"}, "pending"); q != "q" || err != nil {
			t.Errorf("found in %q, %v", q, err)
		}
		if q, err := asynqwire.FindQueue(t.Context(), rdb, []string{"p", "r"}, "pending"); q != "" || err != nil {
			t.Errorf("found in %q, %v", q, err)
		}
		rdb.HSet(t.Context(), asynqwire.TaskKey("q", "odd"), "state", "pending", "msg", "\x12\xff")
		if c, err := asynqwire.ReadCopy(t.Context(), rdb, "q", "odd"); err == nil {
			t.Errorf("a message that is cut: %+v", c)
		}
	})
}

// TestFindPosition: the position counts the tasks that asynq dequeues first.
func TestFindPosition(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := asynq.NewClientFromRedisClient(rdb)
		for i := range 20 {
			if _, err := client.Enqueue(asynq.NewTask("type", nil), asynq.Queue("q"), asynq.TaskID(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range map[string]asynqwire.Position{"0": {}, "1": {Before: 1}, "9": {Before: 9}, "10": {Before: 10, AtLeast: true}} {
			if got, found, err := asynqwire.FindPosition(t.Context(), rdb, "q", id, 10); got != want || !found || err != nil {
				t.Errorf("task %s: %+v, %t, %v, want %+v", id, got, found, err, want)
			}
		}
		if _, found, err := asynqwire.FindPosition(t.Context(), rdb, "q", "none", 100); found || err != nil {
			t.Errorf("an unknown task: %t, %v", found, err)
		}
	})
}
