package ratelimit

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestSpentWindows: a window is spent when it has no room for another call, for bulk tasks already at
// their share of the day, and says when it has room again.
func TestSpentWindows(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		limits := map[string]Limit{
			"send:custom": {PerDay: 4}, "seccheck:text": {PerMinute: 3}, "send:template": {PerSecond: 1},
		}
		l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit { return limits }, WithReserve(func(string) float64 { return 0.5 }))
		acquire := func(typ string, n int) {
			t.Helper()
			for range n {
				if _, err := l.Acquire(t.Context(), testApp, typ, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		spent := func(typ string, bulk bool) []SpentWindow {
			t.Helper()
			windows, err := l.SpentWindows(t.Context(), testApp, typ, bulk)
			if err != nil {
				t.Fatal(err)
			}
			return windows
		}
		for typ := range limits {
			if got := spent(typ, true); len(got) != 0 {
				t.Errorf("%s, unused: %+v", typ, got)
			}
		}
		acquire("send:custom", 2)
		if urgent, bulk := spent("send:custom", false), spent("send:custom", true); len(urgent) != 0 || len(bulk) != 1 {
			t.Errorf("half of the day: %+v, of bulk tasks %+v", urgent, bulk)
		}
		acquire("send:custom", 2)
		got := spent("send:custom", false)
		if len(got) != 1 || got[0].Window != PerDay || got[0].Used != 4 || got[0].Name != "send:custom" {
			t.Fatalf("the day: %+v", got)
		}
		if left := time.Until(got[0].Until); left <= 0 || left > 24*time.Hour+time.Minute {
			t.Errorf("the day has room again in %v", left)
		}
		acquire("seccheck:text", 2) // 3 less the margin
		got = spent("seccheck:text", false)
		if len(got) != 1 || got[0].Window != PerMinute {
			t.Fatalf("the minute: %+v", got)
		}
		if left := time.Until(got[0].Until); left <= 0 || left > bucketTTL+time.Second {
			t.Errorf("the minute has room again in %v", left)
		}
		acquire("send:template", 1)
		if got := spent("send:template", false); len(got) != 0 {
			t.Errorf("the second: %+v", got)
		}
	})
}

// TestSpentTotal: a lifetime's limit never has room again.
func TestSpentTotal(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := NewLimiter(rdb, DefaultConfig(), func(string) map[string]Limit { return map[string]Limit{"send:custom": {Total: 2}} })
		for range 2 {
			if _, err := l.Acquire(t.Context(), testApp, "send:custom", nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := l.SpentWindows(t.Context(), testApp, "send:custom", false); err != nil || len(got) != 1 || got[0].Window != Total || !got[0].Until.IsZero() {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
