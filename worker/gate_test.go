package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// fakePace gives out permits as a test lets it.
type fakePace struct {
	permits  chan *ratelimit.Permit
	mu       sync.Mutex
	err      error // guarded by mu, as is all below
	acquired int
	released int
}

// recover lets the pace give permits out.
func (p *fakePace) recover(permits ...*ratelimit.Permit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.permits = nil, make(chan *ratelimit.Permit, len(permits))
	for _, permit := range permits {
		p.permits <- permit
	}
}

func (p *fakePace) Acquire(ctx context.Context, _ <-chan struct{}) (*ratelimit.Permit, error) {
	p.mu.Lock()
	p.acquired++
	err, permits := p.err, p.permits
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case permit := <-permits:
		return permit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *fakePace) TryAcquire(_ context.Context, n int) (more []*ratelimit.Permit) {
	for len(more) < n && len(p.permits) > 0 {
		more = append(more, <-p.permits)
	}
	return more
}

func (*fakePace) ReturnUnused(context.Context) {}

func (p *fakePace) Release(context.Context, *ratelimit.Permit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released++
}

func manySlots() int { return 64 }

func TestIsDequeue(t *testing.T) {
	dequeue := func(name string, keys ...any) redis.Cmder {
		return redis.NewCmd(t.Context(), append([]any{name, "sha", len(keys)}, append(keys, "1764000000", "asynq:{q}:t:")...)...)
	}
	const q = "wx0123456789abcdef:send:subscribe"
	keys := []any{"asynq:{" + q + "}:pending", "asynq:{" + q + "}:paused", "asynq:{" + q + "}:active", "asynq:{" + q + "}:lease"}
	for _, name := range []string{"evalsha", "eval"} {
		cmd := dequeue(name, keys...)
		if got, key, ok := parseScript(cmd); !ok || got != q || key != "pending" || !isDequeue(cmd, got) {
			t.Errorf("asynq's dequeue by %s: %q, %q, %v", name, got, key, ok)
		}
	}
	for _, other := range []redis.Cmder{
		dequeue("evalsha", "asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:t:1"),
		dequeue("evalsha", "wxcourier:{q}:task:1"),
		redis.NewCmd(t.Context(), "get", "asynq:{q}:pending"),
		redis.NewCmd(t.Context(), "ping"),
	} {
		if got, _, ok := parseScript(other); ok && isDequeue(other, got) {
			t.Errorf("taken for a dequeue: %v", other)
		}
	}
}

const (
	urgent = 0 // the queues of a gate
	bulk   = 1
)

// runGate runs a gate, and returns what it asks each time that it is offered. The test
// says what became of it by dequeued, and gives it back by asked.
func runGate(g *gate) <-chan [2]int {
	questions := make(chan [2]int)
	go g.run(func(g *gate) {
		queue, n := g.nextDequeue(time.Now(), maxPerRoundTrip)
		if n == 0 {
			return
		}
		questions <- [2]int{queue, n}
		<-g.returned
	})
	return questions
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 1)}
		g := newGate([]string{"urgent", "bulk"}, pace, manySlots)
		questions := runGate(g)
		quiet := func(why string) {
			t.Helper()
			synctest.Wait()
			select {
			case q := <-questions:
				t.Fatalf("%s: asks %v", why, q)
			default:
			}
		}
		answer := func(queue, got int, err error) {
			g.dequeued(queue, 1, got, err)
			g.returned <- struct{}{}
		}
		quiet("without a permit")
		permit := &ratelimit.Permit{At: time.Now()}
		pace.permits <- permit
		if q := <-questions; q != [2]int{urgent, 1} {
			t.Fatalf("asked %v with a permit", q)
		}
		answer(urgent, 0, redis.Nil)
		if q := <-questions; q != [2]int{bulk, 1} { // the same permit serves the second queue
			t.Fatalf("asked %v, want bulk", q)
		}
		answer(bulk, 1, nil)
		if got, late := g.takePermit(time.Now()); got != permit || len(late) > 0 {
			t.Fatalf("the handler got %v, %d late ones", got, len(late))
		}

		// Empty queues put the lane to sleep until it is woken, and its permit goes back.
		pace.permits <- &ratelimit.Permit{At: time.Now()}
		for _, queue := range []int{urgent, bulk} {
			if q := <-questions; q != [2]int{queue, 1} {
				t.Fatalf("asked %v", q)
			}
			answer(queue, 0, redis.Nil)
		}
		synctest.Wait()
		if pace.released != 1 {
			t.Errorf("%d permits went back", pace.released)
		}
		time.Sleep(time.Hour)
		quiet("a sleeping lane")
		if !g.asleep.Load() {
			t.Error("it does not say that it sleeps")
		}
		g.recheck()
		pace.permits <- &ratelimit.Permit{At: time.Now()}
		if q := <-questions; q != [2]int{urgent, 1} {
			t.Fatalf("a woken lane asked %v", q)
		}
		g.dequeued(urgent, 1, 0, redis.Nil)
		g.close()
		g.returned <- struct{}{}
		<-g.done
		quiet("a closed lane")
		if pace.released != 2 {
			t.Errorf("a closing lane kept its permit: %d", pace.released)
		}
	})
}

func TestGateDoesNotSpinWhileRedisIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{err: errors.New("Redis is away")}
		g := newGate([]string{"q"}, pace, manySlots)
		questions := runGate(g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked := pace.acquired; asked < 10 || asked > 60 {
			t.Errorf("asked %d times in a minute", asked)
		}
		pace.recover(&ratelimit.Permit{At: time.Now().Add(time.Minute)})
		if q := <-questions; q != [2]int{urgent, 1} {
			t.Errorf("it does not recover: %v", q)
		}
		// Nor when a dequeue fails.
		began := time.Now()
		g.dequeued(urgent, 1, 0, errors.New("Redis is away"))
		g.returned <- struct{}{}
		if <-questions; time.Since(began) < maxBackoff/2 {
			t.Errorf("it asks again after %v", time.Since(began))
		}
		g.close()
		g.returned <- struct{}{}
		<-g.done
	})
}

// TestGateWaitsForASlot: a lane takes no task that no slot is free for.
func TestGateWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 8)}
		for range 8 {
			pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Hour)}
		}
		var free atomic.Int64
		g := newGate([]string{"q"}, pace, func() int { return int(free.Load()) })
		questions := runGate(g)
		synctest.Wait()
		if pace.acquired > 0 {
			t.Error("a permit waits for a slot")
		}
		free.Store(2)
		g.slotFreed()
		if q := <-questions; q[1] != 1 {
			t.Errorf("asks for %d tasks at first", q[1])
		}
		g.dequeued(urgent, 1, 1, nil) // on its way to its slot: one is left of two
		g.returned <- struct{}{}
		if q := <-questions; q[1] != 1 {
			t.Errorf("asks for %d tasks for one slot", q[1])
		}
		g.close()
		g.returned <- struct{}{}
		<-g.done
	})
}

func TestNoScriptIsNoFailure(t *testing.T) {
	g := newGate([]string{"q"}, &fakePace{}, manySlots)
	g.held = []*ratelimit.Permit{{}}
	g.dequeued(urgent, 1, 0, redisError("NOSCRIPT No matching script."))
	if g.failures != 0 || len(g.held) != 1 {
		t.Error("asynq sends the script next, with the same permit")
	}
}

// redisError is an error as the server says it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}
