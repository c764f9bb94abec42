package ratelimit

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

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
	outdated := q.refill != nil && q.refill.outdated
	q.refill = nil
	if g == nil {
		return
	}
	q.exhausted.Store(g.exhausted())
	if len(g.instants) == 0 {
		if !outdated {
			q.refillAfter = time.Now().Add(min(g.wait, recheckInterval))
		}
		return
	}
	block := q.limiter.permits(g)
	if q.idle || q.limiter.isClosed() || !g.plan.sameAs(q.limiter.planFor(q.app, q.typ)) { // LimitsChanged came before the reply
		q.limiter.giveBackLater(ctx, block)
		return
	}
	revocations := q.revocations.Load()
	for _, p := range block {
		p.pool, p.revocations = q, revocations
	}
	q.granted = g.plan
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
