package ratelimit

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// SpentWindow is a window that has no room for another call.
type SpentWindow struct {
	Usage
	Until time.Time `json:"until,omitzero"` // when it has room again; zero: never, as for a lifetime's limit
}

// SpentWindows returns the windows of a type that have no room for another call now, by our own count;
// with bulk, also those whose rest is reserved for urgent tasks. It leaves out windows of a
// second.
func (l *Limiter) SpentWindows(ctx context.Context, app, typ string, bulk bool) ([]SpentWindow, error) {
	q := l.usageQuery(AppType{app, typ})
	value, err := usageScript.Run(ctx, l.rdb, q.keys, l.usageArgs()...).Result()
	if err != nil {
		return nil, fmt.Errorf("usage of %s of %s: %w", typ, app, err)
	}
	reply, _ := value.([]any)
	if len(reply) != 1+2*len(q.rows) {
		return nil, fmt.Errorf("usage of %s of %s: %d values in reply to %d rows", typ, app, len(reply), len(q.rows))
	}
	now, err := integers(reply[:1])
	if err != nil {
		return nil, err
	}
	share := 1.0
	if bulk {
		share -= l.reserve(app)
	}
	var spent []SpentWindow
	for i, r := range q.rows {
		s, err := decodeState(reply[1+2*i], reply[2+2*i])
		if err != nil {
			return nil, err
		}
		for _, w := range s.windows(r) {
			if w.Used, err = s.usedOf(w.Window, r, now[0]); err != nil {
				return nil, err
			}
			if w.Factor = 1; w.Window == PerMinute {
				w.Factor = float64(s.factorAt(now[0])) / 1000
			}
			if until, full := s.spentUntil(w, r, share, now[0]); full {
				spent = append(spent, SpentWindow{w, until})
			}
		}
	}
	return spent, nil
}

// spentUntil reports whether a window has no room at now (µs), and until when. share is the share
// of the day's limit that may be used.
func (s rowState) spentUntil(w Usage, r pacedRow, share float64, now int64) (until time.Time, spent bool) {
	_, minute, day := s.inForce(r, now)
	switch w.Window {
	case PerSecond:
	case PerMinute:
		if w.Used < minute {
			return time.Time{}, false
		}
		for _, e := range s.log { // the oldest first
			if b, n, err := parseLogEntry(e); err == nil && n > 0 {
				if free := (b+1)*bucket.Microseconds() + bucketTTL.Microseconds(); free > now {
					return time.UnixMicro(free), true
				}
			}
		}
	case PerDay:
		return nextDay(time.UnixMicro(now)), w.Used >= int64(float64(day)*share+1e-9) // as in take.lua
	case Total:
		return time.Time{}, w.Used >= r.total
	}
	return time.Time{}, false
}

// nextDay returns when the limits of a day have room again: the next midnight of China, plus the
// skew of the clocks.
func nextDay(now time.Time) time.Time {
	t := now.In(calendar.Shanghai())
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, calendar.Shanghai()).Add(calendar.MidnightSkew)
}
