package ratelimit

import "sync"

// How far the two clocks may drift apart, and what is not called a leap, in µs.
const (
	driftPerSecond = 500  // NTP slews by 0.05 % at most
	leapTolerance  = 2000 // far below what any margin leaves room for
)

// offset is what a replica knows about Redis' clock: how far it is ahead of the replica's
// own monotonic one, between two bounds, in µs. Each reply narrows them, as it was
// written after the question was sent and before the answer was read; time widens them.
type offset struct {
	lo, hi int64
	read   int64 // when the last reply was read, by the replica's clock
	known  bool
}

// observe takes note of a reply that told now, and tells whether Redis' clock has leapt
// forward since the last one. A clock that went back is simply believed: the scripts see
// that for themselves.
func (o *offset) observe(sent, read, now int64) (leapt bool) {
	lo, hi := now-read, now-sent
	if o.known {
		drift := max(0, read-o.read) * driftPerSecond / 1_000_000
		o.lo, o.hi = o.lo-drift, o.hi+drift
		leapt = lo > o.hi+leapTolerance
		if !leapt && hi >= o.lo-leapTolerance {
			lo, hi = max(lo, o.lo), min(hi, o.hi)
		}
	}
	o.lo, o.hi, o.read, o.known = lo, hi, read, true
	return leapt
}

// witness is what a replica remembers of an app's pace, and Redis might forget.
type witness struct {
	mu    sync.Mutex
	clock offset            // guarded by mu
	leaps int64             // guarded by mu; how often Redis' clock leapt forward
	rows  map[string]memory // guarded by mu; by row
}

// memory is what a replica saw of a row last.
type memory struct {
	epoch, seq int64
	leaps      int64 // of the witness, when the row last withheld a window for one
}

func newWitness() *witness { return &witness{rows: make(map[string]memory)} }

// recall tells what is remembered of some rows, and how many leaps there have been.
func (w *witness) recall(rows []pacedRow) ([]memory, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]memory, len(rows))
	for i, r := range rows {
		all[i] = w.rows[r.name]
	}
	return all, w.leaps
}

// note takes in a reply to a question that was sent after so many leaps. When Redis'
// clock has leapt since, what the reply grants must not be used. The bound tells local
// from Redis' time: a reserved instant less it is never too early.
func (w *witness) note(leaps, sent, read int64, g *grant) (leapt bool, lo int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clock.observe(sent, read, g.now) {
		w.leaps++
	}
	for i, t := range g.terms {
		name := g.plan.rows[i].name
		m, seen := w.rows[name]
		switch {
		case !seen:
			m = memory{epoch: t.epoch, leaps: leaps}
		case m.epoch != t.epoch: // somebody has had a window withheld since we looked last
			m = memory{epoch: t.epoch, leaps: w.leaps}
		}
		m.seq = max(m.seq, t.seq)
		w.rows[name] = m
	}
	return w.leaps != leaps, w.clock.lo
}
