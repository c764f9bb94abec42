package worker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// TestGateKeepsTheReserve: with the last part of the day, only urgent tasks are asked for.
func TestGateKeepsTheReserve(t *testing.T) {
	const app, typ = "wx0123456789abcdef", "send:template"
	_, rdb := redistest.Mini(t)
	l := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(),
		func(string) map[string]ratelimit.Limit { return map[string]ratelimit.Limit{typ: {PerDay: 3}} },
		ratelimit.WithReserve(func(string) float64 { return 0.4 }))
	g := newGate([]string{"urgent", "bulk"}, &lanePace{
		limiter: limiter{l, slog.New(slog.DiscardHandler)}, app: app, typ: typ, waited: func(time.Duration) {},
	}, manySlots)
	ask := func(got int, err error) (asksBulk bool) {
		t.Helper()
		if !g.prepare() {
			t.Fatal("the gate is closed")
		}
		if queue, n := g.nextDequeue(time.Now(), 1); queue != urgent || n != 1 {
			t.Fatalf("asks queue %d for %d tasks", queue, n)
		}
		if g.dequeued(urgent, 1, got, err); got > 0 {
			return false
		}
		queue, n := g.nextDequeue(time.Now(), 1)
		return queue == bulk && n > 0
	}
	if !ask(0, redis.Nil) {
		t.Fatal("bulk was left out of the first part of the day")
	}
	g.dequeued(bulk, 1, 1, nil) // the first of three: 60 % of them are one
	if ask(0, redis.Nil) {
		t.Error("bulk was given of the reserve")
	}
	if g.mayHaveWork {
		t.Error("with nothing urgent and no permit for bulk, the lane asks on and on")
	}
	g.recheck()
	ask(1, nil)
	if n := len(g.takeAssigned()); n != 2 {
		t.Errorf("%d permits for the two tasks", n)
	}
	g.close()
}
