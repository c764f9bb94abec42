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

// How many permits a pool asks for at once: first a few, since most lanes have little to
// do, then by demand (see [demandEstimator.nextRequest]). The script grants no more than the lane's share.
const (
	firstBlock = 4
	maxBlock   = 512
)

// minEarlyRefill is the least block that is renewed before it has been used up. Most lanes
// with a smaller one need no more, and others wait for one round trip.
const minEarlyRefill = 4

// pool is the stock of one (app, type) on this replica: permits that were leased in a
// block and wait for their instants. It asks Redis for the next block before the stock
// ends, gives back what nobody used, and holds nothing while nobody asks.
type pool struct {
	limiter     *Limiter
	app         string
	typ         string
	revocations atomic.Int64 // raised by each recall: permits that were handed out before are stale

	mu             sync.Mutex
	stock          []*Permit       // guarded by mu, as is all below; by instant
	refill         *refill         // under way; nil when none is
	refillAfter    time.Time       // not to be asked before: what the last answer said
	demand         demandEstimator // what the lane can use
	gap            time.Duration   // the least distance of two instants; 0 when they have none
	maxLateness    time.Duration   // how late the permits of the last block may be used
	lastBlockSpan  time.Duration   // between the first and the last instant of the last block
	spread         bool            // the instants of the last block are spread out
	useRate        float64         // permits used a second, when the last block was asked for
	catchUpLimiter *rate.Limiter   // keeps permits that are late together from leaving together
	waiters        int             // callers in next
	idle           bool            // nobody wants permits: those that come are given back
	changed        chan struct{}   // closed when the stock changed otherwise than by handing out
	stale          []*Permit       // came too late: to be given back, for what was counted with them
	sweeper        *time.Timer     // gives back what nobody came for; nil while there is nothing
}

// refill is one block being asked for.
type refill struct {
	done chan struct{} // closed at the end
	err  error         // set before
}

func newPool(l *Limiter, app, typ string) *pool {
	return &pool{limiter: l, app: app, typ: typ, changed: make(chan struct{}), idle: true}
}

// acquire waits for a permit until its instant is no further away than early. wake makes it
// ask again at once when it was told to wait.
func (q *pool) acquire(ctx context.Context, wake <-chan struct{}, early time.Duration) (*Permit, error) {
	q.addWaiter()
	waited := false
	defer func() { q.removeWaiter(ctx, waited) }()
	for {
		p, s := q.takeDue(ctx, early)
		if p != nil {
			return p, nil
		}
		if !waited {
			waited = true
			q.beginWait()
		}
		woken, open, err := s.wait(ctx, wake)
		if err != nil {
			return nil, err
		}
		if woken {
			q.clearRefillDelay()
		}
		if !open {
			wake = nil // a closed wake counts as none, not as one that fires for ever
		}
	}
}

// tryAcquire takes what can be had now.
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

// waitCondition is what a caller waits for: whichever comes first.
type waitCondition struct {
	until   time.Time       // zero: no time
	changed <-chan struct{} // the stock changed
	refill  *refill         // the block on its way
	closed  bool            // nothing: the limiter has been closed
}

func (s waitCondition) wait(ctx context.Context, wake <-chan struct{}) (woken, open bool, err error) {
	if s.closed {
		return false, true, ErrClosed
	}
	var timer <-chan time.Time
	if !s.until.IsZero() {
		t := time.NewTimer(time.Until(s.until))
		defer t.Stop()
		timer = t.C
	}
	var done <-chan struct{}
	if s.refill != nil {
		done = s.refill.done
	}
	select {
	case <-ctx.Done():
		return false, true, ctx.Err()
	case <-timer:
	case <-s.changed:
	case <-done:
		return false, true, s.refill.err
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

// beginWait notes that a caller has to wait for its permit.
func (q *pool) beginWait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.demand.beginWait(time.Now())
}

// removeWaiter ends a caller's wait. The last one to give up leaves nothing behind.
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
		_ = q.returnUnused(detached) // else the counts stay used
	}
}

// clearRefillDelay forgets what the last answer said about waiting.
func (q *pool) clearRefillDelay() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refillAfter = time.Time{}
}

