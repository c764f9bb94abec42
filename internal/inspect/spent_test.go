package inspect_test

import (
	"math"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// TestSpent: of the limits that are spent the one that ends last is shown, and a reserve only while
// no limit is spent.
func TestSpent(t *testing.T) {
	const typ = "scheme:generate"
	midnight := time.Date(2026, 12, 2, 0, 0, 2, 0, time.UTC)
	day := func(name string, used, limit, reserved int64) ratelimit.Usage {
		return ratelimit.Usage{Name: name, Window: ratelimit.PerDay, Used: used, Limit: limit, Reserved: reserved, Ends: midnight}
	}
	total := func(used int64) ratelimit.Usage {
		return ratelimit.Usage{Name: "qrcode", Window: ratelimit.Total, Used: used, Limit: 10}
	}
	learned := day(typ, 5, 100, 0)
	learned.Learned = 5
	for _, tt := range []struct {
		name   string
		usage  []ratelimit.Usage
		reason string // "": nothing is spent
		row    string
		bulk   bool
		ends   bool
	}{
		{"nothing used", []ratelimit.Usage{day(typ, 0, 5, 1)}, "", "", false, false},
		{"no limit", []ratelimit.Usage{}, "", "", false, false},
		{"a full second", []ratelimit.Usage{{Name: typ, Window: ratelimit.PerSecond, Used: 9, Limit: 5}}, "", "", false, false},
		{"a full minute", []ratelimit.Usage{{Name: typ, Window: ratelimit.PerMinute, Used: 9, Limit: 5}}, "", "", false, false},
		{"the day", []ratelimit.Usage{day(typ, 5, 5, 0)}, "quota_day", typ, false, true},
		{"WeChat's lower limit", []ratelimit.Usage{learned}, "quota_day", typ, false, true},
		{"the group's day", []ratelimit.Usage{day(typ, 4, 5, 0), day("links", 9, 9, 0)}, "quota_day", "links", false, true},
		{"the lifetime outlasts the day", []ratelimit.Usage{total(10), day(typ, 5, 5, 0)}, "quota_total", "qrcode", false, false},
		{"what is left is reserved", []ratelimit.Usage{day(typ, 4, 5, 1)}, "quota_reserved", typ, true, true},
		{"spent, with a reserve", []ratelimit.Usage{day(typ, 5, 5, 1)}, "quota_day", typ, false, true},
	} {
		h, by, ok := inspect.Spent(mine, typ, tt.usage)
		if ok != (tt.reason != "") || h.Reason != tt.reason || by.Name != tt.row && ok {
			t.Errorf("%s: %+v by %+v", tt.name, h, by)
		}
		if !ok {
			continue
		}
		scope := typ
		if tt.bulk {
			scope = hold.BulkScope(typ)
		}
		if h.Scope != scope || h.By != hold.OurCount || h.Until.IsZero() == tt.ends || h.Stops(mine, typ) == tt.bulk {
			t.Errorf("%s: %+v", tt.name, h)
		}
	}
}

func TestSecondsLeft(t *testing.T) {
	now := time.Now()
	for want, until := range map[float64]time.Time{math.Inf(1): {}, 90: now.Add(90 * time.Second), 0: now.Add(-time.Hour)} {
		if got := inspect.SecondsLeft(hold.Hold{Until: until}, now); got != want {
			t.Errorf("until %v: %v, want %v", until, got, want)
		}
	}
}
