package ratelimit

import (
	"cmp"
	"context"
	"slices"
	"time"
)

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
	q.stock, q.stale = nil, nil
	q.resetRefillDelay()
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
