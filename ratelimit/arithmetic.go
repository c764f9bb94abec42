package ratelimit

import (
	"math"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// The spans of the windows, and the constants of leases.
const (
	second = time.Second
	minute = time.Minute
	day    = 24 * time.Hour

	// horizon is how far into the future any replica reserves an instant, at most. A new
	// replica finds free instants within it, and a hold whose message was lost stops leased
	// permits within it.
	horizon = 500 * time.Millisecond

	// blockDuration is the time for which a block lasts at a lane's share of the pace: a
	// replica requests one block per blockDuration. Together with maxRefillLead it stays
	// below horizon, so that a refill in time is never refused.
	blockDuration = 350 * time.Millisecond

	// maxRefillLead is how long before its last instant a replica requests the next block, at
	// most. A reply may take that long before an instant is lost.
	maxRefillLead = 100 * time.Millisecond

	// bucket is the resolution of a minute's log. A call counts as if it had been made at the
	// end of its bucket: this costs 0.1 s in 60 and never exceeds the limit.
	bucket = 100 * time.Millisecond

	// cell is the resolution at which instants are spread out, while several lanes want more
	// than the pace allows: the script counts the taken slots per cell.
	cell = 10 * time.Millisecond

	// maxTotalBlock is the largest block of a row with a lifetime limit. The permits of a
	// replica that dies count as used, and a lifetime's never come back.
	maxTotalBlock = 16

	// midnightSkew is the time before and after midnight within which a call may fall on either
	// day by WeChat's clock: both days must have room, and both count it. It exceeds horizon
	// plus the longest lateness, so that a permit counted on one day only is used on that day.
	midnightSkew = calendar.MidnightSkew

	// lifetimeWait is the wait when a lifetime limit is used up. Only a higher limit or a
	// give-back makes room again.
	lifetimeWait = day
)

// The limits of lateness; see [Permit.Fresh].
const (
	unpacedLateness = 500 * time.Millisecond // without a limit per second or minute
	minuteLateness  = bucket                 // allowed for by the minute's log, see bucketTTL
	minLateness     = 5 * time.Millisecond   // at a margin of 0, where the limit leaves no room at all
)

// bucketTTL is how long a bucket of the minute's log counts after its end: a minute, plus the
// lateness that its permits may have.
const bucketTTL = minute + minuteLateness

// spacing returns the distance of two reserved instants, such that no half-open sliding second
// holds more than perSecond*(1-margin) of them. It is zero without a limit.
func spacing(perSecond int, margin float64) time.Duration {
	if perSecond == 0 {
		return 0
	}
	micros := math.Ceil(1e6 / (float64(perSecond) * (1 - margin)))
	return time.Duration(micros) * time.Microsecond
}

// allowance returns how many calls the minute's log may hold: the limit minus the margin, but
// at least one; 0 without a limit.
func allowance(perMinute int, margin float64) int64 {
	if perMinute == 0 {
		return 0
	}
	return max(1, int64(float64(perMinute)*(1-margin)+1e-9)) // 1e-9: 100*(1-0.05) is 94.99…
}

// inForce returns the spacing (µs), the minute's allowance and the day's limit of a row at now
// (µs): the lower of the configured and the learned limit, reduced after refusals.
func (s rowState) inForce(r pacedRow, now int64) (spacing, minute, day int64) {
	spacing = max(r.spacing.Microseconds(), s.learnedSpacing)
	minute, day = lowerLimit(r.minute, s.learnedMinute), lowerLimit(r.day, s.learnedDay)
	f := s.factorAt(now)
	if minute > 0 {
		minute = max(1, minute*f/1000)
	}
	return (spacing*1000 + f - 1) / f, minute, day
}

// lowerLimit returns the lower of two limits. 0 means no limit.
func lowerLimit(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// factorAt returns the share of its pace that a row uses at now (µs), in thousandths. After a
// refusal the factor recovers by a twentieth of the limit every ten seconds.
func (s rowState) factorAt(now int64) int64 {
	if s.factor == 0 {
		return 1000
	}
	return min(1000, s.factor+50*(max(0, now-s.slowed)/(10*second).Microseconds()))
}

// lateness returns how late a permit may be used without exceeding a window's limit. seconds
// and minutes report whether there are limits per second and per minute.
//
// The instants of 1/(1-margin) seconds fit under the limit of one second: the slack is
// 1/(1-margin)-1 seconds. Half of it is for late permits, the other half for the network.
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

// dayPeriodStart returns the first instant, µs, that counts on the same days as the given one.
// A day has three periods: within midnightSkew after its start, within midnightSkew before its
// end, and between them.
func dayPeriodStart(micros int64) int64 {
	timeOfDay := (micros + calendar.UTCOffset.Microseconds()) % day.Microseconds()
	first := midnightSkew.Microseconds()
	switch last := (day - midnightSkew).Microseconds(); {
	case timeOfDay < first:
		first = 0
	case timeOfDay >= last:
		first = last
	}
	return micros - timeOfDay + first
}

// dateOf returns the calendar date in China at a time in µs since 1970, as days since 1970.
func dateOf(micros int64) int64 {
	return (micros + calendar.UTCOffset.Microseconds()) / day.Microseconds()
}
