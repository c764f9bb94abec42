package tasks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const clientApp = "wx0123456789abcdef"

func message(id string) tasks.Envelope {
	return tasks.Envelope{
		Type: tasks.TypeSubscribe, App: clientApp, ID: id,
		Body: []byte(`{"touser":"oAbc","template_id":"T1","data":{"thing1":{"value":"订单已发货"}}}`),
	}
}

func pending(t *testing.T, rdb redis.UniversalClient, p tasks.Priority) int64 {
	t.Helper()
	return rdb.LLen(t.Context(), asynqwire.Key(tasks.QueueName(clientApp, tasks.TypeSubscribe, p), asynqwire.Pending)).Val()
}

// TestOneIDIsEnqueuedOnce: producers enqueue the same id at the same time with different
// priorities. asynq itself keeps an id unique within one queue only.
func TestOneIDIsEnqueuedOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		var fresh atomic.Int64
		var producers sync.WaitGroup
		for i := range 40 {
			producers.Go(func() {
				e := message("one")
				if i%2 == 0 {
					e.Priority = tasks.Bulk
				}
				receipt, err := client.Submit(t.Context(), e)
				if err != nil {
					t.Error(err)
				}
				if !receipt.Already {
					fresh.Add(1)
				}
			})
		}
		producers.Wait()
		if fresh.Load() != 1 {
			t.Errorf("%d receipts without Already", fresh.Load())
		}
		if n := pending(t, rdb, tasks.Urgent) + pending(t, rdb, tasks.Bulk); n != 1 {
			t.Errorf("%d tasks wait", n)
		}
	})
}

// TestAMarkedTaskIsEnqueued: a producer died after it marked the id and before it enqueued the
// task.
func TestAMarkedTaskIsEnqueued(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := ledger.New(rdb, ledger.Policy{})
		bulk := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Bulk)
		if _, err := l.Mark(t.Context(), ledger.Ref{App: clientApp, ID: "one"}, bulk, "waiting"); err != nil {
			t.Fatal(err)
		}
		receipt, err := tasks.NewClient(rdb).Submit(t.Context(), message("one"))
		if err != nil || receipt.Already || receipt.Queue != bulk {
			t.Errorf("%+v, %v", receipt, err)
		}
		if pending(t, rdb, tasks.Bulk) != 1 || pending(t, rdb, tasks.Urgent) != 0 {
			t.Error("it is not in the queue that it was marked with")
		}
	})
}

// TestNotBeforeProcessAt: asynq keeps whole seconds, so process_at is rounded up to one. A task
// whose process_at has passed is due at once.
func TestNotBeforeProcessAt(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		queue := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Urgent)
		second := time.Now().Add(time.Hour).Truncate(time.Second)
		for name, tt := range map[string]struct {
			at   time.Time
			want int64 // 0 is at once
		}{
			"whole": {second, second.Unix()}, "after": {second.Add(time.Nanosecond), second.Unix() + 1},
			"last": {second.Add(time.Second - time.Nanosecond), second.Unix() + 1}, "past": {time.Now().Add(-time.Millisecond), 0},
		} {
			scheduled := func(way string) (tasks.Envelope, string) {
				e := message(name + "-" + way)
				e.ProcessAt = tt.at
				return e, e.TaskID()
			}
			one, oneID := scheduled("single")
			many, manyID := scheduled("pipelined")
			foreign, foreignID := scheduled("plain")
			if _, err := client.Submit(t.Context(), one); err != nil {
				t.Fatal(err)
			}
			for _, answer := range client.SubmitMany(t.Context(), []tasks.Envelope{many, message(name + "-beside")}) {
				if answer.Err != nil {
					t.Fatal(answer.Err)
				}
			}
			task, err := tasks.NewTask(foreign)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := asynq.NewClientFromRedisClient(rdb).EnqueueContext(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{oneID, manyID, foreignID} {
				score, err := rdb.ZScore(t.Context(), asynqwire.Key(queue, asynqwire.Scheduled), id).Result()
				if due := int64(score); due != tt.want || errors.Is(err, redis.Nil) != (tt.want == 0) {
					t.Errorf("%s: due at %d, not at %d (%v)", id, due, tt.want, err)
				}
			}
		}
	})
}

// forgetTask deletes a task from the ledger.
func forgetTask(t *testing.T, rdb redis.UniversalClient, id string) {
	t.Helper()
	n := rdb.Del(t.Context(), ledger.TaskKey(clientApp, id)).Val()
	if n += rdb.HDel(t.Context(), ledger.WaitingKey(clientApp, id), id).Val(); n != 1 {
		t.Fatalf("%s had %d records, want 1", id, n)
	}
}

