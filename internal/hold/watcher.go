package hold

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/rotate"
)

const (
	// renewPausesEvery is how often the pauses of all holds are written again, changed or not.
	// It is well below pauseTTL.
	renewPausesEvery = 30 * time.Second
	// readPerPoll is how many apps with records one poll reads, and clearedPerPoll of how many
	// other apps one renewal deletes stale pauses.
	readPerPoll    = 50
	clearedPerPoll = 100
	// requestTimeout bounds the calls to Redis of one step.
	requestTimeout = 3 * time.Second
)

// Watcher is what a replica knows of the holds that close its lanes: those of whole apps and of
// task types, without those that end within two seconds. It also writes their [Pauses].
//
// Its owner calls MarkChanged for each message, ReadChanged after messages and every moment, and
// Poll and RenewPauses every few seconds, since messages may be lost. A Watcher is not safe for
// concurrent use.
type Watcher struct {
	store  *Store
	pauses *Pauses
	spent  SpentReader
	apps   []string // sorted
	log    *slog.Logger

	unread    map[string]bool      // apps whose holds have changed, by a message or by time, and were not read since
	inForce   map[string][]Hold    // by app, when they were last read
	records   map[string]time.Time // the apps that have records, of holds in force or ended, and when they last had one in force
	spentApps map[string][]Hold    // by app, the limits that were spent when their pauses were last written; without the apps that have none
	renewedAt time.Time            // when the pauses of the holds in force were written
	clearedAt time.Time            // when the pauses of some other apps were deleted

	readPos, clearPos int // positions among the apps
}

// SpentReader reads the limits of some apps that are spent by our own count, as holds by OurCount.
type SpentReader func(ctx context.Context, apps []string) ([]Hold, error)

// NewWatcher returns a watcher of some apps, which must be sorted. It does no I/O.
func NewWatcher(store *Store, pauses *Pauses, spent SpentReader, apps []string, log *slog.Logger) *Watcher {
	return &Watcher{
		store: store, pauses: pauses, spent: spent, apps: apps, log: log,
		unread: make(map[string]bool), inForce: make(map[string][]Hold), records: make(map[string]time.Time),
		spentApps: make(map[string][]Hold),
	}
}

// SetApps replaces the apps, which must be sorted, and forgets the holds of others.
func (w *Watcher) SetApps(apps []string) {
	w.apps, w.readPos, w.clearPos = apps, 0, 0
	other := func(app string) bool {
		_, is := slices.BinarySearch(apps, app)
		return !is
	}
	maps.DeleteFunc(w.unread, func(app string, _ bool) bool { return other(app) })
	maps.DeleteFunc(w.inForce, func(app string, _ []Hold) bool { return other(app) })
	maps.DeleteFunc(w.records, func(app string, _ time.Time) bool { return other(app) })
	maps.DeleteFunc(w.spentApps, func(app string, _ []Hold) bool { return other(app) })
}

// Held reports whether a hold stops an app's tasks of a type. It returns false from two seconds
// before the hold's end: the lane opens then, and its gate waits for the end as for any permit.
func (w *Watcher) Held(app, typ string) bool {
	return slices.ContainsFunc(w.inForce[app], func(h Hold) bool { return h.Stops(app, typ) })
}

// HoldsApp reports whether the whole app or one of its types is held.
func (w *Watcher) HoldsApp(app string) bool { return len(w.inForce[app]) > 0 }

// HeldApps returns the apps of which something is held, sorted.
func (w *Watcher) HeldApps() []string { return slices.Sorted(maps.Keys(w.inForce)) }

// MarkChanged makes the next ReadChanged read the holds of an app, one of the watcher's.
func (w *Watcher) MarkChanged(app string) { w.unread[app] = true }

// ReadChanged reads the holds that have changed, by a message or by time, and writes their pauses.
// It returns the apps whose lanes have to check again. While Redis does not answer, the next call
// retries.
func (w *Watcher) ReadChanged(ctx context.Context) (changed []string) {
	w.expire(w.store.Now())
	if len(w.unread) == 0 {
		return nil
	}
	return w.read(ctx, slices.Sorted(maps.Keys(w.unread)))
}

// Poll is ReadChanged for the changes whose messages were lost: it reads the apps with records,
// some at a time, and of the other apps checks whether they have records. ok is false when Redis
// does not answer.
func (w *Watcher) Poll(ctx context.Context) (changed []string, ok bool) {
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var others []string
	for _, app := range w.apps {
		if _, known := w.records[app]; !known {
			others = append(others, app)
		}
	}
	found, err := w.store.AppsWithRecords(within, others...)
	if err != nil {
		w.logUnreadable(ctx, err)
		return nil, false
	}
	known := slices.Sorted(maps.Keys(w.records))
	return w.read(ctx, append(found, rotate.Next(known, readPerPoll, &w.readPos)...)), true
}

