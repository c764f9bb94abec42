package ratelimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// recheckInterval is how long [Limiter.Acquire] waits at most before it looks again: a hold may
// have been lifted, or a limit changed, and the message about it been lost.
const recheckInterval = 5 * time.Second

// maxGiveBackAge bounds the age of a permit whose minute's count is given back: an older
// one may have left the minute's log already.
const maxGiveBackAge = 30 * time.Second

// releaseTimeout bounds giving back the permits of an Acquire whose context has ended,
// askTimeout a question that runs in the background.
const (
	releaseTimeout    = time.Second
	backgroundTimeout = 5 * time.Second
)

// headStart is how long before its instant [Limiter.Ahead] hands out a permit: what a task
// needs to get from the queue to its call, also on a busy machine.
const headStart = 15 * time.Millisecond

// ErrClosed is what a closed limiter says.
var ErrClosed = errors.New("ratelimit: the limiter is closed")

// Limiter hands out permits for the calls of any number of apps. All limiters that
// share a Redis keep the limits together. It is safe for concurrent use. Close it at the
// end: what it leased and did not use is given back then.
type Limiter struct {
	rdb       redis.UniversalClient
	margin    float64
	overrides func(app string) map[string]Limit
	reserve   func(app string) float64
	rows      []Row
	id        string // of the replica, among those that share the limits
	start     time.Time

	// now replaces Redis' clock, and mono the replica's own, in microseconds. Outside of
	// tests now is 0, and mono counts from start.
	now  func() int64
	mono func() int64

	// lease and undo are take and giveBack, but in tests that keep the windows in memory.
	takeBlock     func(context.Context, plan, request) (*grant, error)
	returnPermits func(ctx context.Context, permits []*Permit, rests bool) error

	wg sync.WaitGroup // what runs in the background

	mu       sync.Mutex
	closed   bool                   // guarded by mu
	pools    map[laneKey]*pool      // guarded by mu
	watchers map[string]*rowWatcher // guarded by mu; by app
}

type laneKey struct{ app, typ string }

// Option is a choice that most limiters do without.
type Option func(*Limiter)

// WithReserve tells which part of a day's limit is kept for urgent tasks, per app: 0.2
// keeps the last fifth. See [Permit.Bulk].
func WithReserve(reserve func(app string) float64) Option {
	return func(l *Limiter) { l.reserve = reserve }
}

// NewLimiter returns a limiter on rdb. limits tells an app's overrides of [Defaults], by
// type or group; it is asked at every block, so that they may change, and may be nil. The
// configuration and the overrides are expected to be valid.
func NewLimiter(rdb redis.UniversalClient, cfg Config, limits func(app string) map[string]Limit, options ...Option) *Limiter {
	l := &Limiter{
		rdb: rdb, margin: cfg.Margin, overrides: limits, rows: Defaults(),
		reserve: func(string) float64 { return 0 },
		id:      strings.ToLower(rand.Text()[:10]), start: time.Now(),
		now:   func() int64 { return 0 },
		pools: make(map[laneKey]*pool), watchers: make(map[string]*rowWatcher),
	}
	l.mono = func() int64 { return time.Since(l.start).Microseconds() }
	l.takeBlock, l.returnPermits = l.take, l.giveBack
	for _, o := range options {
		o(l)
	}
	return l
}

// Acquire waits for a permit, and then for its instant. Permits are leased in blocks:
// most of the time one is at hand, and Redis is not asked. While there is none it asks
// again when the wait is over, at least every five seconds, and at once when wake fires
// (wake may be nil). It returns ctx's error when ctx ends, and Redis' error at once: the
// caller decides when to try again.
func (l *Limiter) Acquire(ctx context.Context, app, typ string, wake <-chan struct{}) (*Permit, error) {
	return l.poolOf(app, typ).acquire(ctx, wake, 0)
}

// AcquireEarly is Acquire for a caller that has something to prepare: it returns up to 15 ms
// before the permit's instant. Call [Permit.Wait] before the call is made.
func (l *Limiter) AcquireEarly(ctx context.Context, app, typ string, wake <-chan struct{}) (*Permit, error) {
	return l.poolOf(app, typ).acquire(ctx, wake, headStart)
}

// TryAcquire is Ahead without the wait: the permits, at most n, that are leased already and
// whose instants are no further away than Ahead's. It may find none.
func (l *Limiter) TryAcquire(ctx context.Context, app, typ string, n int) []*Permit {
	return l.poolOf(app, typ).tryAcquire(ctx, n, headStart)
}

