package gate

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// dequeueAs sends the dequeue of an asynq server whose queue is "lanes": a script with the
// same four keys.
func dequeueAs(rdb *redis.Client) (string, error) {
	const p = "asynq:{lanes}:"
	return popOne.Run(context.Background(), rdb, []string{p + "pending", p + "paused", p + "active", p + "lease"},
		time.Now().Add(30*time.Second).Unix(), p+"t:").Text()
}

var popOne = redis.NewScript(`return redis.call("RPOPLPUSH", KEYS[1], KEYS[3])`)

// serveLanes makes the hook answer the dequeues from "lanes".
func serveLanes(hook *Hook) *dequeuer {
	return hook.NewServer("lanes").dequeuer
}

// waitingGate returns the gate of the queue q with n pending tasks, named by their numbers,
// and permits for more than those.
func waitingGate(t *testing.T, rdb *redis.Client, n int, free func() int) *Gate {
	t.Helper()
	if err := popOne.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		rdb.LPush(t.Context(), "asynq:{q}:pending", fmt.Sprint(i))
	}
	pace := &fakePace{permits: make(chan *ratelimit.Permit, 3*n)}
	for range 3 * n {
		pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Hour)}
	}
	return New([]string{"q"}, pace, free)
}

// TestTasksAreDequeuedInBatches: a lane doubles the tasks of a round trip up to its free slots
// and permits, and all tasks get a permit each.
func TestTasksAreDequeuedInBatches(t *testing.T) {
	t.Parallel()
	rdb, hook, count := hookedClient(t)
	const n, slots = 60, 10
	g := waitingGate(t, rdb, n, func() int { return slots })
	d := serveLanes(hook)
	d.add(g)
	for i := range n {
		task, err := dequeueAs(rdb)
		if err != nil || task != fmt.Sprint(i) {
			t.Fatalf("task %d: %q, %v", i, task, err)
		}
		if p, _ := g.takePermit(time.Now()); p == nil {
			t.Fatalf("task %d has no permit", i)
		}
	}
	// 1, 2, 4, 8, and then, for ten slots, 10, 10, 10, 10, 5.
	if alone, shared := count.alone.Load(), count.shared.Load(); alone != 1 || shared != 8 {
		t.Errorf("%d round trips for one task and %d for several, want 1 and 8", alone, shared)
	}
	redistest.Until(t, 5*time.Second, "the lane sleeps", g.asleep.Load)
	if atOnce := g.queues[0].atOnce; atOnce != 1 {
		t.Errorf("the next dequeue from an empty queue is for %d tasks", atOnce)
	}
	g.Close()
	d.close()
	if _, err := dequeueAs(rdb); !errors.Is(err, redis.Nil) {
		t.Errorf("a dequeue after close returned %v", err)
	}
}

// slowPipelines blocks a client's pipelines.
type slowPipelines struct {
	trips
	began chan<- struct{}
}

func (h *slowPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" {
			h.began <- struct{}{}
			<-h.gate
		}
		return next(ctx, cmds)
	}
}

// TestACloseWaitsForTheReply: a lane that closes during a round trip for several tasks is not
// drained until all of them were passed to asynq.
func TestACloseWaitsForTheReply(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := hookedClient(t)
	began := make(chan struct{}, 1)
	slow := &slowPipelines{trips: trips{gate: make(chan struct{})}, began: began}
	g := waitingGate(t, rdb, 3, manySlots)
	serveLanes(hook).add(g)
	if _, err := dequeueAs(rdb); err != nil { // the first task comes alone
		t.Fatal(err)
	}
	rdb.AddHook(slow)
	returned := make(chan error, 1)
	go func() {
		_, err := dequeueAs(rdb)
		returned <- err
	}()
	<-began
	g.Close()
	select {
	case <-g.done:
		t.Fatal("the gate's goroutine returned before the reply")
	default:
	}
	close(slow.gate)
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	<-g.done
	if g.drained() {
		t.Fatal("drained with a prefetched task")
	}
	if task, err := dequeueAs(rdb); err != nil || task != "2" {
		t.Errorf("%q, %v", task, err)
	}
	if !g.drained() {
		t.Error("not drained")
	}
}

