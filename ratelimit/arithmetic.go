package ratelimit

import (
	"math"
	"time"
)

// The spans of the windows, and what is kept free around them.
const (
	second = time.Second
	minute = time.Minute
	day    = 24 * time.Hour

	// ahead is how far into the future an instant is reserved. Whoever would have to wait
	// longer is told to ask again, so that a dead replica wastes at most one second.
	ahead = second

	// bucket is the resolution of a minute's log: a call counts as if it had been made at
	// its bucket's end, which costs 0.1 s in 60 and never lets more through.
	bucket = 100 * time.Millisecond

	// edge is how far WeChat's clock may be from Redis' at midnight. Within it a call may
	// fall on either day, so both must have room and both count it. It exceeds ahead plus
	// the longest lateness: a permit for today is never used beyond it.
	edge = 2 * time.Second

	// wholeLife is the wait that is told when a lifetime total is spent: it never comes
	// back by itself, only by a higher limit.
	wholeLife = day
)

// How late a permit may be used at most; see [Permit.Fresh].
const (
	lateAnyway = 500 * time.Millisecond // with neither a second's nor a minute's limit
	lateLogged = bucket                 // kept free by the minute's log, see keep
	lateLeast  = 5 * time.Millisecond   // with a margin of nothing there is no room, but time passes
)

// keep is how long a bucket of the minute's log counts after its end: the minute, and
// the lateness that its permits are allowed.
const keep = minute + lateLogged

// spacing is the distance of two reserved instants, so that no half-open sliding second
// holds more than perSecond*(1-margin) of them. Zero without a limit.
func spacing(perSecond int, margin float64) time.Duration {
	if perSecond == 0 {
		return 0
	}
	micros := math.Ceil(1e6 / (float64(perSecond) * (1 - margin)))
	return time.Duration(micros) * time.Microsecond
}

// allowance is how many calls the minute's log may hold: the limit less the margin, but
// at least one.
func allowance(perMinute int, margin float64) int64 {
	if perMinute == 0 {
		return 0
	}
	return max(1, int64(float64(perMinute)*(1-margin)+1e-9)) // 1e-9: 100*(1-0.05) is 94.99…
}

// lateness is how late a permit may be used without bringing a window over its limit.
//
// The instants leave a second's limit with a slack of 1/(1-margin)-1 seconds: that many
// more seconds' worth of instants fit under it. Half of the slack is for the permit, the
// other half for the network.
func lateness(l Limit, margin float64) time.Duration {
	late := lateAnyway
	if l.PerMinute > 0 {
		late = lateLogged
	}
	if l.PerSecond > 0 {
		slack := 1/(1-margin) - 1
		late = min(late, max(lateLeast, time.Duration(slack/2*float64(second))))
	}
	return late
}

// dateOf is the calendar date in China at a time in µs since 1970, as days since then.
func dateOf(micros int64) int64 {
	return (micros + utcOffset*1_000_000) / day.Microseconds()
}
