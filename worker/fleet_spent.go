package worker

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
)

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
		if _, ok := f.apps[app]; ok {
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