// TestAFailedBatchIsNotRepeated: after an error the next dequeue is for one task, and the gate
// keeps one permit.
func TestAFailedBatchIsNotRepeated(t *testing.T) {
	pace := &fakePace{permits: make(chan *ratelimit.Permit, 8)}
	g := New([]string{"q"}, pace, manySlots)
	for range 8 {
		g.held = append(g.held, &ratelimit.Permit{At: time.Now().Add(time.Hour)})
	}
	g.queues[0].atOnce = 8
	g.dequeued(0, 8, 0, errors.New("the connection broke"))
	if len(g.held) != 1 || pace.released != 7 || g.queues[0].atOnce != 1 {
		t.Errorf("%d permits held, %d returned, %d tasks to dequeue", len(g.held), pace.released, g.queues[0].atOnce)
	}
}

// TestALongDequeueEndsEmpty: asynq computes a task's lease when it sends the dequeue. A dequeue
// that waits too long returns empty, and asynq repeats it; the urgent queue is first again.
func TestALongDequeueEndsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 1)}
		g := New([]string{"urgent", "bulk"}, pace, manySlots)
		time.AfterFunc(time.Minute, func() { pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Second)} })
		d := newDequeuer("lanes", nil)
		d.add(g)
		var last time.Time
		reply := func(_ context.Context, cmd redis.Cmder) error {
			if since := time.Since(last); since > maxDequeueWait {
				t.Errorf("a task was dequeued with a lease that began %v ago", since)
			}
			if key := cmd.Args()[3]; key != "asynq:{urgent}:pending" {
				t.Errorf("dequeued from %v, want the urgent queue", key)
			}
			cmd.(*redis.Cmd).SetVal("task") //nolint:forcetypeassert // it is one
			return nil
		}
		for began := time.Now(); time.Since(began) < 2*time.Minute; {
			last = time.Now()
			const p = "asynq:{lanes}:"
			cmd := redis.NewCmd(t.Context(), "evalsha", "sha", 4, p+"pending", p+"paused", p+"active", p+"lease", 1, p+"t:")
			err := d.dequeue(t.Context(), cmd, reply)
			if err == nil {
				break
			}
			if since := time.Since(last); !errors.Is(err, redis.Nil) || since != maxDequeueWait {
				t.Errorf("%v after %v", err, since)
			}
		}
		if time.Since(last) > maxDequeueWait || len(g.assigned) != 1 {
			t.Error("the task was not dequeued")
		}
		g.Close()
		<-g.done
	})
}

// TestPrefetchedTasksAreHandedOutAfterClose: the prefetched tasks of a closed lane are passed
// to asynq, and no others are dequeued.
func TestPrefetchedTasksAreHandedOutAfterClose(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := hookedClient(t)
	g := waitingGate(t, rdb, 4, manySlots)
	serveLanes(hook).add(g)
	for range 2 { // the second dequeue gets two tasks
		if _, err := dequeueAs(rdb); err != nil {
			t.Fatal(err)
		}
	}
	if g.drained() {
		t.Fatal("nothing was prefetched")
	}
	g.Close()
	if task, err := dequeueAs(rdb); err != nil || task != "2" {
		t.Errorf("after the close: %q, %v", task, err)
	}
	if !g.drained() {
		t.Error("not drained")
	}
	if _, err := dequeueAs(rdb); !errors.Is(err, redis.Nil) {
		t.Errorf("a closed lane dequeued a task: %v", err)
	}
	if n := rdb.LLen(t.Context(), "asynq:{q}:pending").Val(); n != 1 {
		t.Errorf("%d tasks are pending, want the last one", n)
	}
}
