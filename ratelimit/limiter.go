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

// recheckInterval is the longest time that [Limiter.Acquire] waits before it queries Redis
// again: a hold may have been lifted or a limit changed, and the message about it lost.
const recheckInterval = 5 * time.Second

// maxGiveBackAge is the age up to which a permit's count of the minute is given back. The
// minute's log may have dropped the count of an older one already.
const maxGiveBackAge = 30 * time.Second

// releaseTimeout bounds giving back the permits of an Acquire whose context has ended;
// backgroundTimeout bounds a request to Redis that runs in the background.
const (
	releaseTimeout    = time.Second
	backgroundTimeout = 5 * time.Second
)

// headStart is how long before its instant [Limiter.AcquireEarly] returns a permit: the time
// that a task takes from the queue to its call, even on a busy machine.
const headStart = 15 * time.Millisecond

// ErrClosed is returned by Acquire after Close.
var ErrClosed = errors.New("ratelimit: limiter closed")

// Limiter hands out permits for the calls of any number of apps. All limiters on one Redis
// keep the limits together. A Limiter is safe for concurrent use. Close gives back the permits
// that it leased and did not use.
type Limiter struct {
	rdb       redis.UniversalClient
	margin    float64
	overrides func(app string) map[string]Limit
	reserve   func(app string) float64
	rows      []Row
	id        string // of the replica; random
	start     time.Time

	// now replaces Redis' clock in tests, and returns 0 otherwise. mono is the replica's own
	// monotonic clock, and counts from start. Both are in microseconds.
	now  func() int64
	mono func() int64

	// takeBlock and returnPermits are take and giveBack; tests replace them to keep the windows
	// in memory.
	takeBlock     func(context.Context, plan, request) (*grant, error)
	returnPermits func(ctx context.Context, permits []*Permit, idle bool) error

	wg sync.WaitGroup // background requests

	mu       sync.Mutex
	closed   bool                   // guarded by mu
	pools    map[laneKey]*pool      // guarded by mu
	watchers map[string]*rowWatcher // guarded by mu; by app
}

type laneKey struct{ app, typ string }

// Option configures a Limiter.
type Option func(*Limiter)

// WithReserve sets the share of each day's limit that is reserved for urgent tasks, per app:
// 0.2 reserves the last fifth. See [Permit.Bulk].
func WithReserve(reserve func(app string) float64) Option {
	return func(l *Limiter) { l.reserve = reserve }
}

// NewLimiter returns a limiter on rdb. limits returns an app's overrides of [Defaults], by type
// or group; it may be nil. It is called for every block, so that overrides can change at run
// time. The configuration and the overrides must be valid.
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

// Acquire waits for a permit, and then for its instant. Permits are leased in blocks: most
// calls are served from a leased block without a query to Redis. While no permit is available,
// Acquire queries Redis again when the wait is over, at least every five seconds, and at once
// when wake fires (wake may be nil). It returns ctx's error when ctx ends, and an error of
// Redis at once: the caller decides when to try again.
func (l *Limiter) Acquire(ctx context.Context, app, typ string, wake <-chan struct{}) (*Permit, error) {
	return l.poolOf(app, typ).acquire(ctx, wake, 0)
}

// AcquireEarly is Acquire for a caller that has to prepare its call: it returns up to 15 ms
// before the permit's instant. Call [Permit.Wait] before making the call.
func (l *Limiter) AcquireEarly(ctx context.Context, app, typ string, wake <-chan struct{}) (*Permit, error) {
	return l.poolOf(app, typ).acquire(ctx, wake, headStart)
}

// TryAcquire is AcquireEarly without the wait: it returns up to n permits that are leased
// already and whose instants are at most 15 ms away. It may return none.
func (l *Limiter) TryAcquire(ctx context.Context, app, typ string, n int) []*Permit {
	return l.poolOf(app, typ).tryAcquire(ctx, n, headStart)
}

// Try requests one permit from Redis, without using leased ones. It is granted if no hold is in
// force and all windows of the type have room. An error means that Redis failed, and nothing
// else.
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

// Release gives back a permit that was not used. While the permit is fresh, the next Acquire
// gets it. Otherwise its counts of the minute, the day and the lifetime go back to Redis, and
// its instant too if no later one is reserved. Only the first Release of a permit has an
// effect; p may be nil. The command is sent at most once: after an error the counts stay used,
// since giving them back twice could exceed a limit.
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

// ReturnUnused gives back all leased permits of a type that are not handed out. Call it when
// there are no tasks of the type; the next Acquire leases a new block. It does nothing while an
// Acquire of the type is waiting.
func (l *Limiter) ReturnUnused(ctx context.Context, app, typ string) error {
	return l.poolOf(app, typ).returnUnused(ctx)
}

// Revoke gives back the leased permits of an app. Permits that were handed out before are no
// longer fresh ([Permit.Fresh]). Call it when a hold of the app was set or lifted: waiting
// callers query Redis again, which applies the hold.
func (l *Limiter) Revoke(ctx context.Context, app string) error {
	var errs []error
	for _, q := range l.poolsOf(app) {
		errs = append(errs, q.revoke(ctx))
	}
	return errors.Join(errs...)
}

// Close gives back the leased permits, and waits for background requests until ctx ends.
// Afterwards Acquire returns ErrClosed; Release still works.
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

// ExhaustedApps returns the apps that have a type whose last block was refused, or granted for
// urgent tasks alone, since a limit of the day or lifetime is used up. It makes no query;
// [Limiter.UsageMany] shows what is true now.
func (l *Limiter) ExhaustedApps() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var apps []string
	for name, q := range l.pools {
		if q.exhausted.Load() && !slices.Contains(apps, name.app) {
			apps = append(apps, name.app)
		}
	}
	return apps
}

// SharedDays returns the groups of a type that share a limit of the day.
func (l *Limiter) SharedDays(app, typ string) []Row {
	return slices.DeleteFunc(l.rowsOf(app, typ), func(r Row) bool { return r.Members == nil || r.Limit.PerDay == 0 })
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

// poolsOf returns the pools of an app, or of all apps if app is "".
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

// background runs do in a goroutine that Close waits for. Its context does not end with ctx,
// since other callers wait for the result as well. background returns false, and runs nothing,
// when the limiter is closed.
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

// giveBackLater gives back permits in the background. It is called by background goroutines
// only, which is why it may start another one after Close has begun.
func (l *Limiter) giveBackLater(ctx context.Context, permits []*Permit) {
	l.wg.Go(func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = l.giveBackWorthwhile(detached, permits, true)
	})
}

// giveBackWorthwhile gives back the permits that other callers can use; see worthGivingBack.
func (l *Limiter) giveBackWorthwhile(ctx context.Context, permits []*Permit, idle bool) error {
	now := time.Now()
	worth := slices.DeleteFunc(slices.Clone(permits), func(p *Permit) bool { return !p.worthGivingBack(now) })
	return l.returnPermits(ctx, worth, idle)
}

func (l *Limiter) wrapError(err error, app, typ string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("permit for %s of %s: %w", typ, app, err)
}
