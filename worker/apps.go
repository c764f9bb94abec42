package worker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// appTable holds the apps that a replica sends for. It may be replaced at any time; a reader that
// needs two facts of one app uses one App.
type appTable struct {
	apps atomic.Pointer[map[string]App]
}

func newAppTable(apps []App) *appTable {
	t := &appTable{}
	t.replace(apps)
	return t
}

// get returns an app; ok is false for an app that the replica does not send for.
func (t *appTable) get(id string) (app App, ok bool) {
	app, ok = (*t.apps.Load())[id]
	return app, ok
}

// all returns all apps. The caller must not change them.
func (t *appTable) all() map[string]App { return *t.apps.Load() }

// ids returns the sorted ids.
func (t *appTable) ids() []string { return slices.Sorted(maps.Keys(t.all())) }

func (t *appTable) replace(apps []App) {
	byID := make(map[string]App, len(apps))
	for _, app := range apps {
		byID[app.ID] = app
	}
	t.apps.Store(&byID)
}

// validateApps reports the apps whose hours or mode of consent are not valid.
func validateApps(apps []App) error {
	for _, app := range apps {
		if err := app.Hours.Validate(); err != nil {
			return fmt.Errorf("worker: hours of %s: %w", app.ID, err)
		}
		if _, err := ConsentMode(app.Consent); err != nil {
			return fmt.Errorf("worker: consent of %s: %w", app.ID, err)
		}
	}
	return nil
}

// SetApps replaces the apps that the replica sends for. It may be called at any time, from any
// goroutine, and changes nothing when it returns an error, since hours are not valid.
//
// A new app's lanes open at once where it has tasks. The lanes of an app that is no longer among
// apps close: the calls under way are finished and recorded, and its other tasks wait in Redis for a
// replica that sends for it. Changed hours, OnlyOpenIDs and Consent apply to each task from its next step on,
// and a changed concurrency to each lane ([ratelimit.Limiter.LimitsChanged] applies the other limits).
//
// Credentials belong to the wechat.Tokens of the replica's client. SetApps requests a token again
// for each app that is held because it got none.
func (r *Replica) SetApps(apps []App) error {
	if err := validateApps(apps); err != nil {
		return err
	}
	r.apps.replace(apps)
	select {
	case r.fleet.appsChanged <- struct{}{}:
	default: // the fleet will find these apps, too
	}
	for _, changed := range []chan struct{}{r.recheckCredentials, r.templateApps} {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	r.beater.BeatNow()
	return nil
}

// recheckHeldApps looks for apps that are held since they got no token, at the start and after each
// change of the apps, until ctx ends.
func (r *Replica) recheckHeldApps(ctx context.Context) {
	for {
		r.dispatcher.RecheckCredentials(ctx, r.apps.ids())
		select {
		case <-r.recheckCredentials:
		case <-ctx.Done():
			return
		}
	}
}

// takeOverApps opens and closes lanes after SetApps.
func (f *fleet) takeOverApps(ctx context.Context) {
	before, after := f.index.apps, f.apps.ids()
	for _, app := range before {
		if _, stays := slices.BinarySearch(after, app); !stays {
			f.removeApp(ctx, app)
		}
	}
	f.index.setApps(after)
	f.holds.SetApps(after)
	f.pollHolds(ctx) // before the lanes open
	for _, app := range after {
		if _, known := slices.BinarySearch(before, app); !known {
			f.index.expedite(app)
		}
	}
	for key, l := range f.snapshot() {
		l.setSlots(f.limiter.Concurrency(key.app, key.typ))
		l.gate.Recheck() // its limits may have changed
	}
	f.refreshQueues(ctx)
	f.poll(ctx)
}

// removeApp closes the lanes of an app, without waiting for the calls under way, and forgets what
// is shown of it.
func (f *fleet) removeApp(ctx context.Context, app string) {
	var stopping sync.WaitGroup
	lanes := f.snapshot()
	maps.DeleteFunc(lanes, func(key laneKey, _ *lane) bool { return key.app != app })
	for _, l := range lanes {
		stopping.Go(l.stop)
	}
	stopping.Wait()
	f.mu.Lock()
	for key := range lanes {
		delete(f.lanes, key)
	}
	maps.DeleteFunc(f.depth, func(key laneKey, _ int64) bool { return key.app == app })
	f.mu.Unlock()
	for _, l := range lanes {
		f.closing.Go(l.shutdown)
	}
	f.spent.replace([]string{app}, nil)
	f.dispatcher.RevokePermits(ctx, app)
}

// setApps replaces the apps, and forgets the queues of others. Those of new apps are found in
// asynq's set, which the next refresh reads again.
func (x *queueIndex) setApps(apps []string) {
	x.apps, x.readAt, x.knownPos, x.sweepPos = apps, time.Time{}, 0, 0
	other := func(app string) bool {
		_, is := slices.BinarySearch(apps, app)
		return !is
	}
	x.known = slices.DeleteFunc(slices.Clone(x.known), func(q queueRef) bool { return other(q.lane.app) }) // the old one has readers
	maps.DeleteFunc(x.isKnown, func(q queueRef, _ bool) bool { return other(q.lane.app) })
	maps.DeleteFunc(x.pollNext, func(q queueRef, _ bool) bool { return other(q.lane.app) })
	maps.DeleteFunc(x.due, func(lane laneKey, _ time.Time) bool { return other(lane.app) })
}
