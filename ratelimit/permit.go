package ratelimit

import (
	"sync/atomic"
	"time"
)

// Permit is the right to make one call at an instant. It is used, or given back with
// [Limiter.Release].
type Permit struct {
	// At is the instant, by this machine's clock. The call is made then or soon after,
	// never before. It is derived from Redis' clock when the reply came, and carries a
	// monotonic reading: steps of the local clock do not move it.
	At time.Time

	plan     plan
	instant  int64 // At by Redis' clock, µs
	granted  int64 // when Redis granted it, µs
	returned atomic.Bool
}

// Fresh tells whether the permit may still be used at now. A permit that is used late
// meets the ones after it, and together they could exceed the limit, so the windows
// leave room for a certain lateness only: half of the margin's slack for types with a
// limit per second (26 ms at the default margin), 100 ms with a limit per minute,
// and 500 ms otherwise. Give back a permit that is no longer fresh, and take another.
func (p *Permit) Fresh(now time.Time) bool { return !now.After(p.At.Add(p.plan.late)) }

// Decision is the answer to one question for a permit. Without a Permit, ask again
// after Wait.
type Decision struct {
	Permit *Permit
	Wait   time.Duration // zero with a permit
	Window Window        // the window that has no room the longest, when neither Permit nor Hold is set
	Hold   *Hold         // the hold that stops the type, or nil
}
