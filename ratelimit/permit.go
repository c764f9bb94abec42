package ratelimit

import (
	"context"
	"slices"
	"sync/atomic"
	"time"
)

// Permit is the right to make one call at an instant. It is used, or given back with
// [Limiter.Release].
type Permit struct {
	// At is the instant, by this machine's clock. The call is made then or soon after,
	// never before. It is derived from Redis' clock, and carries a monotonic reading:
	// steps of the local clock do not move it.
	At time.Time

	grant         *grant
	pool          *pool // whose stock it came from; nil for one that was asked for alone
	revocations   int64 // of the pool, when it was taken
	urgentOnly    bool  // for urgent tasks
	reused        bool  // it was handed out before, and came back unused
	instant       int64 // At by Redis' clock, µs
	minuteExpired bool  // its minute's count may be gone: not given back
	returned      atomic.Bool
}

// permits are those of a grant.
func (l *Limiter) permits(g *grant) []*Permit {
	all := make([]*Permit, len(g.instants))
	for i, instant := range g.instants {
		at := l.start.Add(time.Duration(instant-g.clockOffset) * time.Microsecond)
		all[i] = &Permit{At: at, grant: g, instant: instant, urgentOnly: i >= g.bulk}
	}
	return all
}

// Fresh tells whether the permit may still be used at now. A permit that is used late
// meets the ones after it, and together they could exceed the limit, so the windows
// leave room for a certain lateness only: half of the margin's slack for types with a
// limit per second (26 ms at the default margin), 100 ms with a limit per minute,
// and 500 ms otherwise. One that was recalled, as a hold was set, is not fresh either.
// Give back a permit that is no longer fresh, and take another.
func (p *Permit) Fresh(now time.Time) bool {
	if p.pool != nil && p.pool.revocations.Load() != p.revocations {
		return false
	}
	return !now.After(p.usableUntil())
}

// usableUntil is until when the permit may be used.
func (p *Permit) usableUntil() time.Time {
	if p.grant == nil {
		return p.At
	}
	return p.At.Add(p.grant.maxLateness)
}

// Bulk tells whether a bulk task may use the permit. The last part of a day's limit is
// kept for urgent ones; see [WithReserve].
func (p *Permit) Bulk() bool { return !p.urgentOnly }

// Wait waits for the permit's instant, and returns ctx's error when ctx ends first. Only
// those of [Limiter.Ahead] come before theirs.
func (p *Permit) Wait(ctx context.Context) error {
	left := time.Until(p.At)
	if left <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// worthGivingBack tells whether anybody else gains from the permit: its instant may still
// come, or something is counted over a longer time.
func (p *Permit) worthGivingBack(now time.Time) bool {
	return p.grant.counted() || p.grant.spaced() && now.Before(p.At)
}

func (p *Permit) sameTerms(o *Permit) bool {
	return p.minuteExpired == o.minuteExpired && slices.EqualFunc(p.grant.terms, o.grant.terms, func(a, b terms) bool {
		a.seq = b.seq
		return a == b
	})
}

// Decision is the answer to one question for a permit. Without a Permit, ask again
// after Wait.
type Decision struct {
	Permit *Permit
	Wait   time.Duration // zero with a permit
	Window Window        // the window that has no room the longest, when neither Permit nor Hold is set
	Hold   *Hold         // the hold that stops the type, or nil
}
