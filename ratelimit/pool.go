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
	mostBlock  = 512
)

// leastRenewed is the least block that is renewed before it has been used up. Most lanes
// with a smaller one need no more, and others wait for one round trip.
const leastRenewed = 4

// pool is the stock of one (app, type) on this replica: permits that were leased in a
// block and wait for their instants. It asks Redis for the next block before the stock
// ends, gives back what nobody used, and holds nothing while nobody asks.
type pool struct {
	limiter *Limiter
	app     string
	typ     string
	recalls atomic.Int64 // raised by each recall: permits that were handed out before are stale

	mu      sync.Mutex
	stock   []*Permit       // guarded by mu, as is all below; by instant
	asking  *question       // under way; nil when none is
	askFrom time.Time       // not to be asked before: what the last answer said
	demand  demandEstimator // what the lane can use
	gap     time.Duration   // the least distance of two instants; 0 when they have none
	late    time.Duration   // how late the permits of the last block may be used
	span    time.Duration   // between the first and the last instant of the last block
	spread  bool            // the instants of the last block are spread out
	rate    float64         // permits used a second, when the last block was asked for
	pace    *rate.Limiter   // keeps permits that are late together from leaving together
	waiting int             // callers in next
	resting bool            // nobody wants permits: those that come are given back
	changed chan struct{}   // closed when the stock changed otherwise than by handing out
	returns []*Permit       // came too late: to be given back, for what was counted with them
	sweeper *time.Timer     // gives back what nobody came for; nil while there is nothing
}

// question is one block being asked for.
type question struct {
	done chan struct{} // closed at the end
	err  error         // set before
}

func newPool(l *Limiter, app, typ string) *pool {
	return &pool{limiter: l, app: app, typ: typ, changed: make(chan struct{}), resting: true}
}

// next waits for a permit until its instant is no further away than early. wake makes it
// ask again at once when it was told to wait.
func (q *pool) next(ctx context.Context, wake <-chan struct{}, early time.Duration) (*Permit, error) {
	q.enter()
	waited := false
	defer func() { q.leave(ctx, waited) }()
	for {
		p, s := q.look(ctx, early)
		if p != nil {
			return p, nil
		}
		if !waited {
			waited = true
			q.noteWait()
		}
		woken, open, err := s.pause(ctx, wake)
		if err != nil {
			return nil, err
		}
		if woken {
			q.askNow()
		}
		if !open {
			wake = nil // a closed wake counts as none, not as one that fires for ever
		}
	}
}

// atHand takes what can be had now.
func (q *pool) atHand(ctx context.Context, n int, early time.Duration) []*Permit {
	var got []*Permit
	for len(got) < n {
		p, _ := q.look(ctx, early)
		if p == nil {
			break
		}
		got = append(got, p)
	}
	return got
}

// spell is what a caller waits for: whichever comes first.
type spell struct {
	until   time.Time       // zero: no time
	changed <-chan struct{} // the stock changed
	asked   *question       // the block on its way
	closed  bool            // nothing: the limiter has been closed
}

func (s spell) pause(ctx context.Context, wake <-chan struct{}) (woken, open bool, err error) {
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
	if s.asked != nil {
		done = s.asked.done
	}
	select {
	case <-ctx.Done():
		return false, true, ctx.Err()
	case <-timer:
	case <-s.changed:
	case <-done:
		return false, true, s.asked.err
	case _, open = <-wake:
		return open, open, nil
	}
	return false, true, nil
}

func (q *pool) enter() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting++
	q.resting = false
}

// noteWait notes that a caller has to wait for its permit.
func (q *pool) noteWait() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.demand.beginWait(time.Now())
}

// leave ends a caller's wait. The last one to give up leaves nothing behind.
func (q *pool) leave(ctx context.Context, waited bool) {
	q.mu.Lock()
	q.waiting--
	if waited {
		q.demand.endWait(time.Now())
	}
	last := q.waiting == 0
	q.mu.Unlock()
	if last && ctx.Err() != nil {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = q.rest(detached) // else the counts stay used
	}
}

// askNow forgets what the last answer said about waiting.
func (q *pool) askNow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.askFrom = time.Time{}
}

// look hands out the first permit if it is time, or tells what to wait for.
func (q *pool) look(ctx context.Context, early time.Duration) (*Permit, spell) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	if ctx.Err() != nil {
		return nil, spell{} // pause returns its error
	}
	q.dropStale(now)
	if len(q.stock) == 0 {
		switch {
		case q.asking != nil:
		case now.Before(q.askFrom):
			return nil, spell{until: q.askFrom, changed: q.changed}
		default:
			q.ask(ctx)
		}
		return nil, spell{asked: q.asking, changed: q.changed, closed: q.asking == nil}
	}
	renew := q.renewAt(now)
	if q.asking == nil && !now.Before(renew) {
		q.ask(ctx)
	}
	p := q.stock[0]
	due := p.At.Add(-early)
	if now.Before(due) {
		until := due
		if q.asking == nil && renew.Before(due) {
			until = renew
		}
		return nil, spell{until: until, changed: q.changed}
	}
	if q.pace != nil && !p.again && !q.pace.AllowN(now, 1) {
		return nil, spell{until: now.Add(q.gap / catchUp), changed: q.changed}
	}
	q.stock = q.stock[1:]
	q.demand.countUsed(now, p.At)
	return p, spell{}
}

