package ratelimit

import (
	"context"
	"fmt"
	"strconv"
)

// Usage is how much of one window is used now, by our own count: other systems of the
// same app are not in it. The limit is the documented or configured one, of which the
// margin is kept free.
type Usage struct {
	Name   string `json:"name"` // the row: the type, or a group that it shares
	Window Span   `json:"window"`
	Limit  int64  `json:"limit"`
	Used   int64  `json:"used"` // of a second: the instants that are reserved ahead
}

// rowState is what the scripts keep of a row.
type rowState struct {
	next  int64 // the earliest next instant, µs
	date  int64 // days since 1970 in China
	used  int64 // on that date
	total int64
	log   []string // "bucket:count"
}

// Usage reads how much of the type's windows is used, in the order of [Limiter.Windows].
func (l *Limiter) Usage(ctx context.Context, app, typ string) ([]Usage, error) {
	p := l.planFor(app, typ)
	if len(p.rows) == 0 {
		return nil, nil
	}
	reply, err := usageScript.Run(ctx, l.rdb, p.keys(), l.now()).Slice()
	if err == nil && len(reply) != 1+2*len(p.rows) {
		err = fmt.Errorf("%d values in reply to %d rows", len(reply), len(p.rows))
	}
	if err != nil {
		return nil, fmt.Errorf("usage of %s of %s: %w", typ, app, err)
	}
	now, err := integers(reply[:1])
	if err != nil {
		return nil, fmt.Errorf("usage of %s of %s: %w", typ, app, err)
	}
	var all []Usage
	for i, r := range p.rows {
		s, err := decodeState(reply[1+2*i], reply[2+2*i])
		if err != nil {
			return nil, fmt.Errorf("usage of %s of %s: %w", r.name, app, err)
		}
		for _, w := range r.limit.windows(r.name) {
			used, err := s.usedOf(w.Span, r, now[0])
			if err != nil {
				return nil, fmt.Errorf("usage of %s of %s: %w", r.name, app, err)
			}
			all = append(all, Usage{Name: w.Name, Window: w.Span, Limit: w.Limit, Used: used})
		}
	}
	return all, nil
}

func decodeState(hash, log any) (rowState, error) {
	values, ok1 := hash.([]any)
	entries, ok2 := log.([]any)
	if !ok1 || !ok2 || len(values) != 4 {
		return rowState{}, fmt.Errorf("script reply: %T, %T where a row was expected", hash, log)
	}
	var s rowState
	for i, to := range []*int64{&s.next, &s.date, &s.used, &s.total} {
		text, _ := values[i].(string)
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return rowState{}, fmt.Errorf("row: %w", err)
		}
		*to = n
	}
	for _, e := range entries {
		text, _ := e.(string)
		s.log = append(s.log, text)
	}
	return s, nil
}

// usedOf counts what is used of one window at now, in µs.
func (s rowState) usedOf(span Span, r pacedRow, now int64) (int64, error) {
	switch span {
	case PerSecond:
		step := r.spacing.Microseconds()
		return max(0, (s.next-now)/step), nil
	case PerMinute:
		var sum int64
		for _, e := range s.log {
			b, n, err := logEntry(e)
			if err != nil {
				return 0, err
			}
			if (b+1)*bucket.Microseconds()+keep.Microseconds() > now {
				sum += n
			}
		}
		return sum, nil
	case PerDay:
		if s.date < dateOf(now) {
			return 0, nil
		}
		return s.used, nil
	case Total:
		return s.total, nil
	}
	return 0, fmt.Errorf("no such window: %q", span)
}
