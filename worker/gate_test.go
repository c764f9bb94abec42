package worker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// fakePace gives out permits as a test lets it.
type fakePace struct {
	permits  chan *ratelimit.Permit
	err      error
	mu       sync.Mutex
	released int
}

func (p *fakePace) Acquire(ctx context.Context, _ <-chan struct{}) (*ratelimit.Permit, error) {
	if p.err != nil {
		return nil, p.err
	}
	select {
	case permit := <-p.permits:
		return permit, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *fakePace) AtHand(_ context.Context, n int) (more []*ratelimit.Permit) {
	for len(more) < n && len(p.permits) > 0 {
		more = append(more, <-p.permits)
	}
	return more
}

func (*fakePace) Rest(context.Context) {}

func (p *fakePace) Release(context.Context, *ratelimit.Permit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released++
}

func manySlots() int { return 64 }

func TestDequeuesIsKnownByItsKeys(t *testing.T) {
	dequeue := func(name string, keys ...any) redis.Cmder {
		return redis.NewCmd(t.Context(), append([]any{name, "sha", len(keys)}, append(keys, "1764000000", "asynq:{q}:t:")...)...)
	}
	const q = "wx0123456789abcdef:send:subscribe"
	keys := []any{"asynq:{" + q + "}:pending", "asynq:{" + q + "}:paused", "asynq:{" + q + "}:active", "asynq:{" + q + "}:lease"}
	if got, ok := dequeues(dequeue("evalsha", keys...)); !ok || got != q {
		t.Errorf("asynq's dequeue: %q, %v", got, ok)
	}
	if got, ok := dequeues(dequeue("eval", keys...)); !ok || got != q {
		t.Errorf("asynq's dequeue, sent whole: %q, %v", got, ok)
	}
	for _, other := range []redis.Cmder{
		dequeue("evalsha", "asynq:{q}:active", "asynq:{q}:lease", "asynq:{q}:t:1"),
		dequeue("evalsha", "wxcourier:{q}:task:1"),
		redis.NewCmd(t.Context(), "get", "asynq:{q}:pending"),
		redis.NewCmd(t.Context(), "ping"),
	} {
		if _, ok := dequeues(other); ok {
			t.Errorf("taken for a dequeue: %v", other)
		}
	}
}

func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pace := &fakePace{permits: make(chan *ratelimit.Permit, 1)}
		g := newGate([]string{"urgent", "bulk"}, pace, manySlots)
		opened := make(chan int)
		ask := func(queue string) { go func() { opened <- g.pass(queue) }() }

		ask("urgent")
		synctest.Wait()
		select {
		case <-opened:
			t.Fatal("the gate opened without a permit")
		default:
		}
		permit := &ratelimit.Permit{At: time.Now()}
		pace.permits <- permit
		if <-opened == 0 {
			t.Fatal("the gate stayed closed with a permit")
		}
		g.dequeued("urgent", 1, nil, redis.Nil)
		if g.pass("bulk") == 0 { // the same permit serves the second queue
			t.Fatal("bulk was not asked")
		}
		g.dequeued("bulk", 1, nil, nil)
		if got, late := g.take(time.Now()); got != permit || len(late) > 0 {
			t.Fatalf("the handler got %v, %d late ones", got, len(late))
		}

		// Empty queues put the lane to sleep until it is woken, and its permit goes back.
		pace.permits <- &ratelimit.Permit{}
		if g.pass("urgent") == 0 {
			t.Fatal("closed")
		}
		g.dequeued("urgent", 1, nil, redis.Nil)
		if g.pass("bulk") == 0 {
			t.Fatal("closed")
		}
		g.dequeued("bulk", 1, nil, redis.Nil)
		ask("urgent")
		synctest.Wait()
		if pace.released != 1 {
			t.Errorf("%d permits went back", pace.released)
		}
		time.Sleep(time.Hour)
		select {
		case <-opened:
			t.Fatal("a sleeping lane asked Redis")
		default:
		}
		g.wake()
		pace.permits <- &ratelimit.Permit{At: time.Now()}
		if <-opened != 0 {
			t.Fatal("asynq's lease would be an hour old")
		}
		if g.pass("urgent") == 0 {
			t.Fatal("a woken lane stayed closed")
		}

		g.close()
		if g.pass("urgent")+g.pass("bulk") > 0 {
			t.Error("a closed lane let a dequeue through")
		}
		if pace.released != 2 {
			t.Errorf("a closing lane kept its permit: %d", pace.released)
		}
	})
}

func TestGateDoesNotSpinWhileRedisIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate([]string{"q"}, &fakePace{err: errors.New("Redis is away")}, manySlots)
		start, asked := time.Now(), 0
		for time.Since(start) < time.Minute {
			g.pass("q")
			asked++
		}
		if asked > 60 {
			t.Errorf("asked %d times in a minute", asked)
		}
		g.pace = &fakePace{permits: make(chan *ratelimit.Permit, 1)}
		g.pace.(*fakePace).permits <- &ratelimit.Permit{}
		if g.pass("q") == 0 {
			t.Error("it does not recover")
		}
	})
}

func TestNoScriptIsNoFailure(t *testing.T) {
	g := newGate([]string{"q"}, &fakePace{}, manySlots)
	g.hand = []*ratelimit.Permit{{}}
	g.dequeued("q", 1, nil, redisError("NOSCRIPT No matching script."))
	if g.failures != 0 || len(g.hand) != 1 {
		t.Error("asynq sends the script next, with the same permit")
	}
}

// redisError is an error as the server says it.
type redisError string

func (e redisError) Error() string { return string(e) }
func (redisError) RedisError()     {}
