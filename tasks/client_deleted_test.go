package tasks_test

import (
	"context"
	"sync"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestAQueueDeletedInTheWebUI: a client that knew it goes on to use it, as well as one that
// did not; what it repeats is answered as ever.
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
			t.Errorf("%d wait", pending(t, rdb, tasks.Urgent))
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

// TestAnArchivedCopyLeavesUnderAnEnqueue: the copy stood in the way of a new task of its id,
// and was deleted before the producer could look at it. The task is enqueued all the same.
func TestAnArchivedCopyLeavesUnderAnEnqueue(t *testing.T) {
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
			if cmd.Name() == "sismember" { // asynq looks for the queue before it looks for the task
				once.Do(func() {
					if err := inspector.DeleteTask(queue, clientApp+":a"); err != nil {
						t.Error(err)
					}
				})
			}
		}))
		receipt, err := tasks.NewClient(producer).Submit(t.Context(), message("a"))
		if err != nil || receipt.Already || pending(t, rdb, tasks.Urgent) != 1 {
			t.Errorf("%+v, %v; %d wait", receipt, err, pending(t, rdb, tasks.Urgent))
		}
	})
}
