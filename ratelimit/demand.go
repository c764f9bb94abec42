package ratelimit

import "time"

// A lane's demand is measured by what it uses, over recent and more.
const (
	recent      = time.Second
	recentParts = 10
)

// demandEstimator estimates how many permits a second a lane can use, from its use of the
// last blocks. It is pure arithmetic over the times that the pool passes. The zero value has
// seen nothing.
type demandEstimator struct {
	parts [recentParts]recentPart // the recent past
	part  int64                   // the newest of the parts, counted from base
	base  time.Time               // when the first permit was used

	granted   int       // permits of the last block
	since     time.Time // when it was granted
	used      int       // permits that were used since
	stale     int       // permits that went stale since
	saturated time.Time // when the lane last let more than a few permits go stale

	// How long callers have waited for an instant since the last block was granted: the sum
	// of spans that do not overlap, of which the latest ends at to.
	waited  time.Duration
	to      time.Time
	callers int       // that wait now, without a permit
	waiting time.Time // since when, while there are any
}

// recentPart counts the permits of one part of the recent past.
type recentPart struct{ used, stale int }

// countUsed counts a permit that was handed out and whose caller waits until at.
// countReturned takes one back that was not used.
func (d *demandEstimator) countUsed(now, at time.Time) {
	d.advance(now)
	d.parts[d.part%recentParts].used++
	d.used++
	if d.callers > 0 { // spans are added in their order
		d.addWait(d.waiting, now)
	}
	d.addWait(now, at)
}

func (d *demandEstimator) countReturned(now time.Time) {
	d.advance(now)
	d.used = max(0, d.used-1)
	for i := range int64(recentParts) { // it was counted in one of the recent parts
		if n := &d.parts[(d.part+recentParts-i)%recentParts].used; *n > 0 {
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
		d.parts[d.part%recentParts].stale += n
	}
}

// addWait adds a span in which a caller waited.
func (d *demandEstimator) addWait(from, to time.Time) {
	if from.Before(d.to) {
		from = d.to
	}
	if to.After(from) {
		d.waited += to.Sub(from)
		d.to = to
	}
}

// beginWait notes that a caller waits for a permit, endWait that it waits no more.
func (d *demandEstimator) beginWait(now time.Time) {
	if d.callers == 0 {
		d.waiting = now
	}
	d.callers++
}

func (d *demandEstimator) endWait(now time.Time) {
	if d.callers--; d.callers == 0 {
		d.addWait(d.waiting, now)
	}
}

// beginBlock begins the measurement of a new block.
func (d *demandEstimator) beginBlock(n int, now time.Time) {
	d.granted, d.since, d.used, d.stale, d.waited, d.to, d.waiting = n, now, 0, 0, 0, now, now
}

// advance empties the parts that are not recent any more.
func (d *demandEstimator) advance(now time.Time) {
	if d.base.IsZero() {
		d.base = now
	}
	part := int64(now.Sub(d.base) / (recent / recentParts))
	for n := 0; d.part < part && n < recentParts; n++ {
		d.part++
		d.parts[d.part%recentParts] = recentPart{}
	}
	d.part = max(d.part, part)
}

// recentCounts counts the permits of the recent past.
func (d *demandEstimator) recentCounts(now time.Time) (sum recentPart) {
	d.advance(now)
	for _, p := range d.parts {
		sum.used += p.used
		sum.stale += p.stale
	}
	return sum
}

// useRate is how many permits a second were used since the last block was granted, or else in
// the recent past; 0 when there were none.
func (d *demandEstimator) useRate(now time.Time) float64 {
	if d.since.IsZero() || d.used == 0 {
		return float64(d.recentCounts(now).used) / recent.Seconds()
	}
	return float64(d.used) / max(now.Sub(d.since), time.Microsecond).Seconds()
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
		d.saturated = now
		return rate * (1 + staleTolerance)
	}
	if d.used == 0 {
		return rate
	}
	busy := now.Sub(d.since) - d.waited + max(0, d.to.Sub(now)) // what is to come has not been waited
	if d.callers > 0 {
		since := d.waiting
		if since.Before(d.to) {
			since = d.to
		}
		busy -= max(0, now.Sub(since))
	}
	most := float64(maxPerSecond)
	if now.Sub(d.saturated) < slowGrowthFor {
		most = rate*(1+slowGrowth) + 2/stretch.Seconds() // at least two more a block
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
	n := min(float64(size), wants*stretch.Seconds(), mostBlock)
	if !spread {
		n = min(n, usableBeforeStale(wants, gap, late))
	}
	if d.granted == 0 {
		n = firstBlock // nothing is known of the lane
	}
	n = max(n, 1)
	most := 2 * max(float64(d.recentCounts(now).used)/recent.Seconds(), n/stretch.Seconds())
	return request{n: int(n), demand: int(max(1, n/stretch.Seconds(), min(wants, most)))}
}

// usableBeforeStale is how many permits of one block are used before they go stale, at a
// rate, when their instants are gap apart.
func usableBeforeStale(rate float64, gap, late time.Duration) float64 {
	if rate*gap.Seconds() >= 1 {
		return mostBlock
	}
	return rate * late.Seconds() / (1 - rate*gap.Seconds())
}

// renewalLead is how long before a stock ends its lane is to ask for the next block: renewal
// for a block that lasts for a stretch, and in proportion for a shorter one.
func renewalLead(span time.Duration) time.Duration {
	return time.Duration(float64(renewal) * min(1, span.Seconds()/stretch.Seconds()))
}
