package ratelimit

import (
	"context"
	"fmt"
	"time"
)

// Learned is what WeChat's quota/get tells of one API of an app. Zero fields tell nothing.
type Learned struct {
	PerDay    int64         // the day's limit
	UsedToday int64         // calls that WeChat has counted today, whoever made them
	Calls     int64         // calls in any span of Per
	Per       time.Duration // what rate_limit.refresh_second says
}

// Feedback tells that WeChat refused a call of the type as too many in a second or a
// minute, although the pace was kept: another system must be using the app. All replicas
// then keep seven tenths of the pace, of that again after the next refusal, and at least
// a tenth of the limit; it climbs back by a twentieth of the limit in ten seconds.
// Refusals within one span of each other count once. It returns the part that is kept,
// 1 for a type that has neither a limit per second nor per minute: then only a [Hold]
// helps.
func (l *Limiter) Feedback(ctx context.Context, app, typ string, span Span) (factor float64, err error) {
	usage, err := l.Usage(ctx, app, typ)
	if err != nil {
		return 1, err
	}
	var exact, other []string
	for _, u := range usage {
		switch u.Window {
		case span:
			exact = append(exact, stateKey(app, u.Name))
		case PerDay, Total: // no pace
		default:
			other = append(other, stateKey(app, u.Name))
		}
	}
	if len(exact) == 0 {
		exact = other
	}
	if len(exact) == 0 {
		return 1, nil
	}
	spell := second
	if span == PerMinute {
		spell = minute
	}
	reply, err := feedbackScript.Run(ctx, l.rdb, exact, l.now(), spell.Microseconds()).Int64()
	if err != nil {
		return 1, fmt.Errorf("slow down %s of %s: %w", typ, app, err)
	}
	return float64(reply) / 1000, l.poolOf(app, typ).revoke(ctx)
}

// Learn keeps for all replicas what WeChat tells of a type's own limits, in place of what
// it told before. The lesser of what is configured or documented and what is learned is
// kept: a limit is never exceeded because WeChat allows more. The replicas keep it from
// their next block on; this one gives back what it leased under a limit that has changed.
func (l *Limiter) Learn(ctx context.Context, app, typ string, told Learned) error {
	var step, perMinute int64
	switch {
	case told.Calls <= 0 || told.Per < time.Microsecond:
		told.Calls, told.Per = 0, 0
	case told.Per == minute:
		perMinute = allowance(int(min(told.Calls, maxPerMinute)), l.margin)
	default:
		// Calls spaced out hold in any span, whatever its length.
		step = max(1, int64(float64(told.Per.Microseconds())/(float64(told.Calls)*(1-l.margin)))+1)
	}
	before, err := learnScript.Run(ctx, l.rdb, []string{stateKey(app, typ)},
		l.now(), midnightSkew.Microseconds(), max(0, told.UsedToday),
		"learned_day", max(0, told.PerDay), "learned_spacing", step, "learned_minute", perMinute,
		"learned_calls", told.Calls, "learned_per", told.Per.Microseconds()).Int64Slice()
	if err == nil && len(before) != 3 {
		err = fmt.Errorf("script reply: %d values where three were expected", len(before))
	}
	if err != nil {
		return fmt.Errorf("learn the limits of %s of %s: %w", typ, app, err)
	}
	was := rowState{learnedSpacing: before[0], learnedMinute: before[1], learnedDay: before[2]}
	is := rowState{learnedSpacing: step, learnedMinute: perMinute, learnedDay: max(0, told.PerDay)}
	if l.sameInForce(app, typ, was, is) {
		return nil
	}
	return l.poolOf(app, typ).revoke(ctx)
}

// sameInForce tells whether two states of a type's own row lead to the same limits.
func (l *Limiter) sameInForce(app, typ string, a, b rowState) bool {
	own := l.planFor(app, typ).rows[0]
	spacingA, minuteA, dayA := a.inForce(own, 0)
	spacingB, minuteB, dayB := b.inForce(own, 0)
	return spacingA == spacingB && minuteA == minuteB && dayA == dayB
}
