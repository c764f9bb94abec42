package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// loweredPause is how long a row grants nothing after its limit per second was lowered: one window,
// and the head start and jitter of the calls that were about to be made.
const loweredPause = second + 100*time.Millisecond

// LimitsChanged applies changed limits of an app, or a changed reserve: call it when the functions
// passed to [NewLimiter] and [WithReserve] return other values than before. It gives back the
// permits that were leased under the old limits, so that no call is made with one any more, and
// waiting callers query Redis again.
//
// A lowered limit holds for all calls from then on. Where it is one per second, nothing is granted
// to any replica for a second: together with the calls before it, the first calls would exceed it.
// Limits per minute and per day count the calls that were made before, unless there was no such
// limit until now. Each replica keeps the limits that its own functions return: a lowered limit
// holds for all calls when the last replica has called LimitsChanged.
func (l *Limiter) LimitsChanged(ctx context.Context, app string) error {
	var errs []error
	lowered := make(map[string]bool)
	for _, q := range l.poolsOf(app) {
		for _, row := range q.lowered(l.planFor(app, q.typ)) {
			lowered[stateKey(app, row)] = true
		}
	}
	if len(lowered) > 0 { // before the revocation, after which callers request the next blocks
		if err := loweredScript.Run(ctx, l.rdb, slices.Sorted(maps.Keys(lowered)), l.now()).Err(); err != nil {
			errs = append(errs, fmt.Errorf("lower the limits of %s: %w", app, err))
		}
	}
	return errors.Join(append(errs, l.Revoke(ctx, app))...)
}

// lowered returns the rows whose limit per second is lower in a plan than when the pool's last block
// was granted.
func (q *pool) lowered(p plan) (rows []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.granted.rows == nil {
		return nil
	}
	before := make(map[string]time.Duration)
	for _, r := range q.granted.rows {
		before[r.name] = r.spacing
	}
	for _, r := range p.rows {
		if r.spacing > before[r.name] {
			rows = append(rows, r.name)
		}
	}
	return rows
}

// sameAs reports whether two plans of one type have the same limits.
func (p plan) sameAs(o plan) bool {
	return p.reserve == o.reserve && slices.EqualFunc(p.rows, o.rows, func(a, b pacedRow) bool {
		a.limit.Concurrency, b.limit.Concurrency = 0, 0
		return a == b
	})
}