// read reads the holds of some apps, and writes the pauses of those that changed. Their lanes check
// again afterwards; before, they would find their queues still paused.
func (w *Watcher) read(ctx context.Context, apps []string) (changed []string) {
	if len(apps) == 0 {
		return nil
	}
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	holds, err := w.store.List(within, apps...)
	if err != nil {
		w.logUnreadable(ctx, err)
		return nil
	}
	changed = w.update(apps, holds, w.store.Now())
	if !w.syncPauses(within, changed) {
		for _, app := range changed {
			w.unread[app] = true // retry
		}
	}
	return changed
}

// expire drops the holds that end soon, and marks their apps as unread, so that their pauses are
// deleted.
func (w *Watcher) expire(now time.Time) {
	for app, holds := range w.inForce {
		left := slices.DeleteFunc(slices.Clone(holds), func(h Hold) bool { return !h.closesLanes(now) })
		if len(left) < len(holds) {
			w.setInForce(app, left)
			w.unread[app] = true
		}
	}
}

// update stores the holds that were read of some apps. It returns the apps whose holds have
// changed or that were marked as unread.
func (w *Watcher) update(apps []string, holds []Hold, now time.Time) (changed []string) {
	read := make(map[string][]Hold)
	for _, h := range holds {
		if h.closesLanes(now) && (h.Scope == WholeApp || slices.Contains(w.pauses.types, h.Scope)) {
			read[h.App] = append(read[h.App], h)
		}
	}
	for _, app := range apps {
		same := slices.EqualFunc(w.inForce[app], read[app], func(a, b Hold) bool {
			return a.Scope == b.Scope && a.Until.Equal(b.Until)
		})
		if !same || w.unread[app] {
			changed = append(changed, app)
		}
		delete(w.unread, app)
		if len(read[app]) > 0 || !same {
			w.records[app] = now
		} else if now.Sub(w.records[app]) > Retention { // the records of ended holds are gone, too
			delete(w.records, app)
		}
		w.setInForce(app, read[app])
	}
	return changed
}

func (w *Watcher) setInForce(app string, holds []Hold) {
	if len(holds) > 0 {
		w.inForce[app] = holds
	} else {
		delete(w.inForce, app)
	}
}

// SpentLimits returns the limits that were spent by our own count when they were last read.
func (w *Watcher) SpentLimits() []Hold {
	var all []Hold
	for _, app := range slices.Sorted(maps.Keys(w.spentApps)) {
		all = append(all, w.spentApps[app]...)
	}
	return all
}

// CheckSpent reads which limits of some apps, and of those of SpentLimits, are spent by our own
// count, and writes their pauses. It returns the apps where that has changed.
func (w *Watcher) CheckSpent(ctx context.Context, apps []string) (changed []string) {
	apps = slices.AppendSeq(slices.Clone(apps), maps.Keys(w.spentApps))
	slices.Sort(apps)
	apps = slices.Compact(apps)
	before := maps.Clone(w.spentApps)
	if !w.syncPauses(ctx, apps) {
		return nil
	}
	for _, app := range apps {
		if !slices.EqualFunc(before[app], w.spentApps[app], sameScope) {
			changed = append(changed, app)
		}
	}
	return changed
}

func sameScope(a, b Hold) bool { return a.Scope == b.Scope && a.Reason == b.Reason }

// readSpent reads which limits of some apps are spent, and remembers them.
func (w *Watcher) readSpent(ctx context.Context, apps []string) ([]Hold, error) {
	spent, err := w.spent(ctx, apps)
	if err != nil {
		return nil, err
	}
	for _, app := range apps {
		delete(w.spentApps, app)
	}
	for _, h := range spent {
		w.spentApps[h.App] = append(w.spentApps[h.App], h)
	}
	return spent, nil
}

// RenewPauses writes the pauses of all holds in force, and deletes those of some other apps: a
// replica may have died between the end of a hold and the delete of its pauses. Most calls do
// nothing.
func (w *Watcher) RenewPauses(ctx context.Context) {
	now := time.Now()
	if now.Sub(w.renewedAt) >= renewPausesEvery && w.syncPauses(ctx, w.HeldApps()) { // CheckSpent renews those of spent limits
		w.renewedAt = now
	}
	turns := (len(w.apps) + clearedPerPoll - 1) / clearedPerPoll
	if now.Sub(w.clearedAt) < renewPausesEvery/time.Duration(max(1, turns)) {
		return
	}
	w.clearedAt = now
	some := slices.Clone(rotate.Next(w.apps, clearedPerPoll, &w.clearPos))
	w.syncPauses(ctx, slices.DeleteFunc(some, w.HoldsApp))
}

// syncPauses writes the pauses of some apps. It reports whether that succeeded.
func (w *Watcher) syncPauses(ctx context.Context, apps []string) bool {
	if len(apps) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	holds, err := w.readSpent(ctx, apps)
	for _, app := range apps {
		holds = append(holds, w.inForce[app]...)
	}
	if err == nil {
		err = w.pauses.Sync(ctx, apps, holds)
	}
	if err != nil {
		w.log.Debug("the pauses of asynq's queues could not be written", slog.Any("err", err))
	}
	return err == nil
}

func (w *Watcher) logUnreadable(ctx context.Context, err error) {
	if ctx.Err() == nil {
		w.log.Debug("the holds could not be read", slog.Any("err", err))
	}
}