// takeDue hands out the first permit if it is time, or tells what to wait for.
func (q *pool) takeDue(ctx context.Context, early time.Duration) (*Permit, waitCondition) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if ctx.Err() != nil {
		return nil, waitCondition{} // pause returns its error
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
	renew := q.refillAt(now)
	if q.refill == nil && !now.Before(renew) {
		q.startRefill(ctx)
	}
	p := q.stock[0]
	due := p.At.Add(-early)
	if now.Before(due) {
		until := due
		if q.refill == nil && renew.Before(due) {
			until = renew
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

// Permits that are late leave catchUp times faster than their instants are apart; those of
// a bunch may leave together, since no timer is finer.
const (
	catchUpFactor = 2
	catchUpBurst  = 5 * time.Millisecond
)

// refillAt is when the next block is to be asked for, of a stock that is not empty: shortly
// before it ends, by its instants and by the rate at which permits were used. A small block
// is not renewed: most of the time nobody needs more.
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
		at = possible // before, there is no instant to be had
	}
	if q.refillAfter.After(at) {
		return q.refillAfter
	}
	return at
}

// durationOf is how long n permits last at a rate.
func durationOf(n int, rate float64) time.Duration {
	return time.Duration(float64(n) / rate * float64(time.Second))
}

// dropStale takes out the permits that nobody came for in time.
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

// startRefill starts to ask for the next block, unless the limiter has been closed.
func (q *pool) startRefill(ctx context.Context) {
	ask := &refill{done: make(chan struct{})}
	now := time.Now()
	wanted := q.demand.nextRequest(now, q.gap, q.maxLateness, q.spread)
	if rate := q.demand.useRate(now); rate > 0 {
		q.useRate = rate
	}
	if n := len(q.stock); n > 0 {
		wanted.lastInstant = q.stock[n-1].instant
	}
	if q.limiter.background(ctx, func(ctx context.Context) {
		defer close(ask.done)
		g, err := q.limiter.takeBlock(ctx, q.limiter.planFor(q.app, q.typ), wanted)
		ask.err = q.limiter.wrapError(err, q.app, q.typ)
		q.finishRefill(ctx, g)
	}) {
		q.refill = ask
	}
}

// finishRefill takes in the answer to a question; nil when there was none.
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
	recalls := q.revocations.Load()
	for _, p := range block {
		p.pool, p.revocations = q, recalls
	}
	q.stock = append(q.stock, block...)
	slices.SortStableFunc(q.stock, byInstant) // a block may fill the gaps of the one before
	q.demand.beginBlock(len(block), time.Now())
	q.maxLateness, q.spread = g.maxLateness, g.spread > 0
	q.lastBlockSpan = block[len(block)-1].At.Sub(block[0].At)
	q.setGap(g)
	q.scheduleSweep(sweepDelay)
}

// setGap takes the distance of the instants from a grant.
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

// sweepDelay is how long permits that came too late wait for company on their way back.
const sweepDelay = time.Second

// scheduleSweep has the stock looked at after a while, should nobody come. A sweep that is due
// already stays.
func (q *pool) scheduleSweep(d time.Duration) {
	if q.sweeper != nil {
		return
	}
	q.sweeper = time.AfterFunc(d, q.sweep)
}

// sweep gives back what came too late.
func (q *pool) sweep() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sweeper = nil
	q.dropStale(time.Now())
	gone := q.stale
	q.stale = nil
	if len(q.stock) > 0 {
		q.scheduleSweep(sweepDelay)
	}
	if len(gone) == 0 {
		return
	}
	q.limiter.background(context.Background(), func(ctx context.Context) {
		_ = q.limiter.giveBackWorthwhile(ctx, gone, false) // else they stay counted
	})
}

// release takes back a permit that was handed out: into the stock while it can be used,
// else to those that came too late. It does not while the pool rests: then false.
func (q *pool) release(p *Permit, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.idle || now.Sub(p.At) > sweepDelay || p.revocations != q.revocations.Load() {
		return false
	}
	q.demand.countReturned(now)
	again := &Permit{At: p.At, grant: p.grant, pool: q, revocations: p.revocations, urgentOnly: p.urgentOnly, instant: p.instant, reused: true}
	q.scheduleSweep(sweepDelay)
	if !p.Fresh(now) {
		q.stale = append(q.stale, again)
		return true
	}
	i, _ := slices.BinarySearchFunc(q.stock, again, byInstant)
	q.stock = slices.Insert(q.stock, i, again)
	q.signal()
	return true
}

func byInstant(a, b *Permit) int { return cmp.Compare(a.instant, b.instant) }

// signal wakes whoever waits. The caller holds mu.
func (q *pool) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// drain takes out the stock and begins anew.
func (q *pool) drain() []*Permit {
	stock := append(q.stale, q.stock...)
	q.stock, q.stale, q.refillAfter = nil, nil, time.Time{}
	if q.sweeper != nil {
		q.sweeper.Stop()
		q.sweeper = nil
	}
	q.signal()
	return stock
}

// returnUnused gives back the stock, since nobody wants permits. It does nothing while somebody
// waits for one.
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

// revoke gives back the stock, and makes stale what was handed out and not used.
func (q *pool) revoke(ctx context.Context) error {
	q.mu.Lock()
	q.revocations.Add(1)
	stock := q.drain()
	q.mu.Unlock()
	return q.limiter.giveBackWorthwhile(ctx, stock, false)
}

// unusedCount counts the permits that Redis counts as used and nobody has used.
func (q *pool) unusedCount() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.stock) + len(q.stale)
}
