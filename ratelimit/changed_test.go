package ratelimit

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// changing returns a limiter whose limit per second of crowded is that of *perSecond.
func changing(rdb redis.UniversalClient, perSecond *atomic.Int64) *Limiter {
	return NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit {
		return map[string]Limit{crowded: {PerSecond: int(perSecond.Load())}}
	})
}

// TestLimitsChanged: two replicas use a limit of 200 a second, until both have lowered it to 20. No
// call after that exceeds 20 in the second that ends with it, and none uses an older permit.
func TestLimitsChanged(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const low = 20
		var perSecond [2]atomic.Int64
		var limiters [2]*Limiter
		var calls []time.Time
		for i := range limiters {
			perSecond[i].Store(200)
			limiters[i] = changing(rdb, &perSecond[i])
		}
		call := func(l *Limiter) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			p, err := l.Acquire(ctx, testApp, crowded, nil)
			if err != nil {
				t.Fatal(err)
			}
			calls = append(calls, p.At)
		}
		for range 40 {
			call(limiters[0])
			call(limiters[1])
		}
		early, err := limiters[0].AcquireEarly(t.Context(), testApp, crowded, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range limiters {
			perSecond[i].Store(low)
			if err := l.LimitsChanged(t.Context(), testApp); err != nil {
				t.Fatal(err)
			}
			if n := l.poolOf(testApp, crowded).unusedCount(); n != 0 {
				t.Errorf("replica %d keeps %d permits", i, n)
			}
		}
		if early.Fresh(time.Now()) {
			t.Error("a permit of the old limit may be used")
		}
		changed := time.Now()
		for range 3 {
			call(limiters[0])
			call(limiters[1])
		}
		for i, at := range calls {
			n := 0
			for _, before := range calls {
				if d := at.Sub(before); d >= 0 && d < time.Second {
					n++
				}
			}
			if at.After(changed) && n > low {
				t.Fatalf("call %d, %v after the change, is the %d. within a second", i, at.Sub(changed), n)
			}
		}
		perSecond[0].Store(200) // a raised limit applies at once
		if err := limiters[0].LimitsChanged(t.Context(), testApp); err != nil {
			t.Fatal(err)
		}
		if d, err := limiters[0].Try(t.Context(), testApp, crowded); err != nil || d.Permit == nil && d.Wait > time.Second {
			t.Errorf("after a raise: %+v, %v", d, err)
		}
	})
}

// TestLimitsChangedDuringARefill: a block that was requested under the old limits is given back.
func TestLimitsChangedDuringARefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var perSecond atomic.Int64
		perSecond.Store(200)
		l := changing(nil, &perSecond)
		var spacings []time.Duration
		l.takeBlock = func(_ context.Context, p plan, _ request) (*grant, error) {
			spacings = append(spacings, p.rows[0].spacing)
			time.Sleep(time.Second)
			return &grant{plan: p, instants: []int64{l.mono()}, bulk: 1}, nil
		}
		l.returnPermits = func(context.Context, []*Permit, bool) error { return nil }
		time.AfterFunc(500*time.Millisecond, func() {
			perSecond.Store(100)
			if err := l.LimitsChanged(t.Context(), testApp); err != nil {
				t.Error(err)
			}
		})
		p, err := l.Acquire(t.Context(), testApp, crowded, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(spacings) != 2 || spacings[1] <= spacings[0] || p.grant.plan.rows[0].spacing != spacings[1] {
			t.Errorf("spacings of the requests %v, of the permit %v", spacings, p.grant.plan.rows[0].spacing)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