// Permits that are late leave catchUp times faster than their instants are apart; those of
// a bunch may leave together, since no timer is finer.
const (
	catchUp = 2
	bunch   = 5 * time.Millisecond
)

// renewAt is when the next block is to be asked for, of a stock that is not empty: shortly
// before it ends, by its instants and by the rate at which permits were used. A small block
// is not renewed: most of the time nobody needs more.
func (q *pool) renewAt(now time.Time) time.Time {
	if q.rate == 0 || !q.spread && q.demand.granted < leastRenewed {
		return now.Add(time.Hour)
	}
	last, end := q.stock[len(q.stock)-1].At, now.Add(durationOf(len(q.stock), q.rate))
	if q.spread || last.After(end) {
		end = last
	}
	at := end.Add(-renewalLead(max(q.span, durationOf(q.demand.granted, q.rate))))
	if possible := last.Add(q.gap - ahead); possible.After(at) {
		at = possible // before, there is no instant to be had
	}
	if q.askFrom.After(at) {
		return q.askFrom
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
	q.returns = append(q.returns, q.stock[:n]...)
	q.stock = q.stock[n:]
	q.demand.countStale(n, now, q.spread)
}

// ask starts to ask for the next block, unless the limiter has been closed.
func (q *pool) ask(ctx context.Context) {
	ask := &question{done: make(chan struct{})}
	now := time.Now()
	wanted := q.demand.nextRequest(now, q.gap, q.late, q.spread)
	if rate := q.demand.useRate(now); rate > 0 {
		q.rate = rate
	}
	if n := len(q.stock); n > 0 {
		wanted.from = q.stock[n-1].instant
	}
	if q.limiter.background(ctx, func(ctx context.Context) {
		defer close(ask.done)
		g, err := q.limiter.lease(ctx, q.limiter.planFor(q.app, q.typ), wanted)
		ask.err = q.limiter.named(err, q.app, q.typ)
		q.answered(ctx, g)
	}) {
		q.asking = ask
	}
}

// answered takes in the answer to a question; nil when there was none.
func (q *pool) answered(ctx context.Context, g *grant) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking = nil
	if g == nil {
		return
	}
	if len(g.instants) == 0 {
		q.askFrom = time.Now().Add(min(g.wait, askAgain))
		return
	}
	block := q.limiter.permits(g)
	if q.resting || q.limiter.isClosed() {
		q.limiter.giveBackLater(ctx, block)
		return
	}
	recalls := q.recalls.Load()
	for _, p := range block {
		p.pool, p.recalls = q, recalls
	}
	q.stock = append(q.stock, block...)
	slices.SortStableFunc(q.stock, byInstant) // a block may fill the gaps of the one before
	q.demand.beginBlock(len(block), time.Now())
	q.late, q.spread = g.late, g.spread > 0
	q.span = block[len(block)-1].At.Sub(block[0].At)
	q.setPace(g)
	q.sweepIn(sweepAfter)
}

// setPace takes the distance of the instants from a grant.
func (q *pool) setPace(g *grant) {
	var micros int64
	for _, t := range g.terms {
		micros = max(micros, t.spacing)
	}
	gap := time.Duration(micros) * time.Microsecond
	switch gap {
	case q.gap:
	case 0:
		q.gap, q.pace = 0, nil
	default:
		q.gap, q.pace = gap, rate.NewLimiter(rate.Every(gap/catchUp), 2+int(bunch/gap))
	}
}

// sweepAfter is how long permits that came too late wait for company on their way back.
const sweepAfter = time.Second

// sweepIn has the stock looked at after a while, should nobody come. A sweep that is due
// already stays.
func (q *pool) sweepIn(d time.Duration) {
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
	gone := q.returns
	q.returns = nil
	if len(q.stock) > 0 {
		q.sweepIn(sweepAfter)
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
	if q.resting || now.Sub(p.At) > sweepAfter || p.recalls != q.recalls.Load() {
		return false
	}
	q.demand.countReturned(now)
	again := &Permit{At: p.At, lease: p.lease, pool: q, recalls: p.recalls, kept: p.kept, instant: p.instant, again: true}
	q.sweepIn(sweepAfter)
	if !p.Fresh(now) {
		q.returns = append(q.returns, again)
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

// empty takes out the stock and begins anew.
func (q *pool) empty() []*Permit {
	stock := append(q.returns, q.stock...)
	q.stock, q.returns, q.askFrom = nil, nil, time.Time{}
	if q.sweeper != nil {
		q.sweeper.Stop()
		q.sweeper = nil
	}
	q.signal()
	return stock
}

// rest gives back the stock, since nobody wants permits. It does nothing while somebody
// waits for one.
func (q *pool) rest(ctx context.Context) error {
	q.mu.Lock()
	if q.waiting > 0 {
		q.mu.Unlock()
		return nil
	}
	q.resting = true
	stock := q.empty()
	q.mu.Unlock()
	return q.limiter.giveBackWorthwhile(ctx, stock, true)
}

// recall gives back the stock, and makes stale what was handed out and not used.
func (q *pool) recall(ctx context.Context) error {
	q.mu.Lock()
	q.recalls.Add(1)
	stock := q.empty()
	q.mu.Unlock()
	return q.limiter.giveBackWorthwhile(ctx, stock, false)
}

// unspent counts the permits that Redis counts as used and nobody has used.
func (q *pool) unspent() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.stock) + len(q.returns)
}
