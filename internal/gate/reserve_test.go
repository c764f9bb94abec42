package gate

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// TestGateKeepsTheReserve: when only the reserved part of the day's quota is left, the gate
// dequeues urgent tasks only.
func TestGateKeepsTheReserve(t *testing.T) {
	const app, typ = "wx0123456789abcdef", "send:template"
	_, rdb := redistest.Mini(t)
	l := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(),
		func(string) map[string]ratelimit.Limit { return map[string]ratelimit.Limit{typ: {PerDay: 3}} },
		ratelimit.WithReserve(func(string) float64 { return 0.4 }))
	g := New([]string{"urgent", "bulk"}, limiterPace{t, l, app, typ}, manySlots)
	dequeue := func(got int, err error) (bulkNext bool) {
		t.Helper()
		if !g.prepare() {
			t.Fatal("the gate is closed")
		}
		if queue, n := g.nextDequeue(time.Now(), 1); queue != urgent || n != 1 {
			t.Fatalf("dequeues %d tasks from queue %d", n, queue)
		}
		if g.dequeued(urgent, 1, got, err); got > 0 {
			return false
		}
		queue, n := g.nextDequeue(time.Now(), 1)
		return queue == bulk && n > 0
	}
	if !dequeue(0, redis.Nil) {
		t.Fatal("bulk was skipped although no reserve was touched")
	}
	g.dequeued(bulk, 1, 1, nil) // the first of three calls: 60 % of three, rounded down, is one
	if dequeue(0, redis.Nil) {
		t.Error("bulk got a permit of the reserve")
	}
	if g.mayHaveWork {
		t.Error("the lane does not sleep without urgent tasks and without a permit for bulk")
	}
	g.Recheck()
	dequeue(1, nil)
	if n := len(g.assigned); n != 2 {
		t.Errorf("%d permits for the two tasks", n)
	}
	g.Close()
}

// limiterPace is the pacer of a limiter for one type of an app.
type limiterPace struct {
	t        *testing.T
	limiter  *ratelimit.Limiter
	app, typ string
}

func (p limiterPace) Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error) {
	return p.limiter.AcquireEarly(ctx, p.app, p.typ, wake)
}

func (p limiterPace) TryAcquire(ctx context.Context, n int) []*ratelimit.Permit {
	return p.limiter.TryAcquire(ctx, p.app, p.typ, n)
}

func (p limiterPace) Release(ctx context.Context, permit *ratelimit.Permit) {
	if err := p.limiter.Release(context.WithoutCancel(ctx), permit); err != nil {
		p.t.Error(err)
	}
}

func (p limiterPace) ReturnUnused(ctx context.Context) {
	if err := p.limiter.ReturnUnused(context.WithoutCancel(ctx), p.app, p.typ); err != nil {
		p.t.Error(err)
	}
}
