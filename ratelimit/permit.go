package ratelimit

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
)

// Permit is the right to make one call at an instant. Use it, or give it back with
// [Limiter.Release].
type Permit struct {
	// At is the instant, by this machine's clock. Make the call then or soon after, never
	// before. At is derived from Redis' clock and carries a monotonic clock reading: steps
	// of the local clock do not move it.
	At time.Time

	grant         *grant
	pool          *pool // whose stock it came from; nil for a permit of Try
	revocations   int64 // of the pool, when the permit was leased
	urgentOnly    bool  // reserved for urgent tasks
	reused        bool  // handed out before, and released unused
	instant       int64 // At by Redis' clock, µs
	minuteExpired bool  // the minute's log may have dropped its count already: not given back
	returned      atomic.Bool
}

// permits returns the permits of a grant.
func (l *Limiter) permits(g *grant) []*Permit {
	all := make([]*Permit, len(g.instants))
	for i, instant := range g.instants {
		at := l.start.Add(time.Duration(instant-g.clockOffset) * time.Microsecond)
		all[i] = &Permit{At: at, grant: g, instant: instant, urgentOnly: i >= g.bulk}
	}
	return all
}

// Fresh reports whether the permit may still be used at now. A call that is made late comes
// closer to the calls after it, and together they could exceed the limit. So the windows
// leave room for a certain lateness only: half of the margin's slack for types with a limit
// per second (26 ms at the default margin), 100 ms with a limit per minute, and 500 ms
// otherwise. A permit that was revoked is not fresh either. Release a permit
// that is no longer fresh, and acquire another.
func (p *Permit) Fresh(now time.Time) bool {
	if p.Revoked() {
		return false
	}
	return !now.After(p.usableUntil())
}

// Revoked reports whether the permit was revoked because of a hold or changed limits.
func (p *Permit) Revoked() bool { return p.pool != nil && p.pool.revocations.Load() != p.revocations }

// usableUntil returns the time until which the permit may be used.
func (p *Permit) usableUntil() time.Time {
	if p.grant == nil {
		return p.At
	}
	return p.At.Add(p.grant.maxLateness)
}

// Bulk reports whether a bulk task may use the permit. The last part of a day's limit can be
// reserved for urgent tasks; see [WithReserve].
func (p *Permit) Bulk() bool { return !p.urgentOnly }

// Wait waits for the permit's instant, and returns ctx's error when ctx ends first. Only
// permits of [Limiter.AcquireEarly] and [Limiter.TryAcquire] are returned before their instant.
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

// worthGivingBack reports whether other callers can use what the permit takes up: its instant
// is still to come, or it is counted in a window longer than a second.
func (p *Permit) worthGivingBack(now time.Time) bool {
	return p.grant.counted() || p.grant.spaced() && now.Before(p.At)
}

// sameTerms reports whether two permits can be given back in one command: their rows have the
// same epochs and limits.
func (p *Permit) sameTerms(o *Permit) bool {
	return p.minuteExpired == o.minuteExpired && slices.EqualFunc(p.grant.terms, o.grant.terms, func(a, b terms) bool {
		a.seq = b.seq
		return a == b
	})
}

// Decision is the result of [Limiter.Try]. Without a Permit, try again after Wait.
type Decision struct {
	Permit *Permit
	Wait   time.Duration // zero with a permit
	Window Window        // the full window with the longest wait, when neither Permit nor Hold is set
	Hold   *hold.Hold    // the hold that stops the type; nil if none does
}
