package ratelimit

import (
	"context"
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
	exhausted   atomic.Bool  // the last reply granted bulk tasks nothing, for a limit of the day or lifetime

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
	granted        plan            // of the last block; its rows are nil before the first
}

// refill is a request for a block that is in progress.
type refill struct {
	done chan struct{} // closed when the request has ended
	err  error         // set before done is closed
	// outdated is guarded by pool.mu: a wake or a revocation came since the request was sent, so
	// the delay that its reply demands does not count.
	outdated bool
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
	q.resetRefillDelay()
}

// resetRefillDelay drops the delay, also that of a reply that is on its way. The caller holds mu.
func (q *pool) resetRefillDelay() {
	q.refillAfter = time.Time{}
	if q.refill != nil {
		q.refill.outdated = true
	}
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