// Try asks Redis for one permit, past what was leased: over the holds and all windows of
// the type, or none. An error means that Redis did not answer properly, and nothing else.
func (l *Limiter) Try(ctx context.Context, app, typ string) (Decision, error) {
	g, err := l.take(ctx, l.planFor(app, typ), request{n: 1})
	if err != nil {
		return Decision{}, l.wrapError(err, app, typ)
	}
	if len(g.instants) == 0 {
		return Decision{Wait: g.wait, Window: g.window, Hold: g.hold}, nil
	}
	return Decision{Permit: l.permits(g)[0]}, nil
}

// Release gives back a permit that was not used. While its instant is to come, the next
// one who acquires gets it; else its counts of the minute, the day and the lifetime go
// back to Redis, and its instant when no later one has been reserved. Only the first
// Release of a permit does anything, and one of nil nothing. It is sent at most once: when it fails, the counts
// stay used, since giving them back twice could let a call too many through.
func (l *Limiter) Release(ctx context.Context, p *Permit) error {
	if p == nil || p.grant == nil || p.returned.Swap(true) {
		return nil
	}
	if p.pool != nil && p.pool.release(p, time.Now()) {
		return nil
	}
	p.minuteExpired = time.Since(p.At) >= maxGiveBackAge
	return l.giveBackWorthwhile(ctx, []*Permit{p}, false)
}

// ReturnUnused tells that nobody wants permits for the type: what was leased and not used is
// given back at once. The next Acquire begins anew. It does nothing while an Acquire of
// the type is waiting.
func (l *Limiter) ReturnUnused(ctx context.Context, app, typ string) error {
	return l.poolOf(app, typ).returnUnused(ctx)
}

// Revoke gives back what was leased for an app and not used, and makes stale the permits
// that were handed out and not used ([Permit.Fresh]). Call it at the message that tells
// of a hold ([HoldMessage]): what waits asks again, and learns of the hold.
func (l *Limiter) Revoke(ctx context.Context, app string) error {
	var errs []error
	for _, q := range l.poolsOf(app) {
		errs = append(errs, q.revoke(ctx))
	}
	return errors.Join(errs...)
}

// Close gives back what was leased and not used, and waits for what is under way until
// ctx ends. Nothing can be acquired afterwards; Release still works.
func (l *Limiter) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	var errs []error
	for _, q := range l.poolsOf("") {
		errs = append(errs, q.revoke(ctx))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		errs = append(errs, ctx.Err())
	}
	return errors.Join(errs...)
}

func (l *Limiter) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Limiter) poolOf(app, typ string) *pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := laneKey{app, typ}
	if l.pools[name] == nil {
		l.pools[name] = newPool(l, app, typ)
	}
	return l.pools[name]
}

// poolsOf are the pools of an app, or with "" of all apps.
func (l *Limiter) poolsOf(app string) []*pool {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*pool
	for name, q := range l.pools {
		if app == "" || name.app == app {
			all = append(all, q)
		}
	}
	return all
}

func (l *Limiter) watcherOf(app string) *rowWatcher {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers[app] == nil {
		l.watchers[app] = newRowWatcher()
	}
	return l.watchers[app]
}

// background runs a question to Redis that must not end with the context of whoever
// happened to start it: its answer is for others too. It returns false when the limiter
// has been closed.
func (l *Limiter) background(ctx context.Context, do func(context.Context)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), backgroundTimeout)
	l.wg.Go(func() {
		defer cancel()
		do(detached)
	})
	return true
}

// giveBackLater gives back from the background. It comes from there, and so may outlast
// a Close that has begun.
func (l *Limiter) giveBackLater(ctx context.Context, permits []*Permit) {
	l.wg.Go(func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = l.giveBackWorthwhile(detached, permits, true)
	})
}

// giveBackWorthwhile gives back those of the permits of which anybody gains something.
func (l *Limiter) giveBackWorthwhile(ctx context.Context, permits []*Permit, rests bool) error {
	now := time.Now()
	worth := slices.DeleteFunc(slices.Clone(permits), func(p *Permit) bool { return !p.worthGivingBack(now) })
	return l.returnPermits(ctx, worth, rests)
}

func (l *Limiter) wrapError(err error, app, typ string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("permit for %s of %s: %w", typ, app, err)
}
