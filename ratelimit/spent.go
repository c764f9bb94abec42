package ratelimit

import (
	"context"
	"time"
)

// SpentWindow is a window that has no room for another call.
type SpentWindow struct {
	Usage
	Until time.Time `json:"until,omitzero"` // when it has room again; zero: never, as for a lifetime's limit
}

// SpentWindows returns the windows of a type that have no room for another call now, by our own
// count; with bulk, also those whose rest is reserved for urgent tasks. Beside those of
// [Usage.Spent] these are full windows of a minute; it leaves out windows of a second.
func (l *Limiter) SpentWindows(ctx context.Context, app, typ string, bulk bool) ([]SpentWindow, error) {
	q := l.usageQuery(AppType{app, typ})
	now, states, err := l.readStates(ctx, q)
	if err != nil {
		return nil, err
	}
	usage, err := l.usages(q, states, now)
	if err != nil {
		return nil, err
	}
	var spent []SpentWindow
	for i, r := range q.rows {
		for _, u := range usage {
			switch {
			case u.Name != r.name:
			case u.Spent() || bulk && u.SpentForBulk():
				spent = append(spent, SpentWindow{u, u.Ends})
			case u.Window == PerMinute:
				if until, full := states[i].minuteFullUntil(u.Used, r, now); full {
					spent = append(spent, SpentWindow{u, until})
				}
			}
		}
	}
	return spent, nil
}

// minuteFullUntil reports whether the window of a minute has no room at now (µs), and until when.
func (s rowState) minuteFullUntil(used int64, r pacedRow, now int64) (until time.Time, full bool) {
	if _, minute, _ := s.inForce(r, now); used < minute {
		return time.Time{}, false
	}
	for _, e := range s.log { // the oldest first
		if b, n, err := parseLogEntry(e); err == nil && n > 0 {
			if free := (b+1)*bucket.Microseconds() + bucketTTL.Microseconds(); free > now {
				return time.UnixMicro(free), true
			}
		}
	}
	return time.Time{}, false
}
