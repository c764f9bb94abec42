package ratelimit

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// askAgain is how long [Limiter.Acquire] waits at most before it looks again: a hold may
// have been lifted, or a limit changed, and the message about it been lost.
const askAgain = 5 * time.Second

// giveBackWithin bounds the age of a permit whose minute's count is given back: an older
// one may have left the minute's log already.
const giveBackWithin = 30 * time.Second

// releaseTimeout bounds giving back the permit of an Acquire whose context has ended.
const releaseTimeout = time.Second

// Limiter hands out permits for the calls of any number of apps. All limiters that
// share a Redis keep the limits together. It is safe for concurrent use.
type Limiter struct {
	rdb       redis.UniversalClient
	margin    float64
	overrides func(app string) map[string]Limit
	rows      []Row

	// now replaces Redis' clock, in microseconds. Zero outside of tests.
	now func() int64
}

// NewLimiter returns a limiter on rdb. limits tells an app's overrides of [Defaults], by
// type or group; it is asked at every call, so that they may change, and may be nil. The
// configuration and the overrides are expected to be valid.
func NewLimiter(rdb redis.UniversalClient, cfg Config, limits func(app string) map[string]Limit) *Limiter {
	return &Limiter{
		rdb: rdb, margin: cfg.Margin, overrides: limits, rows: Defaults(),
		now: func() int64 { return 0 },
	}
}

// Try asks once for a permit, in one round trip: over the holds and all windows of the
// type, or none. An error means that Redis did not answer properly, and nothing else.
func (l *Limiter) Try(ctx context.Context, app, typ string) (Decision, error) {
	g, err := l.take(ctx, l.planFor(app, typ), 1)
	if err != nil {
		return Decision{}, fmt.Errorf("permit for %s of %s: %w", typ, app, err)
	}
	if len(g.instants) == 0 {
		return Decision{Wait: g.wait, Window: g.window, Hold: g.hold}, nil
	}
	instant := g.instants[0]
	return Decision{Permit: &Permit{
		// Counted from after the reply: on its way the instant came nearer, so this is late
		// by less than a round trip, and never early.
		At:   time.Now().Add(time.Duration(instant-g.now) * time.Microsecond),
		plan: g.plan, instant: instant, granted: g.now,
	}}, nil
}

// Acquire waits for a permit, and then for its instant. While there is none it asks
// again when the wait is over, at least every five seconds, and at once when wake fires
// (wake may be nil). It returns ctx's error when ctx ends, having given back a permit it
// had already, and Redis' error at once: the caller decides when to try again.
func (l *Limiter) Acquire(ctx context.Context, app, typ string, wake <-chan struct{}) (*Permit, error) {
	for {
		d, err := l.Try(ctx, app, typ)
		if ended := ctx.Err(); ended != nil {
			return nil, l.abandon(ctx, d.Permit)
		}
		if err != nil {
			return nil, err
		}
		if p := d.Permit; p != nil {
			if pause(ctx, time.Until(p.At), nil) != nil {
				return nil, l.abandon(ctx, p)
			}
			return p, nil
		}
		if err := pause(ctx, min(d.Wait, askAgain), wake); err != nil {
			return nil, err
		}
	}
}

// abandon gives back the permit of a caller whose context has ended, and returns that
// context's error. Should Redis not take the permit back, its counts stay used.
func (l *Limiter) abandon(ctx context.Context, p *Permit) error {
	if p != nil {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = l.Release(detached, p)
	}
	return ctx.Err()
}

// pause waits for a time, for ctx or for wake, and returns ctx's error when ctx ended.
// A closed wake counts as none, not as one that fires for ever.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return nil
		case _, open := <-wake:
			if open {
				return nil
			}
			wake = nil
		}
	}
}

// Release gives back a permit that was not used: its counts of the minute, the day and
// the lifetime, and its instant when no later one has been reserved. Only the first
// Release of a permit does anything. It is sent at most once: when it fails, the counts
// stay used, since giving them back twice could let a call too many through.
func (l *Limiter) Release(ctx context.Context, p *Permit) error {
	if p.returned.Swap(true) || len(p.plan.rows) == 0 {
		return nil
	}
	if err := l.giveBack(ctx, p, time.Since(p.At) < giveBackWithin); err != nil {
		return fmt.Errorf("give back a permit for %s of %s: %w", p.plan.typ, p.plan.app, err)
	}
	return nil
}
