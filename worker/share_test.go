package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// trips counts the round trips of a client, and can hold single commands up.
type trips struct {
	alone, shared atomic.Int64
	gate          chan struct{} // nil: open
}

func (*trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" { // and no greeting of a new connection
			h.alone.Add(1)
			if h.gate != nil {
				<-h.gate
			}
		}
		return next(ctx, cmd)
	}
}

func (h *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" {
			h.shared.Add(1)
		}
		return next(ctx, cmds)
	}
}

// sharingClient is a client with the replica's hook, and beneath it a count of what
// really goes out.
func sharingClient(t *testing.T) (*redis.Client, *redisHook, *trips) {
	t.Helper()
	m, _ := redistest.Mini(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	hook, count := newRedisHook(rdb), &trips{}
	rdb.AddHook(hook)
	rdb.AddHook(count)
	return rdb, hook, count
}

var double = redis.NewScript(`
if ARGV[1] == "bad" then return redis.error_reply("ERR bad") end
return tonumber(ARGV[1]) * 2`)

// TestSharedRoundTrips: what comes while a call is under way leaves together after it,
// and each caller gets its own answer or error.
func TestSharedRoundTrips(t *testing.T) {
	t.Parallel()
	rdb, hook, count := sharingClient(t)
	if err := double.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	count.gate = make(chan struct{})
	const callers = 40
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			if i == 7 {
				if err := double.Run(t.Context(), rdb, nil, "bad").Err(); err == nil || err.Error() != "ERR bad" {
					t.Errorf("its own error: %v", err)
				}
				return
			}
			if got, err := double.Run(t.Context(), rdb, nil, i).Int(); err != nil || got != 2*i {
				t.Errorf("%d: %d, %v", i, got, err)
			}
		})
	}
	redistest.Until(t, 5*time.Second, "all wait for the first", func() bool {
		hook.share.mu.Lock()
		defer hook.share.mu.Unlock()
		return len(hook.share.queue) == callers-1
	})
	close(count.gate)
	all.Wait()
	if count.alone.Load() != 1 || count.shared.Load() != 1 {
		t.Errorf("%d calls alone and %d together, want 1 and 1", count.alone.Load(), count.shared.Load())
	}
	if hook.share.carriers != 0 || len(hook.share.queue) > 0 {
		t.Error("the next call would wait for ever")
	}
}

// TestASharerMayGiveUp: a caller whose context ends while it waits goes, and the others'
// calls are made.
func TestASharerMayGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s sharing
		free := make(chan struct{})
		first := make(chan error, 1)
		go func() {
			first <- s.do(t.Context(), redis.NewCmd(t.Context(), "evalsha"), func() error { <-free; return nil })
		}()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- s.do(ctx, redis.NewCmd(ctx, "evalsha"), nil) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("gave up with %v", err)
		}
		close(free)
		if err := <-first; err != nil {
			t.Error(err)
		}
		if s.carriers != 0 || len(s.queue) > 0 {
			t.Error("somebody is still waited for")
		}
	})
}

// TestADeadConnectionHoldsUpNobody: calls do not wait for one that gets no answer.
func TestADeadConnectionHoldsUpNobody(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := sharingClient(t)
	if err := double.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	var stuck sync.WaitGroup
	stuck.Go(func() {
		_ = hook.share.do(context.Background(), redis.NewCmd(context.Background(), "evalsha"), func() error { <-dead; return nil })
	})
	redistest.Until(t, 5*time.Second, "a call is under way", func() bool {
		hook.share.mu.Lock()
		defer hook.share.mu.Unlock()
		return hook.share.carriers == 1
	})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if got, err := double.Run(t.Context(), rdb, nil, i).Int(); err != nil || got != 2*i {
				t.Errorf("%d: %d, %v", i, got, err)
			}
		})
	}
	all.Wait() // or the test hangs
	close(dead)
	stuck.Wait()
	if hook.share.carriers != 0 {
		t.Errorf("%d round trips are still counted", hook.share.carriers)
	}
}

// dequeueAs asks the queue q as asynq does: the script with its four keys.
func dequeueAs(rdb *redis.Client) (string, error) {
	const p = "asynq:{q}:"
	return popOne.Run(context.Background(), rdb, []string{p + "pending", p + "paused", p + "active", p + "lease"},
		time.Now().Add(30*time.Second).Unix(), p+"t:").Text()
}

var popOne = redis.NewScript(`return redis.call("RPOPLPUSH", KEYS[1], KEYS[3])`)

// waitingGate is the gate of the queue q, in which n tasks wait: their numbers. It has
// permits for more than those.
func waitingGate(t *testing.T, rdb *redis.Client, n int, free func() int) *gate {
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
	return newGate([]string{"q"}, pace, free)
}

