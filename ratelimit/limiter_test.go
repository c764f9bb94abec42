package ratelimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// overriding returns a limiter with overrides for testApp.
func overriding(rdb redis.UniversalClient, overrides map[string]Limit) *Limiter {
	return NewLimiter(rdb, DefaultConfig(), func(app string) map[string]Limit {
		if app != testApp {
			return nil
		}
		return overrides
	})
}

func TestTry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{"code:qrcode": {Total: 1}})
		d, err := l.Try(t.Context(), testApp, "code:qrcode")
		if err != nil || d.Permit == nil || !d.Permit.Fresh(time.Now()) {
			t.Fatalf("first: %+v, %v", d, err)
		}
		if off := time.Until(d.Permit.At).Abs(); off > time.Second {
			t.Errorf("the instant of an idle type is %v from now", off)
		}
		d, err = l.Try(t.Context(), testApp, "code:qrcode")
		want := Decision{Wait: lifetimeWait, Window: Window{"code:qrcode", Total, 1}}
		if err != nil || d != want {
			t.Fatalf("second: %+v, %v; want %+v", d, err, want)
		}
		if d, err = l.Try(t.Context(), "wx1111111111111111", "code:qrcode"); err != nil || d.Permit == nil {
			t.Fatalf("another app: %+v, %v", d, err)
		}
	})
}

func TestGroupsShareTheirWindow(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{"links": {PerDay: 2}})
		for i, typ := range []string{"scheme:generate", "scheme:urllink", "scheme:generate"} {
			d, err := l.Try(t.Context(), testApp, typ)
			if err != nil || (d.Permit != nil) != (i < 2) {
				t.Fatalf("call %d: %+v, %v", i, d, err)
			}
		}
	})
}

// TestSecondsInRealTime runs three replicas for two seconds and checks the instants of their
// permits.
func TestSecondsInRealTime(t *testing.T) {
	const limit = 50
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			uses []int64
		)
		for range 3 {
			l := overriding(rdb, map[string]Limit{"scheme:generate": {PerSecond: limit}})
			wg.Go(func() {
				for {
					p, err := l.Acquire(ctx, testApp, "scheme:generate", nil)
					if err != nil {
						if !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("acquire: %v", err)
						}
						return
					}
					if now := time.Now(); now.Before(p.At) {
						t.Errorf("acquired %v before its instant", p.At.Sub(now))
					}
					if p.At.UnixMicro() < p.instant-1000 { // one machine, one clock
						t.Errorf("At is %d µs before the instant", p.instant-p.At.UnixMicro())
					}
					mu.Lock()
					uses = append(uses, p.instant)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		slices.Sort(uses)
		most(t, 0, "second", uses, second, limit)
		if len(uses) < limit {
			t.Errorf("%d permits in two seconds, limit %d a second", len(uses), limit)
		}
	})
}

func TestAcquireIsWoken(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, nil)
		set(t, l, hold.Hold{App: testApp, Scope: hold.WholeApp, Reason: "by hand"})
		wake, got := make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := l.Acquire(t.Context(), testApp, "send:custom", wake)
			got <- err
		}()
		wake <- struct{}{} // received only once Acquire waits; the hold stays
		if _, err := holdsOf(l).Lift(t.Context(), testApp, hold.WholeApp); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		select {
		case wake <- struct{}{}:
		case err := <-got: // Acquire queried Redis after the hold was lifted
			got <- err
		}
		if err := <-got; err != nil || time.Since(start) > recheckInterval/2 {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{"send:custom": {PerSecond: 1, PerDay: 9}})
		if _, err := l.Acquire(t.Context(), testApp, "send:custom", nil); err != nil {
			t.Fatal(err)
		}
		// The next instant is a second away: it is reserved, but the context ends first.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, testApp, "send:custom", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		u := usageOf(t, l, "send:custom")
		if u[PerDay] != 1 {
			t.Errorf("the permit of an ended context was not given back: %d used", u[PerDay])
		}
		cancel()
		if _, err := l.Acquire(ctx, testApp, "send:custom", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with an ended context: %v", err)
		}
	})
}

