package ratelimit

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// The number of permits that a pool requests at once: firstBlock at first, since most lanes
// have few tasks, then by demand (see [demandEstimator.nextRequest]), and at most maxBlock.
// The script grants no more than the lane's share.
const (
	firstBlock = 4
	maxBlock   = 512
)

// minEarlyRefill is the smallest block whose successor is requested before it is used up. Most
// lanes with a smaller block need no further permits; the others wait for one round trip.
const minEarlyRefill = 4

// pool holds the leased permits of one (app, type) on this replica until their instants. It
// requests the next block from Redis before the stock is used up, gives back permits that
// went stale, and leases nothing while there are no callers.
type pool struct {
	limiter     *Limiter
	app         string
	typ         string
	revocations atomic.Int64 // incremented by revoke: permits handed out before that are no longer fresh

	mu             sync.Mutex
	stock          []*Permit       // guarded by mu, as are all fields below; sorted by instant
	refill         *refill         // in progress; nil if none is
	refillAfter    time.Time       // no refill before this time, from the last reply
	demand         demandEstimator // estimates how many permits a second the lane can use
	gap            time.Duration   // minimum distance of two instants; 0 without a limit per second
	maxLateness    time.Duration   // of the permits of the last block
	lastBlockSpan  time.Duration   // from the first to the last instant of the last block
	spread         bool            // the instants of the last block are spread out
	useRate        float64         // permits used per second, at the last refill
	catchUpLimiter *rate.Limiter   // limits the rate of late permits; nil without a gap
	waiters        int             // callers in acquire
	idle           bool            // no caller wants permits: a block that arrives is given back
	changed        chan struct{}   // closed and replaced when permits come back or the stock is drained
	stale          []*Permit       // not used in time; given back by the next sweep, for their counts
	sweeper        *time.Timer     // runs sweep; nil when no sweep is scheduled
}

// refill is a request for a block that is in progress.
type refill struct {
	done chan struct{} // closed when the request has ended
	err  error         // set before done is closed
}

func newPool(l *Limiter, app, typ string) *pool {
	return &pool{limiter: l, app: app, typ: typ, changed: make(chan struct{}), idle: true}
}

// acquire waits for a permit, and returns it at most early before its instant. A value on
// wake ends the delay that the last reply demanded: Redis is queried again at once.
func (q *pool) acquire(ctx context.Context, wake <-chan struct{}, early time.Duration) (*Permit, error) {
	q.addWaiter()
	waited := false
	defer func() { q.removeWaiter(ctx, waited) }()
	for {
		p, condition := q.takeDue(ctx, early)
		if p != nil {
			return p, nil
		}
		if !waited {
			waited = true
			q.beginWait()
		}
		woken, open, err := condition.wait(ctx, wake)
		if err != nil {
			return nil, err
		}
		if woken {
			q.clearRefillDelay()
		}
		if !open {
			wake = nil // a closed channel would fire for ever
		}
	}
}

// tryAcquire takes up to n permits that are due within early, without waiting.
func (q *pool) tryAcquire(ctx context.Context, n int, early time.Duration) []*Permit {
	var got []*Permit
	for len(got) < n {
		p, _ := q.takeDue(ctx, early)
		if p == nil {
			break
		}
		got = append(got, p)
	}
	return got
}

// waitCondition lists the events that end a caller's wait; the first one does.
type waitCondition struct {
	until   time.Time       // zero: no deadline
	changed <-chan struct{} // the stock changed
	refill  *refill         // the refill in progress; nil if none is
	closed  bool            // the limiter is closed: wait returns ErrClosed at once
}

// wait blocks until one of the conditions is met. woken reports that wake fired; open is
// false when wake was closed.
func (c waitCondition) wait(ctx context.Context, wake <-chan struct{}) (woken, open bool, err error) {
	if c.closed {
		return false, true, ErrClosed
	}
	var timer <-chan time.Time
	if !c.until.IsZero() {
		t := time.NewTimer(time.Until(c.until))
		defer t.Stop()
		timer = t.C
	}
	var done <-chan struct{}
	if c.refill != nil {
		done = c.refill.done
	}
	select {
	case <-ctx.Done():
		return false, true, ctx.Err()
	case <-timer:
	case <-c.changed:
	case <-done:
		return false, true, c.refill.err
	case _, open = <-wake:
		return open, open, nil
	}
	return false, true, nil
}

func (q *pool) addWaiter() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiters++
	q.idle = false
}

// beginWait records that a caller has to wait for its permit.
func (q *pool) beginWait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.demand.beginWait(time.Now())
}

