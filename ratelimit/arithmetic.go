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

	// horizon is how far into the future an instant is reserved at most, by any replica: the
	// time within which a new replica finds instants that are free, and within which a
	// hold that no message told of stops what was leased before.
	horizon = 500 * time.Millisecond

	// blockDuration is how much time of a lane's pace its replicas hold in blocks, all together:
	// each takes its share of it, and asks once per stretch. With renewal it stays below
	// ahead, so that whoever asks in time is never refused.
	blockDuration = 350 * time.Millisecond

	// maxRefillLead is how long before its last instant a replica asks for its next block: a
	// reply may take that long before an instant is lost.
	maxRefillLead = 100 * time.Millisecond

	// bucket is the resolution of a minute's log: a call counts as if it had been made at
	// its bucket's end, which costs 0.1 s in 60 and never lets more through.
	bucket = 100 * time.Millisecond

	// cell is how finely a lane's instants are spread out, while several lanes want more than
	// the pace has room for: what a cell's time has room for is divided among them.
	cell = 10 * time.Millisecond

	// maxTotalBlock is how many permits of a lifetime's total one block holds at most: those of
	// a replica that dies count as used, and these never come back.
	maxTotalBlock = 16

	// midnightSkew is how far WeChat's clock may be from Redis' at midnight. Within it a call may
	// fall on either day, so both must have room and both count it. It exceeds ahead plus
	// the longest lateness: a permit for today is never used beyond it.
	midnightSkew = 2 * time.Second

	// lifetimeWait is the wait that is told when a lifetime total is spent: it never comes
	// back by itself, only by a higher limit.
	lifetimeWait = day
)

// How late a permit may be used at most; see [Permit.Fresh].
const (
	unpacedLateness = 500 * time.Millisecond // with neither a second's nor a minute's limit
	minuteLateness  = bucket                 // kept free by the minute's log, see keep
	minLateness     = 5 * time.Millisecond   // with a margin of nothing there is no room, but time passes
)

// bucketTTL is how long a bucket of the minute's log counts after its end: the minute, and
// the lateness that its permits are allowed.
const bucketTTL = minute + minuteLateness

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

// inForce is the spacing, the minute's allowance and the day's limit of a row at now (µs):
// the lesser of what is configured and what WeChat said of itself, lowered by refusals.
func (s rowState) inForce(r pacedRow, now int64) (spacing, minute, day int64) {
	spacing = max(r.spacing.Microseconds(), s.learnedSpacing)
	minute, day = lowerLimit(r.minute, s.learnedMinute), lowerLimit(r.day, s.learnedDay)
	f := s.factorAt(now)
	if minute > 0 {
		minute = max(1, minute*f/1000)
	}
	return (spacing*1000 + f - 1) / f, minute, day
}

// lowerLimit is the lesser of two limits, of which 0 means none.
func lowerLimit(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// factorAt is the part of its pace that a row keeps at now (µs), in thousandths: after a
// refusal it climbs by a twentieth of the limit in ten seconds.
func (s rowState) factorAt(now int64) int64 {
	if s.factor == 0 {
		return 1000
	}
	return min(1000, s.factor+50*(max(0, now-s.slowed)/(10*second).Microseconds()))
}

// lateness is how late a permit may be used without bringing a window over its limit,
// by whether there are windows of a second and of a minute.
//
// The instants leave a second's limit with a slack of 1/(1-margin)-1 seconds: that many
// more seconds' worth of instants fit under it. Half of the slack is for the permit, the
// other half for the network.
func lateness(seconds, minutes bool, margin float64) time.Duration {
	late := unpacedLateness
	if minutes {
		late = minuteLateness
	}
	if seconds {
		slack := 1/(1-margin) - 1
		late = min(late, max(minLateness, time.Duration(slack/2*float64(second))))
	}
	return late
}

// dayPeriodStart is the first instant that counts on the same days as one at a time in µs:
// by the edges of midnight, see edge.
func dayPeriodStart(micros int64) int64 {
	into := (micros + utcOffset*1_000_000) % day.Microseconds()
	first := midnightSkew.Microseconds()
	switch last := (day - midnightSkew).Microseconds(); {
	case into < first:
		first = 0
	case into >= last:
		first = last
	}
	return micros - into + first
}

// dateOf is the calendar date in China at a time in µs since 1970, as days since then.
func dateOf(micros int64) int64 {
	return (micros + utcOffset*1_000_000) / day.Microseconds()
}