// TestTasksAreTakenTogether: a lane with permits and free slots doubles what it takes in
// one round trip, never past either, and hands out all of it with a permit each.
func TestTasksAreTakenTogether(t *testing.T) {
	t.Parallel()
	rdb, hook, count := sharingClient(t)
	const n, slots = 60, 10
	g := waitingGate(t, rdb, n, func() int { return slots })
	hook.add(g)
	for i := range n {
		task, err := dequeueAs(rdb)
		if err != nil || task != fmt.Sprint(i) {
			t.Fatalf("task %d: %q, %v", i, task, err)
		}
		if p, _ := g.take(time.Now()); p == nil {
			t.Fatalf("task %d has no permit", i)
		}
	}
	// 1, 2, 4, 8, and then the ten slots: 10, 10, 10, 10, 5.
	if alone, shared := count.alone.Load(), count.shared.Load(); alone != 1 || shared != 8 {
		t.Errorf("%d round trips for one task and %d for several, want 1 and 8", alone, shared)
	}
	if _, err := dequeueAs(rdb); !errors.Is(err, redis.Nil) {
		t.Errorf("an empty queue answered %v", err)
	}
	if g.atOnce != 1 {
		t.Errorf("an empty queue is asked for %d tasks", g.atOnce)
	}
	g.close()
}

// slowPipelines holds a client's pipelines up.
type slowPipelines struct{ trips }

func (h *slowPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" {
			<-h.gate
		}
		return next(ctx, cmds)
	}
}

// TestACloseWaitsForTheReply: a lane that closes while a reply with several tasks is on its
// way is not drained before asynq has them all.
func TestACloseWaitsForTheReply(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := sharingClient(t)
	slow := &slowPipelines{trips{gate: make(chan struct{})}}
	g := waitingGate(t, rdb, 3, manySlots)
	hook.add(g)
	close(slow.gate) // the first task comes alone
	if _, err := dequeueAs(rdb); err != nil {
		t.Fatal(err)
	}
	slow.gate = make(chan struct{})
	rdb.AddHook(slow)
	asked := make(chan error, 1)
	go func() {
		_, err := dequeueAs(rdb)
		asked <- err
	}()
	redistest.Until(t, 5*time.Second, "it asks", func() bool { return !g.drained() })
	g.close()
	if g.drained() {
		t.Fatal("drained, with a reply on its way")
	}
	close(slow.gate)
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	if g.drained() {
		t.Fatal("drained, with a task taken ahead")
	}
	if task, err := dequeueAs(rdb); err != nil || task != "2" {
		t.Errorf("%q, %v", task, err)
	}
	if !g.drained() {
		t.Error("not drained")
	}
}

// TestAFailedBatchIsNotRepeated: after an error one task is asked for, with one permit.
func TestAFailedBatchIsNotRepeated(t *testing.T) {
	pace := &fakePace{permits: make(chan *ratelimit.Permit, 8)}
	g := newGate([]string{"q"}, pace, manySlots)
	for range 8 {
		g.hand = append(g.hand, &ratelimit.Permit{At: time.Now().Add(time.Hour)})
	}
	g.atOnce = 8
	g.dequeued("q", 8, nil, errors.New("the connection broke"))
	if len(g.hand) != 1 || pace.released != 7 || g.atOnce != 1 {
		t.Errorf("%d permits in hand, %d given back, %d tasks to ask for", len(g.hand), pace.released, g.atOnce)
	}
}

// TestALongWaitIsAskedAfresh: asynq's lease of what it gets began when it asked. After a
// long wait it is told that there is nothing, also by the second queue, and asks again.
func TestALongWaitIsAskedAfresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 1)}
		g := newGate([]string{"urgent", "bulk"}, pace, manySlots)
		time.AfterFunc(time.Minute, func() { pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Second)} })
		if n := g.pass("urgent"); n != 0 {
			t.Errorf("after a minute %d tasks may be taken with a lease of 30 s", n)
		}
		if n := g.pass("bulk"); n != 0 {
			t.Error("bulk passes urgent")
		}
		if n := g.pass("urgent"); n != 1 {
			t.Errorf("asked again at once: %d", n)
		}
		g.close()
	})
}

// TestTakenAheadIsHandedOut: what a lane took ahead reaches asynq also after it closed.
func TestTakenAheadIsHandedOut(t *testing.T) {
	t.Parallel()
	rdb, hook, _ := sharingClient(t)
	g := waitingGate(t, rdb, 3, manySlots)
	hook.add(g)
	for range 2 { // the second takes two
		if _, err := dequeueAs(rdb); err != nil {
			t.Fatal(err)
		}
	}
	if g.drained() {
		t.Fatal("nothing was taken ahead")
	}
	g.close()
	if task, err := dequeueAs(rdb); err != nil || task != "2" {
		t.Errorf("after the close: %q, %v", task, err)
	}
	if !g.drained() {
		t.Error("something is left")
	}
	if _, err := dequeueAs(rdb); !errors.Is(err, redis.Nil) {
		t.Errorf("a closed lane took a task: %v", err)
	}
}
