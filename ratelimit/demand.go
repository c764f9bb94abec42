package ratelimit

import "time"

// A lane's demand is measured by its use of permits since the last block, and over the last
// second, in intervals of a tenth.
const (
	recent          = time.Second
	recentIntervals = 10
)

// demandEstimator estimates how many permits a second a lane can use, from its use of the
// last blocks. It is pure arithmetic: the pool passes the times. The zero value is ready to
// use.
type demandEstimator struct {
	intervals [recentIntervals]intervalCounts // the last second, a ring
	current   int64                           // the newest interval, counted from start
	start     time.Time                       // when the first permit was used

	granted     int       // permits of the last block
	grantedAt   time.Time // when the last block was granted
	used        int       // permits used since then
	stale       int       // permits that went stale since then
	saturatedAt time.Time // when more than staleTolerance of the permits last went stale

	// The time that callers have waited for an instant since the last block was granted: the
	// sum of spans that do not overlap. The latest one ends at waitedUntil.
	waited       time.Duration
	waitedUntil  time.Time
	waiters      int       // callers that wait now, without a permit
	waitingSince time.Time // when the first of them began to wait; valid while waiters > 0
}

// intervalCounts counts the permits of one interval.
type intervalCounts struct{ used, stale int }

// countUsed counts a permit that was handed out at now for the instant at: its caller waits
// until then.
func (d *demandEstimator) countUsed(now, at time.Time) {
	d.advance(now)
	d.intervals[d.current%recentIntervals].used++
	d.used++
	if d.waiters > 0 { // addWait expects the spans in order
		d.addWait(d.waitingSince, now)
	}
	d.addWait(now, at)
}

// countReturned takes back the count of a permit that was returned unused.
func (d *demandEstimator) countReturned(now time.Time) {
	d.advance(now)
	d.used = max(0, d.used-1)
	for i := range int64(recentIntervals) { // the newest interval that has counted a permit
		if n := &d.intervals[(d.current+recentIntervals-i)%recentIntervals].used; *n > 0 {
			*n--
			return
		}
	}
}

// countStale counts permits that went stale. Those of a block that was not spread out lie too
// close together to show how many the lane could use.
func (d *demandEstimator) countStale(n int, now time.Time, spread bool) {
	d.stale += n
	if spread {
		d.advance(now)
		d.intervals[d.current%recentIntervals].stale += n
	}
}

// addWait adds a span in which a caller waited, without what earlier spans have covered.
func (d *demandEstimator) addWait(from, to time.Time) {
	if from.Before(d.waitedUntil) {
		from = d.waitedUntil
	}
	if to.After(from) {
		d.waited += to.Sub(from)
		d.waitedUntil = to
	}
}

// beginWait records that a caller waits for a permit.
func (d *demandEstimator) beginWait(now time.Time) {
	if d.waiters == 0 {
		d.waitingSince = now
	}
	d.waiters++
}

// endWait records that a caller no longer waits.
func (d *demandEstimator) endWait(now time.Time) {
	if d.waiters--; d.waiters == 0 {
		d.addWait(d.waitingSince, now)
	}
}

// beginBlock starts the measurement of a new block of n permits.
func (d *demandEstimator) beginBlock(n int, now time.Time) {
	d.granted, d.grantedAt, d.used, d.stale, d.waited, d.waitedUntil, d.waitingSince = n, now, 0, 0, 0, now, now
}

// advance moves the ring to now, and clears the intervals that are older than recent.
func (d *demandEstimator) advance(now time.Time) {
	if d.start.IsZero() {
		d.start = now
	}
	newest := int64(now.Sub(d.start) / (recent / recentIntervals))
	for n := 0; d.current < newest && n < recentIntervals; n++ {
		d.current++
		d.intervals[d.current%recentIntervals] = intervalCounts{}
	}
	d.current = max(d.current, newest)
}

// recentCounts returns the counts of the last second.
func (d *demandEstimator) recentCounts(now time.Time) (sum intervalCounts) {
	d.advance(now)
	for _, p := range d.intervals {
		sum.used += p.used
		sum.stale += p.stale
	}
	return sum
}

// useRate returns the permits used per second since the last block was granted, or over the
// last second if none of that block was used yet. It is 0 when none were used.
func (d *demandEstimator) useRate(now time.Time) float64 {
	if d.grantedAt.IsZero() || d.used == 0 {
		return float64(d.recentCounts(now).used) / recent.Seconds()
	}
	return float64(d.used) / max(now.Sub(d.grantedAt), time.Microsecond).Seconds()
}

// A lane is saturated while more than staleTolerance of its permits of the last second went
// stale: its demand is then the rate of use plus staleTolerance. For slowGrowthFor afterwards
// the demand grows slowly, since the use of a larger block shows only when its instants have
// passed.
const (
	staleTolerance = 1.0 / 16 // share of the permits that were used
	slowGrowth     = 1.0 / 4  // share of the rate of use, per block
	slowGrowthFor  = 5 * time.Second
)

// demandRate returns how many permits a second the lane could use if it never had to wait for
// one: the rate of use over the time in which no caller waited. It is at most maxPerSecond,
// which is also the demand of a lane that waited all the time.
func (d *demandEstimator) demandRate(now time.Time) float64 {
	rate := d.useRate(now)
	if sum := d.recentCounts(now); float64(sum.stale) > staleTolerance*float64(sum.used) {
		d.saturatedAt = now
		return rate * (1 + staleTolerance)
	}
	if d.used == 0 {
		return rate
	}
	busy := now.Sub(d.grantedAt) - d.waited + max(0, d.waitedUntil.Sub(now)) // without waits that lie in the future
	if d.waiters > 0 {
		since := d.waitingSince
		if since.Before(d.waitedUntil) {
			since = d.waitedUntil
		}
		busy -= max(0, now.Sub(since))
	}
	most := float64(maxPerSecond)
	if now.Sub(d.saturatedAt) < slowGrowthFor {
		most = rate*(1+slowGrowth) + 2/blockDuration.Seconds() // at least two more per block
	}
	return min(most, float64(d.used)/max(busy, time.Microsecond).Seconds())
}

// nextRequest returns the next request: a block that lasts for blockDuration, at most twice
// the last one, and no larger than the last one when permits of it went stale. Permits that
// are not spread out lie gap apart and go stale together, late after their instants: the
// block is no larger than what the lane can use until then.
//
// The request's demand bounds the lane's share of the pace. It is at most twice the rate of
// use, so that a short wait for permits does not take pace from the other lanes.
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
		n = firstBlock // first request of the lane
	}
	n = max(n, 1)
	most := 2 * max(float64(d.recentCounts(now).used)/recent.Seconds(), n/blockDuration.Seconds())
	return request{n: int(n), demand: int(max(1, n/blockDuration.Seconds(), min(wants, most)))}
}

// usableBeforeStale returns how many permits of one block are used before they go stale, when
// rate permits are used per second and their instants are gap apart.
func usableBeforeStale(rate float64, gap, late time.Duration) float64 {
	if rate*gap.Seconds() >= 1 {
		return maxBlock
	}
	return rate * late.Seconds() / (1 - rate*gap.Seconds())
}

// refillLead returns how long before the end of the stock to request the next block:
// maxRefillLead for a block that lasts for blockDuration or longer, proportionally less for a
// shorter one.
func refillLead(span time.Duration) time.Duration {
	return time.Duration(float64(maxRefillLead) * min(1, span.Seconds()/blockDuration.Seconds()))
}
