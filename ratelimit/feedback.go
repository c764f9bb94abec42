package ratelimit

import (
	"context"
	"fmt"
	"time"
)

// Learned is the reply of WeChat's quota/get for one API of an app. A zero field means that
// the reply has no such value.
type Learned struct {
	PerDay    int64         // the day's limit
	UsedToday int64         // calls that WeChat has counted today, including those of other systems
	Calls     int64         // calls in any span of Per
	Per       time.Duration // rate_limit.refresh_second

	// Asked is when WeChat was asked, from [Limiter.Now], and Settle how long after a permit was
	// granted WeChat's count has its call for certain: the longest attempt, and the delay of the
	// count. A count lower than ours is believed only if no permit was granted within Settle
	// before Asked. Zero: a lower count is not believed.
	Asked  time.Time
	Settle time.Duration
}

// Feedback slows a type down after WeChat refused a call as too many in a second or a minute
// although the pace was kept: another system must be using the app. All replicas then go on at
// seven tenths of the pace, at seven tenths of that after the next refusal, and never below a
// tenth of the limit. The pace recovers by a twentieth of the limit every ten seconds. Refusals
// within one span count once. Feedback returns the factor in force, which is 1 for a type
// without a limit per second or minute: such a type can only be stopped by a hold.
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
	window := second
	if span == PerMinute {
		window = minute
	}
	reply, err := feedbackScript.Run(ctx, l.rdb, exact, l.now(), window.Microseconds()).Int64()
	if err != nil {
		return 1, fmt.Errorf("slow down %s of %s: %w", typ, app, err)
	}
	return float64(reply) / 1000, l.poolOf(app, typ).revoke(ctx)
}

// Learn stores the limits that WeChat reports for a type, for all replicas, and replaces those
// of an earlier call. The lower of the configured or documented limit and the learned one is in
// force: a configured limit is never exceeded because WeChat allows more. Other replicas apply
// the limits from their next block on; this one gives back what it leased if they have changed.
func (l *Limiter) Learn(ctx context.Context, app, typ string, learned Learned) error {
	var step, perMinute int64
	switch {
	case learned.Calls <= 0 || learned.Per < time.Microsecond:
		learned.Calls, learned.Per = 0, 0
	case learned.Per == minute:
		perMinute = allowance(int(min(learned.Calls, maxPerMinute)), l.margin)
	default:
		// Spacing the calls keeps a limit over any span.
		step = max(1, int64(float64(learned.Per.Microseconds())/(float64(learned.Calls)*(1-l.margin)))+1)
	}
	before, err := l.runLearn(ctx, app, typ, learned, false,
		"learned_day", max(0, learned.PerDay), "learned_spacing", step, "learned_minute", perMinute,
		"learned_calls", learned.Calls, "learned_per", learned.Per.Microseconds())
	if err != nil {
		return fmt.Errorf("learn the limits of %s of %s: %w", typ, app, err)
	}
	was := rowState{learnedSpacing: before[0], learnedMinute: before[1], learnedDay: before[2]}
	is := rowState{learnedSpacing: step, learnedMinute: perMinute, learnedDay: max(0, learned.PerDay)}
	if l.sameInForce(app, typ, was, is) {
		return nil
	}
	return l.poolOf(app, typ).revoke(ctx)
}

// LearnShared stores WeChat's count of today for a group of types that share a limit of the day,
// if it is lower than ours; it uses no other limits of learned. WeChat reports no counts of groups:
// UsedToday must be the sum of the counts of all members, which is too high if WeChat reports the
// group's count for each of them.
func (l *Limiter) LearnShared(ctx context.Context, app, group string, learned Learned) error {
	if _, err := l.runLearn(ctx, app, group, learned, true); err != nil {
		return fmt.Errorf("learn the count of %s of %s: %w", group, app, err)
	}
	return nil
}

// runLearn runs the script. It returns the spacing and the limits a minute and a day that were
// learned before.
func (l *Limiter) runLearn(ctx context.Context, app, row string, learned Learned, lowerOnly bool, fields ...any) ([]int64, error) {
	asked, only := int64(0), 0
	if !learned.Asked.IsZero() {
		asked = learned.Asked.UnixMicro()
	}
	if lowerOnly {
		only = 1
	}
	args := append([]any{
		l.now(), midnightSkew.Microseconds(), max(0, learned.UsedToday), asked, learned.Settle.Microseconds(), only,
	}, fields...)
	before, err := learnScript.Run(ctx, l.rdb, []string{stateKey(app, row)}, args...).Int64Slice()
	if err == nil && len(before) != 3 {
		err = fmt.Errorf("script reply: %d values where three were expected", len(before))
	}
	return before, err
}

// Now returns the time by Redis' clock.
func (l *Limiter) Now(ctx context.Context) (time.Time, error) {
	if now := l.now(); now != 0 {
		return time.UnixMicro(now), nil
	}
	now, err := l.rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time of Redis: %w", err)
	}
	return now, nil
}

// sameInForce reports whether two states of a type's own row lead to the same limits.
func (l *Limiter) sameInForce(app, typ string, a, b rowState) bool {
	own := l.planFor(app, typ).rows[0]
	spacingA, minuteA, dayA := a.inForce(own, 0)
	spacingB, minuteB, dayB := b.inForce(own, 0)
	return spacingA == spacingB && minuteA == minuteB && dayA == dayB
}