func TestAcquireIgnoresAClosedWake(t *testing.T) {
	wake := make(chan struct{})
	close(wake)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, rdb := redistest.Mini(t)
	l := overriding(rdb, nil)
	set(t, l, hold.Hold{App: testApp, Scope: hold.WholeApp, Reason: "by hand"})
	if _, err := l.Acquire(ctx, testApp, "send:custom", wake); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a closed wake fired: %v", err)
	}
}

func TestReleaseOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{"seccheck:text": {PerMinute: 10, PerDay: 10, Total: 10}})
		var permits []*Permit
		for range 3 {
			d, err := l.Try(t.Context(), testApp, "seccheck:text")
			if err != nil || d.Permit == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			permits = append(permits, d.Permit)
		}
		for range 3 {
			if err := l.Release(t.Context(), permits[1]); err != nil {
				t.Fatal(err)
			}
		}
		for span, used := range usageOf(t, l, "seccheck:text") {
			if used != 2 {
				t.Errorf("%s: %d used after one of three was given back", span, used)
			}
		}
	})
}

// TestReleaseIsNotRepeated: go-redis repeats most commands whose reply was lost, but not this.
func TestReleaseIsNotRepeated(t *testing.T) {
	cmd := noRetryCmd{redis.NewCmd(t.Context(), "evalsha")}
	if !redis.Cmder(cmd).NoRetry() {
		t.Error("go-redis would repeat the command")
	}
}

func TestReleaseOfUnknownScript(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, nil)
		d, err := l.Try(t.Context(), testApp, "code:qrcode")
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(t.Context(), d.Permit); err != nil {
			t.Fatal(err)
		}
		if u := usageOf(t, l, "code:qrcode"); u[Total] != 0 {
			t.Errorf("%d used", u[Total])
		}
	})
}

func TestRedisAway(t *testing.T) {
	m, rdb := redistest.Mini(t)
	l := overriding(rdb, nil)
	d, err := l.Try(t.Context(), testApp, "send:template")
	if err != nil {
		t.Fatal(err)
	}
	m.SetError("LOADING Redis is loading the dataset in memory")
	if _, err := l.Acquire(t.Context(), testApp, "send:template", nil); err == nil {
		t.Error("Acquire: no error")
	}
	if err := l.Release(t.Context(), d.Permit); err == nil {
		t.Error("Release: no error")
	}
	if _, err := l.Usage(t.Context(), testApp, "send:template"); err == nil {
		t.Error("Usage: no error")
	}
}

// withoutTimes returns usage without the fields that TestSpent checks.
func withoutTimes(usage []Usage) []Usage {
	var all []Usage
	for _, u := range usage {
		u.Counted, u.Granted, u.Ends, u.Quiet = time.Time{}, time.Time{}, time.Time{}, false
		all = append(all, u)
	}
	return all
}

func TestUsage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := overriding(rdb, map[string]Limit{"scheme:generate": {PerSecond: 10, PerMinute: 600}})
		now := at(t, noon)
		l.now = func() int64 { return now }
		for range 5 {
			if _, err := l.Try(t.Context(), testApp, "scheme:generate"); err != nil {
				t.Fatal(err)
			}
		}
		want := []Usage{
			{Name: "scheme:generate", Window: PerSecond, Limit: 10, Used: 5, Factor: 1},
			{Name: "scheme:generate", Window: PerMinute, Limit: 600, Used: 5, Factor: 1},
			{Name: "links", Window: PerDay, Limit: 500_000, Used: 5, Factor: 1},
		}
		got, err := l.Usage(t.Context(), testApp, "scheme:generate")
		if err != nil || !slices.Equal(withoutTimes(got), want) {
			t.Fatalf("got %+v, %v", got, err)
		}
		now += (13 * time.Hour).Microseconds()
		for span, used := range usageOf(t, l, "scheme:generate") {
			if used != 0 {
				t.Errorf("%s: %d used a day later", span, used)
			}
		}
		if got, err := l.Usage(t.Context(), testApp, "send:bizsubscribe"); err != nil || got != nil {
			t.Errorf("of a type without limits: %v, %v", got, err)
		}
	})
}

func usageOf(t *testing.T, l *Limiter, typ string) map[Span]int64 {
	t.Helper()
	all, err := l.Usage(t.Context(), testApp, typ)
	if err != nil {
		t.Fatal(err)
	}
	used := map[Span]int64{}
	for _, u := range all {
		used[u.Window] += u.Used
	}
	return used
}
