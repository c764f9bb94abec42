package gate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// onlyRequeues is the part of the redisHook that answers asynq's retry script.
type onlyRequeues struct{ *Hook }

func (h onlyRequeues) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if q, ok := asynqwire.ParseRequeue(cmd); ok {
			script, _ := cmd.(*redis.Cmd)
			return h.requeue(ctx, q, script, next)
		}
		return next(ctx, cmd)
	}
}

// TestAHandedBackTaskIsInItsQueue: a task that its handler hands back through asynq runs next
// or last, by its place, and asynq counts no failure.
func TestAHandedBackTaskIsInItsQueue(t *testing.T) {
	t.Parallel()
	for name, redisOf := range map[string]func(t *testing.T) redis.UniversalClient{
		"miniredis": func(t *testing.T) redis.UniversalClient { _, rdb := redistest.Mini(t); return rdb },
		"redis":     func(t *testing.T) redis.UniversalClient { return redistest.Start(t).Client(t) },
		"cluster":   redistest.StartCluster,
	} {
		for where, tt := range map[asynqwire.Place]struct{ queue, order string }{
			asynqwire.QueueFront: {"wx:t", "a a b c"}, asynqwire.QueueBack: {"wx:t:bulk", "a b c a"},
		} {
			t.Run(name+" "+tt.queue, func(t *testing.T) {
				t.Parallel()
				rdb := redisOf(t)
				rdb.AddHook(onlyRequeues{NewHook(rdb)})
				if got := runOrder(t, rdb, tt.queue, where); got != tt.order {
					t.Errorf("the tasks ran as %s, want %s", got, tt.order)
				}
				for _, set := range []string{"retry", "active", "lease", "pending", "failed"} {
					if rdb.Exists(t.Context(), asynqwire.Key(tt.queue, set)).Val() != 0 {
						t.Errorf("asynq's key %s is not empty", set)
					}
				}
			})
		}
	}
}

// runOrder lets asynq run the tasks a, b and c one after the other, hands a back once, and
// returns the order of the runs.
func runOrder(t *testing.T, rdb redis.UniversalClient, queue string, where asynqwire.Place) string {
	client := asynq.NewClientFromRedisClient(rdb)
	for _, id := range []string{"a", "b", "c"} {
		if _, err := client.EnqueueContext(t.Context(), asynq.NewTask("t", nil), asynq.TaskID(id), asynq.Queue(queue)); err != nil {
			t.Fatal(err)
		}
	}
	ran := make(chan string, 10)
	back := false
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency: 1, Queues: map[string]int{queue: 1}, TaskCheckInterval: time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return asynqwire.RequeueDelay(where, time.Now()) },
		IsFailure:      func(error) bool { return false }, LogLevel: asynq.FatalLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		if n, _ := asynq.GetRetryCount(ctx); n > 0 {
			t.Errorf("asynq counted %d failures", n)
		}
		ran <- id
		if id == "a" && !back {
			back = true
			return errors.New("held")
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	var order []string
	for range 4 {
		select {
		case id := <-ran:
			order = append(order, id)
		case <-time.After(10 * time.Second):
			t.Fatalf("only %v ran", order)
		}
	}
	return strings.Join(order, " ")
}
