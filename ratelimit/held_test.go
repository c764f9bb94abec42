package ratelimit

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// held returns a limiter whose clock the test sets.
func held(t *testing.T, rdb redis.UniversalClient) (l *Limiter, start time.Time, clock *time.Time) {
	t.Helper()
	l = NewLimiter(rdb, DefaultConfig(), nil)
	start = time.UnixMicro(at(t, noon))
	now := start
	l.now = func() int64 { return now.UnixMicro() }
	return l, start, &now
}

// holdsOf returns a store of holds that uses the limiter's clock, and revokes the limiter's
// permits when a hold is set or lifted.
func holdsOf(l *Limiter) *hold.Store {
	options := []hold.Option{hold.WithOnChange(func(ctx context.Context, app string) { _ = l.Revoke(ctx, app) })}
	if l.now() != 0 {
		options = append(options, hold.WithClock(func() time.Time { return time.UnixMicro(l.now()) }))
	}
	return hold.NewStore(l.rdb, options...)
}

func set(t *testing.T, l *Limiter, h hold.Hold) {
	t.Helper()
	if ok, err := holdsOf(l).Set(t.Context(), h); err != nil || !ok {
		t.Fatalf("not set: %v, %v", ok, err)
	}
}

func TestHoldStopsItsScope(t *testing.T) {
	for _, tt := range []struct {
		scope        string
		stops, spare string // types; "" for none
	}{
		{hold.WholeApp, "send:template", ""},
		{"send:template", "send:template", "send:custom"},
		{hold.TemplateScope("T1"), "", "send:template"},
	} {
		t.Run(tt.scope, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				l, start, clock := held(t, rdb)
				h := hold.Hold{App: testApp, Scope: tt.scope, Reason: "quota_day", Code: 45009, Until: start.Add(time.Hour), By: "r1"}
				set(t, l, h)
				h.Since, h.Tries = start, 1
				if tt.stops != "" {
					d, err := l.Try(t.Context(), testApp, tt.stops)
					if err != nil || d.Permit != nil || d.Wait != time.Hour || d.Hold == nil || !sameHold(*d.Hold, h) {
						t.Errorf("%s: %+v, %v", tt.stops, d, err)
					}
				}
				if tt.spare != "" {
					if d, err := l.Try(t.Context(), testApp, tt.spare); err != nil || d.Permit == nil {
						t.Errorf("%s: %+v, %v", tt.spare, d, err)
					}
				}
				if d, err := l.Try(t.Context(), "wx1111111111111111", "send:template"); err != nil || d.Permit == nil {
					t.Errorf("another app: %+v, %v", d, err)
				}
				*clock = start.Add(time.Hour)
				if d, err := l.Try(t.Context(), testApp, "send:template"); err != nil || d.Permit == nil {
					t.Errorf("after its end: %+v, %v", d, err)
				}
			})
		})
	}
}

func sameHold(a, b hold.Hold) bool {
	same := a.Since.Equal(b.Since) && a.Until.Equal(b.Until)
	a.Since, a.Until = b.Since, b.Until
	return same && reflect.DeepEqual(a, b)
}

func TestLaterOfTwoHoldsIsReported(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, start, _ := held(t, rdb)
		scope := func() string {
			d, err := l.Try(t.Context(), testApp, "send:custom")
			if err != nil || d.Hold == nil {
				t.Fatalf("%+v, %v", d, err)
			}
			return d.Hold.Scope
		}
		set(t, l, hold.Hold{App: testApp, Scope: hold.WholeApp, Until: start.Add(time.Minute)})
		set(t, l, hold.Hold{App: testApp, Scope: "send:custom", Until: start.Add(time.Hour)})
		if got := scope(); got != "send:custom" {
			t.Errorf("got %s", got)
		}
		set(t, l, hold.Hold{App: testApp, Scope: hold.WholeApp})
		if got := scope(); got != hold.WholeApp {
			t.Errorf("without an end: got %s", got)
		}
	})
}
