package ratelimit

import "time"

// A lane's demand is measured by what it uses, over recent and more.
const (
	recent          = time.Second
	recentIntervals = 10
)

// demandEstimator estimates how many permits a second a lane can use, from its use of the
// last blocks. It is pure arithmetic over the times that the pool passes. The zero value has
// seen nothing.
type demandEstimator struct {
	intervals [recentIntervals]intervalCounts // the recent past
	current   int64                           // the newest of the parts, counted from base
	start     time.Time                       // when the first permit was used

	granted     int       // permits of the last block
	grantedAt   time.Time // when it was granted
	used        int       // permits that were used since
	stale       int       // permits that went stale since
	saturatedAt time.Time // when the lane last let more than a few permits go stale

	// How long callers have waited for an instant since the last block was granted: the sum
	// of spans that do not overlap, of which the latest ends at to.
	waited       time.Duration
	waitedUntil  time.Time
	waiters      int       // that wait now, without a permit
	waitingSince time.Time // since when, while there are any
}

// intervalCounts counts the permits of one part of the recent past.
type intervalCounts struct{ used, stale int }

// countUsed counts a permit that was handed out and whose caller waits until at.
// countReturned takes one back that was not used.
func (d *demandEstimator) countUsed(now, at time.Time) {
	d.advance(now)
	d.intervals[d.current%recentIntervals].used++
	d.used++
	if d.waiters > 0 { // spans are added in their order
		d.addWait(d.waitingSince, now)
	}
	d.addWait(now, at)
}

func (d *demandEstimator) countReturned(now time.Time) {
	d.advance(now)
	d.used = max(0, d.used-1)
	for i := range int64(recentIntervals) { // it was counted in one of the recent parts
		if n := &d.intervals[(d.current+recentIntervals-i)%recentIntervals].used; *n > 0 {
			*n--
			return
		}
	}
}

// countStale counts permits that went stale. Those of a block that was not spread out came too
// close together, which tells nothing of how many the lane could use.
func (d *demandEstimator) countStale(n int, now time.Time, spread bool) {
	d.stale += n
	if spread {
		d.advance(now)
		d.intervals[d.current%recentIntervals].stale += n
	}
}

// addWait adds a span in which a caller waited.
func (d *demandEstimator) addWait(from, to time.Time) {
	if from.Before(d.waitedUntil) {
		from = d.waitedUntil
	}
	if to.After(from) {
		d.waited += to.Sub(from)
		d.waitedUntil = to
	}
}

// beginWait notes that a caller waits for a permit, endWait that it waits no more.
func (d *demandEstimator) beginWait(now time.Time) {
	if d.waiters == 0 {
		d.waitingSince = now
	}
	d.waiters++
}

func (d *demandEstimator) endWait(now time.Time) {
	if d.waiters--; d.waiters == 0 {
		d.addWait(d.waitingSince, now)
	}
}

// beginBlock begins the measurement of a new block.
func (d *demandEstimator) beginBlock(n int, now time.Time) {
	d.granted, d.grantedAt, d.used, d.stale, d.waited, d.waitedUntil, d.waitingSince = n, now, 0, 0, 0, now, now
}

// advance empties the parts that are not recent any more.
func (d *demandEstimator) advance(now time.Time) {
	if d.start.IsZero() {
		d.start = now
	}
	part := int64(now.Sub(d.start) / (recent / recentIntervals))
	for n := 0; d.current < part && n < recentIntervals; n++ {
		d.current++
		d.intervals[d.current%recentIntervals] = intervalCounts{}
	}
	d.current = max(d.current, part)
}

// recentCounts counts the permits of the recent past.
func (d *demandEstimator) recentCounts(now time.Time) (sum intervalCounts) {
	d.advance(now)
	for _, p := range d.intervals {
		sum.used += p.used
		sum.stale += p.stale
	}
	return sum
}

// useRate is how many permits a second were used since the last block was granted, or else in
// the recent past; 0 when there were none.
func (d *demandEstimator) useRate(now time.Time) float64 {
	if d.grantedAt.IsZero() || d.used == 0 {
		return float64(d.recentCounts(now).used) / recent.Seconds()
	}
	return float64(d.used) / max(now.Sub(d.grantedAt), time.Microsecond).Seconds()
}

// A lane that lets more than a part of its permits go stale is saturated: as long as that is
// recent, its demand is what it uses and as large a part more. For a while afterwards the
// demand grows slowly, since the use of a larger block shows only when its instants have
// passed.
const (
	staleTolerance = 1.0 / 16 // of the permits that were used
	slowGrowth     = 1.0 / 4  // of the rate of use, with each block
	slowGrowthFor  = 5 * time.Second
)

// demandRate is how many permits a second could be used, were there always one: the time that
// callers waited for one is left out. It is at most maxPerSecond: that of a lane that waited
// all the time.
func (d *demandEstimator) demandRate(now time.Time) float64 {
	rate := d.useRate(now)
	if sum := d.recentCounts(now); float64(sum.stale) > staleTolerance*float64(sum.used) {
		d.saturatedAt = now
		return rate * (1 + staleTolerance)
	}
	if d.used == 0 {
		return rate
	}
	busy := now.Sub(d.grantedAt) - d.waited + max(0, d.waitedUntil.Sub(now)) // what is to come has not been waited
	if d.waiters > 0 {
		since := d.waitingSince
		if since.Before(d.waitedUntil) {
			since = d.waitedUntil
		}
		busy -= max(0, now.Sub(since))
	}
	most := float64(maxPerSecond)
	if now.Sub(d.saturatedAt) < slowGrowthFor {
		most = rate*(1+slowGrowth) + 2/blockDuration.Seconds() // at least two more a block
	}
	return min(most, float64(d.used)/max(busy, time.Microsecond).Seconds())
}

// nextRequest returns what to ask for: a block for the time of a stretch, at most twice the
// last one, and no larger than the last one when permits went stale. Permits that are not
// spread out go stale together, late after their instants, which are gap apart: of them a
// lane asks for what it can use until then.
//
// The demand in it bounds the lane's share of the pace. It is at most twice the rate of use,
// so that a short wait for permits takes no more from the other lanes.
func (d *demandEstimator) nextRequest(now time.Time, gap, late time.Duration, spread bool) request {
	size := 2 * d.granted
	if d.stale > 0 {
		size = d.granted
	}
	wants := d.demandRate(now)
	n := min(float64(size), wants*blockDuration.Seconds(), maxBlock)
	if !spread {
		n = min(n, usableBeforeStale(wants, gap, late))
	}
	if d.granted == 0 {
		n = firstBlock // nothing is known of the lane
	}
	n = max(n, 1)
	most := 2 * max(float64(d.recentCounts(now).used)/recent.Seconds(), n/blockDuration.Seconds())
	return request{n: int(n), demand: int(max(1, n/blockDuration.Seconds(), min(wants, most)))}
}

// usableBeforeStale is how many permits of one block are used before they go stale, at a
// rate, when their instants are gap apart.
func usableBeforeStale(rate float64, gap, late time.Duration) float64 {
	if rate*gap.Seconds() >= 1 {
		return maxBlock
	}
	return rate * late.Seconds() / (1 - rate*gap.Seconds())
}

// refillLead is how long before a stock ends its lane is to ask for the next block: renewal
// for a block that lasts for a stretch, and in proportion for a shorter one.
func refillLead(span time.Duration) time.Duration {
	return time.Duration(float64(maxRefillLead) * min(1, span.Seconds()/blockDuration.Seconds()))
}