// TestAnArchivedCopyIsNoObstacle: the record of an ended task has expired, but asynq's archive
// still has a copy.
func TestAnArchivedCopyIsNoObstacle(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		queue := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Urgent)
		if _, err := client.Submit(t.Context(), message("one")); err != nil {
			t.Fatal(err)
		}
		inspector := asynq.NewInspectorFromRedisClient(rdb)
		if err := inspector.ArchiveTask(queue, clientApp+":one"); err != nil {
			t.Fatal(err)
		}
		forgetTask(t, rdb, "one")
		// A producer marked the id again, and died before it enqueued the task.
		l := ledger.New(rdb, ledger.Policy{})
		if _, err := l.Mark(t.Context(), ledger.Ref{App: clientApp, ID: "one"}, queue, "waiting"); err != nil {
			t.Fatal(err)
		}
		receipt, err := client.Submit(t.Context(), message("one"))
		if err != nil || receipt.Already {
			t.Errorf("%+v, %v", receipt, err)
		}
		if n := pending(t, rdb, tasks.Urgent); n != 1 {
			t.Errorf("%d tasks wait", n)
		}
	})
}

func TestSubmitManyAnswersEachItem(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		var many []tasks.Envelope
		for i := range 100 {
			many = append(many, message(fmt.Sprintf("m%d", i/2))) // each id twice
		}
		many[7].Body = []byte(`{"template_id":"T1"}`)
		many[7].ID = "bad"
		var fresh, already int
		for i, answer := range client.SubmitMany(t.Context(), many) {
			var invalid *tasks.ValidationError
			switch {
			case i == 7:
				if !errors.As(answer.Err, &invalid) {
					t.Errorf("a bad task: %v", answer.Err)
				}
			case answer.Err != nil:
				t.Errorf("%d: %v", i, answer.Err)
			case answer.Receipt.Already:
				already++
			default:
				fresh++
			}
		}
		if fresh != 50 || already != 49 {
			t.Errorf("%d new and %d enqueued before", fresh, already)
		}
		apps, err := tasks.NewInspector(rdb).Apps(t.Context())
		if err != nil || !slices.Equal(apps, []string{clientApp}) {
			t.Errorf("apps %v, %v", apps, err)
		}
	})
}

func TestEnqueueWakesTheLane(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sub := rdb.Subscribe(t.Context(), ledger.WakeChannel)
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		client := tasks.NewClient(rdb)
		later := message("later")
		later.ProcessAt = time.Now().Add(time.Hour)
		for _, e := range []tasks.Envelope{later, message("now")} {
			if _, err := client.Submit(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil || m.Payload != message("now").Queue() {
			t.Errorf("woken with %v, %v", m, err)
		}
		if r, err := client.Result(t.Context(), clientApp, "later"); err != nil || r.State != tasks.StateScheduled || r.Type != tasks.TypeSubscribe {
			t.Errorf("a task for later: %+v, %v", r, err)
		}
	})
}

func TestImageIsStoredOutsideThePayload(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		image := append([]byte("GIF89a"), bytes.Repeat([]byte{7}, 100_000)...)
		task, err := tasks.NewImageCheckTask(clientApp, tasks.ImageCheckPayload{Media: image}, tasks.ID("img"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tasks.NewClient(rdb).Enqueue(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		queue := tasks.QueueName(clientApp, tasks.TypeImageCheck, tasks.Urgent)
		info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(queue, clientApp+":img")
		if err != nil || len(info.Payload) > 500 {
			t.Fatalf("a payload of %d bytes, %v", len(info.Payload), err)
		}
		blob, err := ledger.New(rdb, ledger.Policy{}).Blob(t.Context(), clientApp, "img")
		if err != nil || !bytes.Equal(blob, image) {
			t.Errorf("the image: %d bytes, %v", len(blob), err)
		}
	})
}

func TestWaitAndUnknownIDs(t *testing.T) {
	_, rdb := redistest.Mini(t)
	client := tasks.NewClient(rdb)
	if _, err := client.Wait(t.Context(), clientApp, "nobody"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("wait for an unknown task: %v", err)
	}
	if _, err := client.Batch(t.Context(), clientApp, "none"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("no batch: %v", err)
	}
	if _, err := client.CancelBatch(t.Context(), clientApp, "none"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("cancel no batch: %v", err)
	}
	if _, err := client.Submit(t.Context(), message("waits")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r, err := client.Wait(ctx, clientApp, "waits")
	if !errors.Is(err, context.DeadlineExceeded) || r.State != tasks.StateWaiting || time.Since(r.EnqueuedAt).Abs() > time.Minute {
		t.Errorf("wait until the deadline: %+v, %v", r, err)
	}
}

// TestRedisErrorIsReturned: an error of Redis is returned, and the call may be repeated.
func TestRedisErrorIsReturned(t *testing.T) {
	m, _ := redistest.Mini(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, DialerRetries: 1})
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	m.SetError("OOM command not allowed when used memory > 'maxmemory'.")
	_, err := client.Submit(t.Context(), message("one"))
	var invalid *tasks.ValidationError
	if err == nil || errors.As(err, &invalid) {
		t.Errorf("a full Redis: %v", err)
	}
	m.SetError("")
	if receipt, err := client.Submit(t.Context(), message("one")); err != nil || receipt.Already {
		t.Errorf("repeated: %+v, %v", receipt, err)
	}
}