// removeWaiter ends a caller's wait. When the last caller leaves because its context ended,
// the stock is given back.
func (q *pool) removeWaiter(ctx context.Context, waited bool) {
	q.mu.Lock()
	q.waiters--
	if waited {
		q.demand.endWait(time.Now())
	}
	last := q.waiters == 0
	q.mu.Unlock()
	if last && ctx.Err() != nil {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = q.returnUnused(detached) // after an error the permits stay counted
	}
}

// clearRefillDelay drops the delay that the last reply demanded.
func (q *pool) clearRefillDelay() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refillAfter = time.Time{}
}

// takeDue takes the first permit out of the stock if it is due within early, or returns what
// to wait for. It starts a refill where one is needed.
func (q *pool) takeDue(ctx context.Context, early time.Duration) (*Permit, waitCondition) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if ctx.Err() != nil {
		return nil, waitCondition{} // wait returns the context's error
	}
	q.dropStale(now)
	if len(q.stock) == 0 {
		switch {
		case q.refill != nil:
		case now.Before(q.refillAfter):
			return nil, waitCondition{until: q.refillAfter, changed: q.changed}
		default:
			q.startRefill(ctx)
		}
		return nil, waitCondition{refill: q.refill, changed: q.changed, closed: q.refill == nil}
	}
	refillAt := q.refillAt(now)
	if q.refill == nil && !now.Before(refillAt) {
		q.startRefill(ctx)
	}
	p := q.stock[0]
	due := p.At.Add(-early)
	if now.Before(due) {
		until := due
		if q.refill == nil && refillAt.Before(due) {
			until = refillAt
		}
		return nil, waitCondition{until: until, changed: q.changed}
	}
	if q.catchUpLimiter != nil && !p.reused && !q.catchUpLimiter.AllowN(now, 1) {
		return nil, waitCondition{until: now.Add(q.gap / catchUpFactor), changed: q.changed}
	}
	q.stock = q.stock[1:]
	q.demand.countUsed(now, p.At)
	return p, waitCondition{}
}

// Late permits are handed out catchUpFactor times faster than their gap. Those within one
// catchUpBurst may be handed out together, since timers are no finer.
const (
	catchUpFactor = 2
	catchUpBurst  = 5 * time.Millisecond
)

// refillAt returns when to request the next block: shortly before the stock is used up, by its
// instants and by the rate of use. The stock must not be empty. A small block has no early
// refill: most of the time no further permits are needed.
func (q *pool) refillAt(now time.Time) time.Time {
	if q.useRate == 0 || !q.spread && q.demand.granted < minEarlyRefill {
		return now.Add(time.Hour)
	}
	last, end := q.stock[len(q.stock)-1].At, now.Add(durationOf(len(q.stock), q.useRate))
	if q.spread || last.After(end) {
		end = last
	}
	at := end.Add(-refillLead(max(q.lastBlockSpan, durationOf(q.demand.granted, q.useRate))))
	if possible := last.Add(q.gap - horizon); possible.After(at) {
		at = possible // until then no free instant lies within the horizon
	}
	if q.refillAfter.After(at) {
		return q.refillAfter
	}
	return at
}

