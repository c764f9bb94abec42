package inspect

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// Reader reads the state of the lanes in a Redis.
type Reader struct {
	rdb     redis.UniversalClient
	limiter *ratelimit.Limiter
	holds   *hold.Store
	ledger  *ledger.Ledger
	results *resultlog.Reader
}

// NewReader returns a Reader. It does no I/O.
func NewReader(rdb redis.UniversalClient, limiter *ratelimit.Limiter, holds *hold.Store) *Reader {
	return &Reader{
		rdb: rdb, limiter: limiter, holds: holds, ledger: ledger.New(rdb, ledger.Policy{}),
		results: resultlog.NewReader(rdb, slog.Default()),
	}
}

// State is what waits, what is held and how much is used.
type State struct {
	Lanes   []LaneUsage `json:"lanes"`   // of the configured apps: those that have tasks or have used part of a limit
	Holds   []hold.Hold `json:"holds"`   // in force, of the configured apps and of all apps with tasks; and limits of the lanes that are spent by our own count
	Orphans []Lane      `json:"orphans"` // lanes with tasks of apps that are not configured
	// Replicas are the running workers, of all configurations, and those lost in the last minutes;
	// Gateways are likewise the gateways.
	Replicas []heartbeat.Replica `json:"replicas"`
	Gateways []heartbeat.Replica `json:"gateways"`
}

// LaneUsage is a lane with the windows of its limits.
type LaneUsage struct {
	Lane
	Windows []ratelimit.Usage `json:"windows,omitempty"`
}

// Read reads the state for the configured apps, in at most fourteen round trips. It leaves out
// apps for which wanted returns false; nil wants all. Lists without elements are not nil.
func (r *Reader) Read(ctx context.Context, configured []string, wanted func(app string) bool) (State, error) {
	if wanted == nil {
		wanted = func(string) bool { return true }
	}
	var apps []string
	mine := make(map[string]bool, len(configured))
	for _, app := range configured {
		if wanted(app) {
			apps, mine[app] = append(apps, app), true
		}
	}
	lanes, err := Lanes(ctx, r.rdb, apps)
	if err != nil {
		return State{}, err
	}
	state := State{Orphans: []Lane{}}
	var ours []Lane
	for _, lane := range lanes {
		switch {
		case mine[lane.App]:
			ours = append(ours, lane)
		case wanted(lane.App) && !lane.Empty():
			state.Orphans = append(state.Orphans, lane)
		}
	}
	if state.Lanes, err = r.withUsage(ctx, ours); err != nil {
		return State{}, err
	}
	if state.Holds, err = r.readHolds(ctx, apps, wanted); err != nil {
		return State{}, err
	}
	for _, s := range state.Spent() {
		state.Holds = append(state.Holds, s.Hold)
	}
	slices.SortStableFunc(state.Holds, func(a, b hold.Hold) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Scope, b.Scope)) })
	replicas, err := heartbeat.List(ctx, r.rdb)
	state.Replicas, state.Gateways = []heartbeat.Replica{}, []heartbeat.Replica{}
	for _, replica := range replicas {
		if replica.Kind == heartbeat.Gateway {
			state.Gateways = append(state.Gateways, replica)
		} else {
			state.Replicas = append(state.Replicas, replica)
		}
	}
	return state, err
}

// Spent returns the limits of the lanes that are spent by our own count.
func (s State) Spent() []SpentLimit {
	var all []SpentLimit
	for _, l := range s.Lanes {
		if h, by, ok := Spent(l.App, l.Type, l.Windows); ok {
			all = append(all, SpentLimit{h, by})
		}
	}
	return all
}

// withUsage returns the lanes that have tasks or have used part of a limit, with their windows.
func (r *Reader) withUsage(ctx context.Context, lanes []Lane) ([]LaneUsage, error) {
	of := make([]ratelimit.AppType, len(lanes))
	for n, lane := range lanes {
		of[n] = ratelimit.AppType{App: lane.App, Type: lane.Type}
	}
	windows, err := r.limiter.UsageMany(ctx, of)
	if err != nil {
		return nil, err
	}
	shown := []LaneUsage{}
	for n, lane := range lanes {
		used := slices.ContainsFunc(windows[n], func(u ratelimit.Usage) bool { return u.Used > 0 })
		if used || !lane.Empty() {
			shown = append(shown, LaneUsage{lane, windows[n]})
		}
	}
	return shown, nil
}

// readHolds returns the holds of some apps and of all apps with tasks.
func (r *Reader) readHolds(ctx context.Context, apps []string, wanted func(app string) bool) ([]hold.Hold, error) {
	known, err := tasks.NewInspector(r.rdb).Apps(ctx)
	if err != nil {
		return nil, err
	}
	known = slices.DeleteFunc(known, func(app string) bool { return !wanted(app) })
	known = append(known, apps...)
	slices.Sort(known)
	holds, err := r.holds.List(ctx, slices.Compact(known)...)
	return append([]hold.Hold{}, holds...), err
}
