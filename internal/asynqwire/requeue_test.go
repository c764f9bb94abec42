package asynqwire

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

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
			q := Requeue{Queue: "q", Task: "a", At: at}
			return rdb.Process(t.Context(), q.FullCommand(t.Context()))
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
		front := now.Add(RequeueDelay(QueueFront, now)).Add(5 * time.Second).Unix()
		back := now.Add(RequeueDelay(QueueBack, now)).Add(5 * time.Second).Unix()
		if front >= frontBefore || front < backBefore || back >= backBefore {
			t.Fatalf("front %d, back %d", front, back)
		}
	}
}
