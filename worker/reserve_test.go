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
	ask := func(urgent error) (bulk bool) {
		t.Helper()
		if g.pass("urgent") == 0 {
			t.Fatal("the gate is closed to urgent tasks")
		}
		g.dequeued("urgent", 1, nil, urgent)
		return urgent != nil && g.pass("bulk") > 0
	}
	if !ask(redis.Nil) {
		t.Fatal("bulk was left out of the first part of the day")
	}
	g.dequeued("bulk", 1, nil, nil) // the first of three: 60 % of them are one
	if ask(redis.Nil) {
		t.Error("bulk was given of the reserve")
	}
	if g.look {
		t.Error("with nothing urgent and no permit for bulk, the lane asks on and on")
	}
	g.wake()
	ask(nil)
	if n := len(g.clear()); n != 2 {
		t.Errorf("%d permits for the two tasks", n)
	}
	g.close()
}
