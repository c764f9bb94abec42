package ratelimit

import "sync"

// How far the two clocks may drift apart, and what is not called a leap, in µs.
const (
	driftPerSecond = 500  // NTP slews by 0.05 % at most
	jumpTolerance  = 2000 // far below what any margin leaves room for
)

// offset is what a replica knows about Redis' clock: how far it is ahead of the replica's
// own monotonic one, between two bounds, in µs. Each reply narrows them, as it was
// written after the question was sent and before the answer was read; time widens them.
type offset struct {
	lower, upper int64
	read         int64 // when the last reply was read, by the replica's clock
	known        bool
}

// observe takes note of a reply that told now, and tells whether Redis' clock has leapt
// forward since the last one. A clock that went back is simply believed: the scripts see
// that for themselves.
func (o *offset) observe(sent, read, now int64) (leapt bool) {
	lo, hi := now-read, now-sent
	if o.known {
		drift := max(0, read-o.read) * driftPerSecond / 1_000_000
		o.lower, o.upper = o.lower-drift, o.upper+drift
		leapt = lo > o.upper+jumpTolerance
		if !leapt && hi >= o.lower-jumpTolerance {
			lo, hi = max(lo, o.lower), min(hi, o.upper)
		}
	}
	o.lower, o.upper, o.read, o.known = lo, hi, read, true
	return leapt
}

// rowWatcher is what a replica remembers of an app's pace, and Redis might forget.
type rowWatcher struct {
	mu    sync.Mutex
	clock offset                // guarded by mu
	jumps int64                 // guarded by mu; how often Redis' clock leapt forward
	rows  map[string]rowVersion // guarded by mu; by row
}

// rowVersion is what a replica saw of a row last.
type rowVersion struct {
	epoch, seq int64
	jumps      int64 // of the witness, when the row last withheld a window for one
}

func newRowWatcher() *rowWatcher { return &rowWatcher{rows: make(map[string]rowVersion)} }

// versions tells what is remembered of some rows, and how many leaps there have been.
func (w *rowWatcher) versions(rows []pacedRow) ([]rowVersion, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]rowVersion, len(rows))
	for i, r := range rows {
		all[i] = w.rows[r.name]
	}
	return all, w.jumps
}

// observe takes in a reply to a question that was sent after so many leaps. When Redis'
// clock has leapt since, what the reply grants must not be used. The bound tells local
// from Redis' time: a reserved instant less it is never too early.
func (w *rowWatcher) observe(leaps, sent, read int64, g *grant) (leapt bool, lo int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clock.observe(sent, read, g.now) {
		w.jumps++
	}
	for i, t := range g.terms {
		name := g.plan.rows[i].name
		m, seen := w.rows[name]
		switch {
		case !seen:
			m = rowVersion{epoch: t.epoch, jumps: leaps}
		case m.epoch != t.epoch: // somebody has had a window withheld since we looked last
			m = rowVersion{epoch: t.epoch, jumps: w.jumps}
		}
		m.seq = max(m.seq, t.seq)
		w.rows[name] = m
	}
	return w.jumps != leaps, w.clock.lower
}
