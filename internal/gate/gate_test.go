package gate

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

// fakePace is a pacer that returns the permits that a test sends, or an error.
type fakePace struct {
	permits  chan *ratelimit.Permit
	mu       sync.Mutex
	err      error // guarded by mu, like the fields below
	acquired int
	released int
}

// recover ends the error, and makes some permits available.
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

const (
	urgent = 0 // indexes of a gate's queues
	bulk   = 1
)

// runGate runs a gate, and sends the result of nextDequeue (queue and number) each time that
// the gate is offered. The test calls dequeued with the result, and returns the gate by
// sending to g.returned.
func runGate(g *Gate) <-chan [2]int {
	questions := make(chan [2]int)
	go g.run(func(g *Gate) {
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
		g := New([]string{"urgent", "bulk"}, pace, manySlots)
		questions := runGate(g)
		quiet := func(why string) {
			t.Helper()
			synctest.Wait()
			select {
			case q := <-questions:
				t.Fatalf("%s: it dequeues %v", why, q)
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
			t.Fatalf("with a permit: dequeue %v", q)
		}
		answer(urgent, 0, redis.Nil)
		if q := <-questions; q != [2]int{bulk, 1} { // the same permit serves the second queue
			t.Fatalf("dequeue %v, want bulk", q)
		}
		answer(bulk, 1, nil)
		if got, late := g.takePermit(time.Now()); got != permit || len(late) > 0 {
			t.Fatalf("the handler got %v, and %d permits that are too late", got, len(late))
		}

		// After empty queues the lane sleeps until it is woken, and its permit is returned.
		pace.permits <- &ratelimit.Permit{At: time.Now()}
		for _, queue := range []int{urgent, bulk} {
			if q := <-questions; q != [2]int{queue, 1} {
				t.Fatalf("dequeue %v", q)
			}
			answer(queue, 0, redis.Nil)
		}
		synctest.Wait()
		if pace.released != 1 {
			t.Errorf("%d permits were returned, want 1", pace.released)
		}
		time.Sleep(time.Hour)
		quiet("a sleeping lane")
		if !g.asleep.Load() {
			t.Error("asleep is not set")
		}
		g.Recheck()
		pace.permits <- &ratelimit.Permit{At: time.Now()}
		if q := <-questions; q != [2]int{urgent, 1} {
			t.Fatalf("a woken lane: dequeue %v", q)
		}
		g.dequeued(urgent, 1, 0, redis.Nil)
		g.Close()
		g.returned <- struct{}{}
		<-g.done
		quiet("a closed lane")
		if pace.released != 2 {
			t.Errorf("a closing lane kept its permit: %d were returned", pace.released)
		}
	})
}

func TestGateDoesNotSpinWhileRedisIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{err: errors.New("Redis is away")}
		g := New([]string{"q"}, pace, manySlots)
		questions := runGate(g)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := pace.acquired; n < 10 || n > 60 {
			t.Errorf("%d calls of Acquire in a minute", n)
		}
		pace.recover(&ratelimit.Permit{At: time.Now().Add(time.Minute)})
		if q := <-questions; q != [2]int{urgent, 1} {
			t.Errorf("after the recovery: dequeue %v", q)
		}
		// A failed dequeue is followed by a pause, too.
		began := time.Now()
		g.dequeued(urgent, 1, 0, errors.New("Redis is away"))
		g.returned <- struct{}{}
		if <-questions; time.Since(began) < maxBackoff/2 {
			t.Errorf("the next dequeue came after %v", time.Since(began))
		}
		g.Close()
		g.returned <- struct{}{}
		<-g.done
	})
}

// TestGateWaitsForASlot: a lane dequeues no more tasks than it has free slots.
func TestGateWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 8)}
		for range 8 {
			pace.permits <- &ratelimit.Permit{At: time.Now().Add(time.Hour)}
		}
		var free atomic.Int64
		g := New([]string{"q"}, pace, func() int { return int(free.Load()) })
		questions := runGate(g)
		synctest.Wait()
		if pace.acquired > 0 {
			t.Error("the gate acquired a permit without a free slot")
		}
		free.Store(2)
		g.HandlerEnded(nil)
		if q := <-questions; q[1] != 1 {
			t.Errorf("the first dequeue is for %d tasks, want 1", q[1])
		}
		g.dequeued(urgent, 1, 1, nil) // its handler has not started: one of two slots is left
		g.returned <- struct{}{}
		if q := <-questions; q[1] != 1 {
			t.Errorf("dequeue of %d tasks for one free slot", q[1])
		}
		g.Close()
		g.returned <- struct{}{}
		<-g.done
	})
}

func TestNoScriptIsNoFailure(t *testing.T) {
	g := New([]string{"q"}, &fakePace{}, manySlots)
	g.held = []*ratelimit.Permit{{}}
	g.dequeued(urgent, 1, 0, redisError("NOSCRIPT No matching script."))
	if g.failures != 0 || len(g.held) != 1 {
		t.Errorf("%d failures, %d permits; want none and the same permit", g.failures, len(g.held))
	}
}

// redisError is an error reply of Redis.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}
