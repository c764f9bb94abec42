package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/rotate"
)

const (
	// pollHoldsEvery is the interval of [fleet.pollHolds]. Messages report each change of a
	// hold; polling makes up for lost ones.
	pollHoldsEvery = 5 * time.Second
	// countedPerPoll is of how many held lanes without pending tasks one poll counts the
	// tasks again.
	countedPerPoll = 5000
)

// readChangedHolds reads the holds that have changed.
func (f *fleet) readChangedHolds(ctx context.Context) {
	f.holdsChanged(ctx, f.holds.ReadChanged(ctx))
}

// pollHolds reads holds, writes their pauses and counts the tasks of held lanes. It runs
// seldom, since messages report the changes.
func (f *fleet) pollHolds(ctx context.Context) {
	changed, ok := f.holds.Poll(ctx)
	if !ok {
		return
	}
	f.holdsChanged(ctx, changed)
	f.holds.RenewPauses(ctx)
	f.checkSpent(ctx)
	f.countHeld(ctx)
}

// holdsChanged polls the queues of some apps soon, and makes their lanes check their holds
// again.
func (f *fleet) holdsChanged(ctx context.Context, apps []string) {
	if len(apps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	for _, app := range apps {
		f.index.expedite(app)
		if f.holds.HoldsApp(app) {
			f.dispatcher.RevokePermits(ctx, app) // wake did so already, unless the message was lost
		}
	}
	for key, l := range f.snapshot() {
		if slices.Contains(apps, key.app) {
			l.gate.Recheck()
		}
	}
}

// countHeld counts the pending tasks of held lanes, and of open lanes that are awake.
func (f *fleet) countHeld(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	waiting := f.depths()
	var lanes, others []laneKey
	for _, app := range f.holds.HeldApps() {
		for _, typ := range f.index.types {
			switch key := (laneKey{app, typ}); {
			case !f.holds.Held(app, typ):
			case waiting[key] > 0:
				lanes = append(lanes, key)
			default:
				others = append(others, key)
			}
		}
	}
	others = rotate.Next(others, countedPerPoll, &f.countPos)
	pending, err := lanesWithPending(ctx, f.rdb, others)
	if err != nil {
		return // the next poll logs it
	}
	lanes = slices.AppendSeq(lanes, maps.Keys(pending))
	for key, l := range f.snapshot() {
		if !l.gate.Asleep() {
			lanes = append(lanes, key)
		}
	}
	if len(lanes) == 0 {
		return
	}
	if depth, err := pendingCounts(ctx, f.rdb, lanes); err == nil {
		f.setDepth(depth)
	}
}

// closeHeld closes the lanes that are held and have no running handlers.
func (f *fleet) closeHeld() {
	for key, l := range f.snapshot() {
		if l.active.Load() == 0 && f.holds.Held(key.app, key.typ) {
			f.close(key, l)
		}
	}
}

// spentLogTTL is how long a spent limit without an end counts as logged.
const spentLogTTL = 24 * time.Hour

// spentLimits are the limits that are spent by our own count, as this replica last read them.
type spentLimits struct {
	mu    sync.Mutex
	byApp map[string][]inspect.SpentLimit // guarded by mu; without the apps that have none
}

// spentKey returns the key that marks a spent limit as logged, for all replicas: an empty string
// that expires when the limit ends. Private.
func spentKey(app, scope string) string { return "wxcourier:{" + app + "}:spent:" + scope }

// checkSpent reads which limits are spent by our own count, of the apps where this replica was
// refused permits for one, writes their pauses and logs what has changed.
func (f *fleet) checkSpent(ctx context.Context) {
	var mine []string
	for _, app := range f.limiter.ExhaustedApps() {
		if f.index.serves(app) {
			mine = append(mine, app)
		}
	}
	f.holdsChanged(ctx, f.holds.CheckSpent(ctx, mine))
}

// readSpent is the hold.SpentReader of the fleet's watcher. It logs limits that were not spent
// when they were last read, and those that no longer are.
func (f *fleet) readSpent(ctx context.Context, apps []string) ([]hold.Hold, error) {
	spent, err := inspect.ReadSpent(ctx, f.limiter, apps)
	if err != nil {
		return nil, err
	}
	for _, s := range spent {
		f.logSpent(ctx, s)
	}
	for _, s := range f.spent.replace(apps, spent) {
		f.logUnspent(ctx, s)
	}
	return inspect.HoldsOf(spent), nil
}

// replace stores the spent limits of some apps, and returns the earlier ones that are not among
// them.
func (s *spentLimits) replace(apps []string, spent []inspect.SpentLimit) (ended []inspect.SpentLimit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, app := range apps {
		for _, before := range s.byApp[app] {
			if !slices.ContainsFunc(spent, func(is inspect.SpentLimit) bool { return is.App == app && is.Scope == before.Scope }) {
				ended = append(ended, before)
			}
		}
		delete(s.byApp, app)
	}
	for _, is := range spent {
		if s.byApp == nil {
			s.byApp = make(map[string][]inspect.SpentLimit)
		}
		s.byApp[is.App] = append(s.byApp[is.App], is)
	}
	return ended
}

// all returns the spent limits as holds.
func (s *spentLimits) all() []hold.Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []hold.Hold
	for _, spent := range s.byApp {
		all = append(all, inspect.HoldsOf(spent)...)
	}
	return all
}

// logSpent logs a spent limit once for all replicas, until it ends.
func (f *fleet) logSpent(ctx context.Context, s inspect.SpentLimit) {
	once := redis.SetArgs{Mode: "NX", TTL: spentLogTTL}
	left := spentLogTTL
	if !s.Until.IsZero() {
		once, left = redis.SetArgs{Mode: "NX", ExpireAt: s.Until}, s.Until.Sub(f.holdStore.Now())
	}
	if err := f.rdb.SetArgs(ctx, spentKey(s.App, s.Scope), "", once).Err(); err != nil {
		return // redis.Nil: another replica has logged it; else the next check does
	}
	f.log.Warn("held by our own count: the limit is spent", slog.String("app", s.App), slog.String("scope", s.Scope),
		slog.String("reason", s.Reason), slog.String("limit", s.Window.Name), slog.String("window", string(s.Window.Window)),
		slog.Int64("used", s.Window.Used), slog.Int64("of", s.Window.Effective()), slog.Duration("delay", left.Round(time.Second)))
}

// logUnspent logs once for all replicas that a limit is no longer spent before its end: it was
// raised, or WeChat's lower count was learned.
func (f *fleet) logUnspent(ctx context.Context, s inspect.SpentLimit) {
	if n, err := f.rdb.Del(ctx, spentKey(s.App, s.Scope)).Result(); err == nil && n > 0 {
		f.log.Info("no longer held by our own count", slog.String("app", s.App), slog.String("scope", s.Scope), slog.String("reason", s.Reason))
	}
}
