package tasks_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestAQueueDeletedInTheWebUI: a client that used the queue before can use it again, and
// repeated calls get the usual receipt.
func TestAQueueDeletedInTheWebUI(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client, inspector := tasks.NewClient(rdb), asynq.NewInspectorFromRedisClient(rdb)
		queue := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Urgent)
		submit := func() tasks.Receipt {
			t.Helper()
			receipt, err := client.Submit(t.Context(), message("a"))
			if err != nil {
				t.Fatal(err)
			}
			return receipt
		}
		submit()
		if err := inspector.DeleteTask(queue, clientApp+":a"); err != nil {
			t.Fatal(err)
		}
		if err := inspector.DeleteQueue(queue, false); err != nil {
			t.Fatal(err)
		}
		if receipt := submit(); receipt.Already || receipt.Queue != queue {
			t.Errorf("after it was deleted: %+v", receipt)
		}
		if receipt := submit(); !receipt.Already {
			t.Errorf("repeated: %+v", receipt)
		}
		if pending(t, rdb, tasks.Urgent) != 1 {
			t.Errorf("%d tasks in the queue", pending(t, rdb, tasks.Urgent))
		}
	})
}

// commandHook is called before each single command.
type commandHook func(cmd redis.Cmder)

func (commandHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (commandHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h commandHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h(cmd)
		return next(ctx, cmd)
	}
}

// TestArchivedCopyDeletedDuringEnqueue: asynq refuses the id because of an archived copy,
// which is deleted before the producer looks it up. The task is enqueued.
func TestArchivedCopyDeletedDuringEnqueue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		inspector := asynq.NewInspectorFromRedisClient(rdb)
		queue := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Urgent)
		old := asynq.NewTask(tasks.TypeSubscribe, []byte("{}"))
		if _, err := asynq.NewClientFromRedisClient(rdb).Enqueue(old, asynq.Queue(queue), asynq.TaskID(clientApp+":a")); err != nil {
			t.Fatal(err)
		}
		if err := inspector.ArchiveTask(queue, clientApp+":a"); err != nil {
			t.Fatal(err)
		}
		producer := redis.NewClient(rdb.(*redis.Client).Options())
		defer func() { _ = producer.Close() }()
		var once sync.Once
		producer.AddHook(commandHook(func(cmd redis.Cmder) {
			if cmd.Name() == "sismember" { // asynq looks up the queue before the task
				once.Do(func() {
					if err := inspector.DeleteTask(queue, clientApp+":a"); err != nil {
						t.Error(err)
					}
				})
			}
		}))
		receipt, err := tasks.NewClient(producer).Submit(t.Context(), message("a"))
		if err != nil || receipt.Already || pending(t, rdb, tasks.Urgent) != 1 {
			t.Errorf("%+v, %v; %d tasks in the queue", receipt, err, pending(t, rdb, tasks.Urgent))
		}
	})
}

// TestATaskDeliveredDuringEnqueue: a task is delivered, and forgotten by asynq, after a second
// producer read its mark and before it enqueued. The second producer gets Already and Done.
func TestATaskDeliveredDuringEnqueue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		if _, err := tasks.NewClient(rdb).Submit(t.Context(), message("a")); err != nil {
			t.Fatal(err)
		}
		inspector := asynq.NewInspectorFromRedisClient(rdb)
		queue := tasks.QueueName(clientApp, tasks.TypeSubscribe, tasks.Urgent)
		records := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100})
		producer := redis.NewClient(rdb.(*redis.Client).Options())
		defer func() { _ = producer.Close() }()
		var once sync.Once
		producer.AddHook(commandHook(func(cmd redis.Cmder) {
			if !strings.Contains(fmt.Sprint(cmd.Args()...), "asynq:{") {
				return
			}
			once.Do(func() {
				ending := ledger.SettleRequest{Outcome: "accepted", Result: []byte(`{"outcome":"accepted"}`), Queue: queue}
				if _, err := records.Settle(t.Context(), ledger.Ref{App: clientApp, ID: "a"}, ending); err != nil {
					t.Error(err)
				}
				if err := inspector.DeleteTask(queue, clientApp+":a"); err != nil {
					t.Error(err)
				}
			})
		}))
		receipt, err := tasks.NewClient(producer).Submit(t.Context(), message("a"))
		if err != nil || !receipt.Already || !receipt.Done {
			t.Errorf("%+v, %v", receipt, err)
		}
	})
}
