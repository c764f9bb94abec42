package worker

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// onlyRequeues is the part of the redisHook that answers asynq's retry script.
type onlyRequeues struct{ *redisHook }

func (h onlyRequeues) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if q, ok := parseRequeue(cmd); ok {
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
		for where, tt := range map[place]struct{ queue, order string }{
			queueFront: {"wx:t", "a a b c"}, queueBack: {"wx:t:bulk", "a b c a"},
		} {
			t.Run(name+" "+tt.queue, func(t *testing.T) {
				t.Parallel()
				rdb := redisOf(t)
				rdb.AddHook(onlyRequeues{newRedisHook(rdb)})
				if got := runOrder(t, rdb, tt.queue, where); got != tt.order {
					t.Errorf("the tasks ran as %s, want %s", got, tt.order)
				}
				for _, set := range []string{"retry", "active", "lease", "pending", "failed"} {
					if rdb.Exists(t.Context(), "asynq:{"+tt.queue+"}:"+set).Val() != 0 {
						t.Errorf("asynq's key %s is not empty", set)
					}
				}
			})
		}
	}
}

// runOrder lets asynq run the tasks a, b and c one after the other, hands a back once, and
// returns the order of the runs.
func runOrder(t *testing.T, rdb redis.UniversalClient, queue string, where place) string {
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
		RetryDelayFunc: retryDelay, IsFailure: isFailure, LogLevel: asynq.FatalLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		if n, _ := asynq.GetRetryCount(ctx); n > 0 {
			t.Errorf("asynq counted %d failures", n)
		}
		ran <- id
		if id == "a" && !back {
			back = true
			return &handedBack{place: where, delay: time.Hour, why: "held"}
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

// TestARequeueWhoseReplyWasLost: a repetition changes nothing, even after another replica has
// dequeued the task. A requeue of a later run has another number. A task that was deleted is
// not created again.
func TestARequeueWhoseReplyWasLost(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const prefix = "asynq:{q}:"
		key := prefix + "t:a"
		dequeue := func() {
			t.Helper()
			if err := rdb.RPopLPush(t.Context(), prefix+"pending", prefix+"active").Err(); err != nil {
				t.Fatal(err)
			}
			rdb.ZAdd(t.Context(), prefix+"lease", redis.Z{Score: 1, Member: "a"})
			rdb.HSet(t.Context(), key, "state", "active")
		}
		requeue := func(at int64) error {
			q := requeue{queue: "q", task: "a", key: key, at: at}
			return rdb.Process(t.Context(), q.command(t.Context(), "eval", requeueSource))
		}
		is := func(state string, pending, active int64) {
			t.Helper()
			p, a := rdb.LLen(t.Context(), prefix+"pending").Val(), rdb.LLen(t.Context(), prefix+"active").Val()
			if got := rdb.HGet(t.Context(), key, "state").Val(); got != state || p != pending || a != active {
				t.Errorf("%d pending and %d active, the task is %q", p, a, got)
			}
		}
		rdb.HSet(t.Context(), key, "msg", "m", "state", "pending")
		rdb.LPush(t.Context(), prefix+"pending", "a")
		dequeue()
		for range 2 {
			if err := requeue(-100); err != nil {
				t.Fatal(err)
			}
			is("pending", 1, 0)
		}
		dequeue()
		if err := requeue(-100); err != nil {
			t.Fatal(err)
		}
		is("active", 0, 1)
		if err := requeue(-200); err != nil {
			t.Fatal(err)
		}
		is("pending", 1, 0)
		dequeue()
		rdb.Del(t.Context(), key)
		if err := requeue(-300); err != nil {
			t.Fatal(err)
		}
		is("", 0, 0)
		if err := requeue(-400); err == nil {
			t.Error("a task that is not active was put back")
		}
	})
}

// TestRequeueDelays: each place has its own range of instants before 1970, also when asynq
// adds the delay to its clock some seconds later.
func TestRequeueDelays(t *testing.T) {
	now := time.Now()
	for range 1000 {
		front := now.Add(requeueDelay(queueFront, now)).Add(5 * time.Second).Unix()
		back := now.Add(requeueDelay(queueBack, now)).Add(5 * time.Second).Unix()
		if front >= frontBefore || front < backBefore || back >= backBefore {
			t.Fatalf("front %d, back %d", front, back)
		}
	}
}