// durationOf returns how long n permits last at a rate per second.
func durationOf(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// dropStale moves the permits that were not used in time out of the stock.
func (q *pool) dropStale(now time.Time) {
	n := 0
	for n < len(q.stock) && !q.stock[n].Fresh(now) {
		n++
	}
	if n == 0 {
		return
	}
	q.stale = append(q.stale, q.stock[:n]...)
	q.stock = q.stock[n:]
	q.demand.countStale(n, now, q.spread)
}

// startRefill requests the next block in the background, unless the limiter is closed.
func (q *pool) startRefill(ctx context.Context) {
	r := &refill{done: make(chan struct{})}
	now := time.Now()
	wanted := q.demand.nextRequest(now, q.gap, q.maxLateness, q.spread)
	if rate := q.demand.useRate(now); rate > 0 {
		q.useRate = rate
	}
	if n := len(q.stock); n > 0 {
		wanted.lastInstant = q.stock[n-1].instant
	}
	if q.limiter.background(ctx, func(ctx context.Context) {
		defer close(r.done)
		g, err := q.limiter.takeBlock(ctx, q.limiter.planFor(q.app, q.typ), wanted)
		r.err = q.limiter.wrapError(err, q.app, q.typ)
		q.finishRefill(ctx, g)
	}) {
		q.refill = r
	}
}

// finishRefill adds the granted block to the stock. g is nil when the request failed.
func (q *pool) finishRefill(ctx context.Context, g *grant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refill = nil
	if g == nil {
		return
	}
	if len(g.instants) == 0 {
		q.refillAfter = time.Now().Add(min(g.wait, recheckInterval))
		return
	}
	block := q.limiter.permits(g)
	if q.idle || q.limiter.isClosed() {
		q.limiter.giveBackLater(ctx, block)
		return
	}
	revocations := q.revocations.Load()
	for _, p := range block {
		p.pool, p.revocations = q, revocations
	}
	q.stock = append(q.stock, block...)
	slices.SortStableFunc(q.stock, byInstant) // a block may fill gaps of the previous one
	q.demand.beginBlock(len(block), time.Now())
	q.maxLateness, q.spread = g.maxLateness, g.spread > 0
	q.lastBlockSpan = block[len(block)-1].At.Sub(block[0].At)
	q.setGap(g)
	q.scheduleSweep(sweepDelay)
}

// setGap sets the minimum distance of two instants, the largest spacing of the grant's rows.
func (q *pool) setGap(g *grant) {
	var micros int64
	for _, t := range g.terms {
		micros = max(micros, t.spacing)
	}
	gap := time.Duration(micros) * time.Microsecond
	switch gap {
	case q.gap:
	case 0:
		q.gap, q.catchUpLimiter = 0, nil
	default:
		q.gap, q.catchUpLimiter = gap, rate.NewLimiter(rate.Every(gap/catchUpFactor), 2+int(catchUpBurst/gap))
	}
}

// sweepDelay is the time for which stale permits are collected before they are given back in
// one command.
const sweepDelay = time.Second

// scheduleSweep starts a timer that sweeps the stock after d, unless one is running.
func (q *pool) scheduleSweep(d time.Duration) {
	if q.sweeper != nil {
		return
	}
	q.sweeper = time.AfterFunc(d, q.sweep)
}

// sweep gives back the stale permits.
func (q *pool) sweep() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweeper = nil
	q.dropStale(time.Now())
	stale := q.stale
	q.stale = nil
	if len(q.stock) > 0 {
		q.scheduleSweep(sweepDelay)
	}
	if len(stale) == 0 {
		return
	}
	q.limiter.background(context.Background(), func(ctx context.Context) {
		_ = q.limiter.giveBackWorthwhile(ctx, stale, false) // after an error the permits stay counted
	})
}

// release takes back a permit that was handed out: into the stock while it is fresh, else into
// the stale permits. It returns false, and takes nothing, when the pool is idle, when the
// permit is older than sweepDelay or when it was revoked.
func (q *pool) release(p *Permit, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idle || now.Sub(p.At) > sweepDelay || p.revocations != q.revocations.Load() {
		return false
	}
	q.demand.countReturned(now)
	reused := &Permit{At: p.At, grant: p.grant, pool: q, revocations: p.revocations, urgentOnly: p.urgentOnly, instant: p.instant, reused: true}
	q.scheduleSweep(sweepDelay)
	if !p.Fresh(now) {
		q.stale = append(q.stale, reused)
		return true
	}
	i, _ := slices.BinarySearchFunc(q.stock, reused, byInstant)
	q.stock = slices.Insert(q.stock, i, reused)
	q.signal()
	return true
}

func byInstant(a, b *Permit) int { return cmp.Compare(a.instant, b.instant) }

// signal wakes all waiting callers. The caller holds mu.
func (q *pool) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// drain removes and returns all permits, and clears the refill delay. The caller holds mu.
func (q *pool) drain() []*Permit {
	all := append(q.stale, q.stock...)
	q.stock, q.stale, q.refillAfter = nil, nil, time.Time{}
	if q.sweeper != nil {
		q.sweeper.Stop()
		q.sweeper = nil
	}
	q.signal()
	return all
}

// returnUnused gives back the stock and makes the pool idle. It does nothing while a caller
// waits for a permit.
func (q *pool) returnUnused(ctx context.Context) error {
	q.mu.Lock()
	if q.waiters > 0 {
		q.mu.Unlock()
		return nil
	}
	q.idle = true
	stock := q.drain()
	q.mu.Unlock()
	return q.limiter.giveBackWorthwhile(ctx, stock, true)
}

// revoke gives back the stock. Permits that were handed out and not used are no longer fresh.
func (q *pool) revoke(ctx context.Context) error {
	q.mu.Lock()
	q.revocations.Add(1)
	stock := q.drain()
	q.mu.Unlock()
	return q.limiter.giveBackWorthwhile(ctx, stock, false)
}

// unusedCount returns the number of leased permits that are not handed out. Redis counts them
// as used.
func (q *pool) unusedCount() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.stock) + len(q.stale)
}
