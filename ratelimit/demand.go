package ratelimit

import "time"

// A lane's demand is measured by what it uses, over recent and more.
const (
	recent      = time.Second
	recentParts = 10
)

// demand is what a lane can use, as far as its use of the last blocks tells: pure
// arithmetic over the times that its pool tells. The zero value has used nothing.
type demand struct {
	parts [recentParts]usedPart // the recent past
	part  int64                 // the newest of the parts, counted from base
	base  time.Time             // when the first permit was used

	granted int       // permits of the last block
	since   time.Time // when it was granted
	used    int       // permits that were used since
	missed  int       // permits that went stale since
	sated   time.Time // when the lane last let more than a few permits go stale

	// How long callers have waited for an instant since the last block was granted: the sum
	// of spans that do not overlap, of which the latest ends at to.
	starved time.Duration
	to      time.Time
	callers int       // that wait now, without a permit
	waiting time.Time // since when, while there are any
}

// usedPart counts the permits of one part of the recent past.
type usedPart struct{ used, missed int }

// use counts a permit that was handed out, for an instant that its caller may have to wait
// for; unuse one that came back unused.
func (d *demand) use(now, at time.Time) {
	d.advance(now)
	d.parts[d.part%recentParts].used++
	d.used++
	if d.callers > 0 { // spans are added in their order
		d.wait(d.waiting, now)
	}
	d.wait(now, at)
}

func (d *demand) unuse(now time.Time) {
	d.advance(now)
	d.used = max(0, d.used-1)
	for i := range int64(recentParts) { // it was counted lately
		if n := &d.parts[(d.part+recentParts-i)%recentParts].used; *n > 0 {
			*n--
			return
		}
	}
}

// miss counts permits that went stale. Those of a block that was not spread out came too
// close together, which tells nothing of how many the lane could use.
func (d *demand) miss(n int, now time.Time, spread bool) {
	d.missed += n
	if spread {
		d.advance(now)
		d.parts[d.part%recentParts].missed += n
	}
}

// wait adds a span in which a caller waited.
func (d *demand) wait(from, to time.Time) {
	if from.Before(d.to) {
		from = d.to
	}
	if to.After(from) {
		d.starved += to.Sub(from)
		d.to = to
	}
}

// starve tells that a caller waits and there is no permit for it; feed that it waits no more.
func (d *demand) starve(now time.Time) {
	if d.callers == 0 {
		d.waiting = now
	}
	d.callers++
}

func (d *demand) feed(now time.Time) {
	if d.callers--; d.callers == 0 {
		d.wait(d.waiting, now)
	}
}

// grant begins the measurement of a new block.
func (d *demand) grant(n int, now time.Time) {
	d.granted, d.since, d.used, d.missed, d.starved, d.to, d.waiting = n, now, 0, 0, 0, now, now
}

// advance empties the parts that are not recent any more.
func (d *demand) advance(now time.Time) {
	if d.base.IsZero() {
		d.base = now
	}
	part := int64(now.Sub(d.base) / (recent / recentParts))
	for n := 0; d.part < part && n < recentParts; n++ {
		d.part++
		d.parts[d.part%recentParts] = usedPart{}
	}
	d.part = max(d.part, part)
}

// lately counts the permits of the recent past.
func (d *demand) lately(now time.Time) (sum usedPart) {
	d.advance(now)
	for _, p := range d.parts {
		sum.used += p.used
		sum.missed += p.missed
	}
	return sum
}

// rate is how many permits a second were used since the last block was granted, or else in
// the recent past; 0 when there were none.
func (d *demand) rate(now time.Time) float64 {
	if d.since.IsZero() || d.used == 0 {
		return float64(d.lately(now).used) / recent.Seconds()
	}
	return float64(d.used) / max(now.Sub(d.since), time.Microsecond).Seconds()
}

// A lane that lets more than spare of its permits go stale is sated: for as long as that
// is recent its demand is what it uses and spare of it. Then it grows slowly for a while,
// since what a larger block was worth shows only when its instants have passed.
const (
	spare      = 1.0 / 16
	slowGrowth = 1.0 / 4
	slowly     = 5 * time.Second
)

// wants is how many permits a second could be used, were there always one: the time that
// callers waited for one is left out. It is at most maxPerSecond, which is what a lane wants
// that waited all the time.
func (d *demand) wants(now time.Time) float64 {
	rate := d.rate(now)
	if sum := d.lately(now); float64(sum.missed) > spare*float64(sum.used) {
		d.sated = now
		return rate * (1 + spare)
	}
	if d.used == 0 {
		return rate
	}
	busy := now.Sub(d.since) - d.starved + max(0, d.to.Sub(now)) // what is to come has not been waited
	if d.callers > 0 {
		since := d.waiting
		if since.Before(d.to) {
			since = d.to
		}
		busy -= max(0, now.Sub(since))
	}
	most := float64(maxPerSecond)
	if now.Sub(d.sated) < slowly {
		most = rate*(1+slowGrowth) + 2/stretch.Seconds() // at least two more a block
	}
	return min(most, float64(d.used)/max(busy, time.Microsecond).Seconds())
}

// next is what to ask for: a block for the time of a stretch, at most twice the last one,
// and no more than that when permits went stale. Permits that are not spread out go stale together, late after their instants, which are gap apart: of
// them a lane gets what it can use until then.
//
// The demand that is told bounds the lane's share of the pace. A lane that has waited for
// all that it got tells twice of what it used, so that one moment of waiting takes no
// more from the others.
func (d *demand) next(now time.Time, gap, late time.Duration, spread bool) request {
	size := 2 * d.granted
	if d.missed > 0 {
		size = d.granted
	}
	wants := d.wants(now)
	n := min(float64(size), wants*stretch.Seconds(), mostBlock)
	if !spread {
		n = min(n, usable(wants, gap, late))
	}
	if d.granted == 0 {
		n = firstBlock // nothing is known of the lane
	}
	n = max(n, 1)
	most := 2 * max(float64(d.lately(now).used)/recent.Seconds(), n/stretch.Seconds())
	return request{n: int(n), demand: int(max(1, n/stretch.Seconds(), min(wants, most)))}
}

// usable is how many permits of one block are used before they go stale, at a rate, when
// their instants are gap apart.
func usable(rate float64, gap, late time.Duration) float64 {
	if rate*gap.Seconds() >= 1 {
		return mostBlock
	}
	return rate * late.Seconds() / (1 - rate*gap.Seconds())
}

// renewIn is how long before a stock ends its lane is to ask for the next block: renewal
// for a block that lasts for a stretch, and in proportion for a shorter one.
func renewIn(span time.Duration) time.Duration {
	return time.Duration(float64(renewal) * min(1, span.Seconds()/stretch.Seconds()))
}
