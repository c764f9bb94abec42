package ratelimit

import "sync"

// The drift of the two clocks, and the smallest difference that is a jump, in µs.
const (
	driftPerSecond = 500  // NTP slews by at most 0.05 %
	jumpTolerance  = 2000 // far below the slack of any margin
)

// offset estimates the offset of Redis' clock from the replica's monotonic clock by a lower and
// an upper bound, in µs. Each reply narrows the bounds, since Redis wrote it after the request
// was sent and before the reply was read; drift widens them.
type offset struct {
	lower, upper int64
	read         int64 // when the last reply was read, by the replica's clock, µs
	known        bool
}

// observe updates the bounds from a reply with Redis' time now, and reports whether Redis'
// clock has jumped forward since the last reply. After a step back the new bounds replace the
// old ones: the scripts detect it by themselves.
func (o *offset) observe(sent, read, now int64) (jumped bool) {
	lower, upper := now-read, now-sent
	if o.known {
		drift := max(0, read-o.read) * driftPerSecond / 1_000_000
		o.lower, o.upper = o.lower-drift, o.upper+drift
		jumped = lower > o.upper+jumpTolerance
		if !jumped && upper >= o.lower-jumpTolerance {
			lower, upper = max(lower, o.lower), min(upper, o.upper)
		}
	}
	o.lower, o.upper, o.read, o.known = lower, upper, read, true
	return jumped
}

// rowWatcher remembers the versions of an app's rows and the offset of Redis' clock, so that
// the replica detects data that Redis has lost.
type rowWatcher struct {
	mu    sync.Mutex
	clock offset                // guarded by mu
	jumps int64                 // guarded by mu; number of forward jumps of Redis' clock
	rows  map[string]rowVersion // guarded by mu; by row
}

// rowVersion is the last version of a row that the replica has seen.
type rowVersion struct {
	epoch, seq int64
	jumps      int64 // rowWatcher.jumps when the row last withheld a window for a jump
}

func newRowWatcher() *rowWatcher { return &rowWatcher{rows: make(map[string]rowVersion)} }

// versions returns the remembered versions of rows, and the number of jumps so far.
func (w *rowWatcher) versions(rows []pacedRow) ([]rowVersion, int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]rowVersion, len(rows))
	for i, r := range rows {
		all[i] = w.rows[r.name]
	}
	return all, w.jumps
}

// observe records a reply to a request that was sent after the given number of jumps. jumped
// reports that Redis' clock has jumped since: the permits of the reply must not be used. A
// reserved instant minus lower is never too early by the replica's clock.
func (w *rowWatcher) observe(jumps, sent, read int64, g *grant) (jumped bool, lower int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clock.observe(sent, read, g.now) {
		w.jumps++
	}
	for i, t := range g.terms {
		name := g.plan.rows[i].name
		v, seen := w.rows[name]
		switch {
		case !seen:
			v = rowVersion{epoch: t.epoch, jumps: jumps}
		case v.epoch != t.epoch: // another replica has caused a withheld window since
			v = rowVersion{epoch: t.epoch, jumps: w.jumps}
		}
		v.seq = max(v.seq, t.seq)
		w.rows[name] = v
	}
	return w.jumps != jumps, w.clock.lower
}
