package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// pollHoldsEvery is the interval of [fleet.pollHolds]. Messages report each change of a
	// hold; polling makes up for lost ones.
	pollHoldsEvery = 5 * time.Second
	// syncPausesEvery is how often the pauses of all holds are written again, changed or
	// not. It is well below pauseTTL.
	syncPausesEvery = 30 * time.Second
	// readPerPoll is how many apps with hold records one poll reads, and clearedPerPoll of
	// how many other apps it deletes stale pauses.
	readPerPoll    = 50
	clearedPerPoll = 100
	// countedPerPoll is of how many held lanes without pending tasks one poll counts the
	// tasks again.
	countedPerPoll = 5000
	// keepRecords is how long an app without a hold in force still counts as one with
	// records, since the records of ended holds may exist.
	keepRecords = time.Hour
)

// holdCache is what the fleet knows of the holds that close lanes.
//
//	unread   apps whose holds have changed, by a message or by time; readChangedHolds
//	         reads them, and retries while Redis does not answer
//	inForce  the holds of whole apps and of types when they were last read, without those
//	         that end soon
//	records  the apps that have hold records, in force or ended, and when they last had a
//	         hold in force
//
// pollHolds reads the apps with records, some at a time. Of the other apps it only checks
// whether they have records.
type holdCache struct {
	unread    map[string]bool
	inForce   map[string][]hold.Hold // by app
	records   map[string]time.Time   // by app
	syncedAt  time.Time              // when the pauses of the holds in force were written
	clearedAt time.Time              // when the pauses of some other apps were deleted

	readPos, clearPos, countPos int // positions among the apps, and among the held lanes
}

func newHoldCache() holdCache {
	return holdCache{
		unread: make(map[string]bool), inForce: make(map[string][]hold.Hold), records: make(map[string]time.Time),
	}
}

// held reports whether a lane is held. It returns false from dueSoon before the hold's end:
// the lane opens then, and its gate waits for the end as for any permit.
func (h holdCache) held(key laneKey) bool {
	return slices.ContainsFunc(h.inForce[key.app], func(h hold.Hold) bool { return h.Stops(key.app, key.typ) })
}

// expire drops the holds that end soon, and marks their apps as unread, so that their
// pauses are deleted.
func (h holdCache) expire(now time.Time) {
	for app, holds := range h.inForce {
		left := slices.DeleteFunc(slices.Clone(holds), func(h hold.Hold) bool { return !closesLanes(h, now) })
		if len(left) < len(holds) {
			h.inForce[app] = left
			h.unread[app] = true
		}
	}
}

// update stores the holds that were read of some apps. It returns the apps whose holds have
// changed or that were marked as unread.
func (h holdCache) update(apps []string, holds []hold.Hold, now time.Time) (news []string) {
	read := make(map[string][]hold.Hold)
	for _, r := range holds {
		_, typed := tasks.Lookup(r.Scope)
		if closesLanes(r, now) && (typed || r.Scope == hold.WholeApp) {
			read[r.App] = append(read[r.App], r)
		}
	}
	for _, app := range apps {
		same := slices.EqualFunc(h.inForce[app], read[app], func(a, b hold.Hold) bool {
			return a.Scope == b.Scope && a.Until.Equal(b.Until)
		})
		if !same || h.unread[app] {
			news = append(news, app)
		}
		delete(h.unread, app)
		if len(read[app]) > 0 || !same {
			h.records[app] = now
		} else if now.Sub(h.records[app]) > keepRecords {
			delete(h.records, app)
		}
		h.inForce[app] = read[app]
		if len(read[app]) == 0 {
			delete(h.inForce, app)
		}
	}
	return news
}

// readChangedHolds reads the holds of the apps that are marked as unread.
func (f *fleet) readChangedHolds(ctx context.Context) {
	f.holds.expire(f.replica.holds.Now())
	if len(f.holds.unread) > 0 {
		f.readHolds(ctx, slices.Sorted(maps.Keys(f.holds.unread)))
	}
}

// pollHolds reads holds, writes their pauses and counts the tasks of held lanes. It runs
// seldom, since messages report the changes.
func (f *fleet) pollHolds(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var others []string
	for _, app := range f.index.apps {
		if _, known := f.holds.records[app]; !known {
			others = append(others, app)
		}
	}
	found, err := f.replica.holds.AppsWithRecords(within, others...)
	if err != nil {
		f.logUnreadable(ctx, err)
		return
	}
	known := slices.Sorted(maps.Keys(f.holds.records))
	f.readHolds(ctx, append(found, rotate(known, readPerPoll, &f.holds.readPos)...))
	f.syncAllPauses(ctx)
	f.countHeld(ctx)
}

// rotate returns the next n of all, and starts again after the last one. turn is the
// position that it keeps between calls.
func rotate[T any](all []T, n int, turn *int) []T {
	if len(all) <= n {
		return all
	}
	some := make([]T, n)
	for i := range some {
		some[i] = all[(*turn+i)%len(all)]
	}
	*turn = (*turn + n) % len(all)
	return some
}

// readHolds reads the holds of some apps, writes the pauses of those that changed, and then
// makes their lanes check again. In another order the lanes would find their queues still
// paused.
func (f *fleet) readHolds(ctx context.Context, apps []string) {
	if len(apps) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	holds, err := f.replica.holds.List(within, apps...)
	if err != nil {
		f.logUnreadable(ctx, err)
		return
	}
	news := f.holds.update(apps, holds, f.replica.holds.Now())
	for _, app := range news {
		f.index.expedite(app)
		if len(f.holds.inForce[app]) > 0 {
			f.replica.limiter.revoke(within, app) // wake did so already, unless the message was lost
		}
	}
	if !f.syncPauses(within, news) {
		for _, app := range news {
			f.holds.unread[app] = true // retry
		}
	}
	for key, l := range f.snapshot() {
		if slices.Contains(news, key.app) {
			l.gate.recheck()
		}
	}
}

func (f *fleet) logUnreadable(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.replica.log.Debug("the holds could not be read", slog.Any("err", err))
	}
}

// syncAllPauses writes the pauses of all holds in force, and deletes those of some other
// apps: a replica may have died between the end of a hold and the delete of its pauses.
func (f *fleet) syncAllPauses(ctx context.Context) {
	now := time.Now()
	if now.Sub(f.holds.syncedAt) >= syncPausesEvery && f.syncPauses(ctx, slices.Collect(maps.Keys(f.holds.inForce))) {
		f.holds.syncedAt = now
	}
	turns := (len(f.index.apps) + clearedPerPoll - 1) / clearedPerPoll
	if now.Sub(f.holds.clearedAt) < syncPausesEvery/time.Duration(max(1, turns)) {
		return
	}
	f.holds.clearedAt = now
	some := slices.Clone(rotate(f.index.apps, clearedPerPoll, &f.holds.clearPos))
	f.syncPauses(ctx, slices.DeleteFunc(some, func(app string) bool { return len(f.holds.inForce[app]) > 0 }))
}

// syncPauses writes the pauses of some apps. It reports whether that succeeded.
func (f *fleet) syncPauses(ctx context.Context, apps []string) bool {
	if len(apps) == 0 {
		return true
	}
	var holds []hold.Hold
	for _, app := range apps {
		holds = append(holds, f.holds.inForce[app]...)
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err := SyncPauses(ctx, f.replica.rdb, apps, holds)
	if err != nil {
		f.replica.log.Debug("the pauses of asynq's queues could not be written", slog.Any("err", err))
	}
	return err == nil
}

// countHeld counts the pending tasks of held lanes, and of open lanes that are awake.
func (f *fleet) countHeld(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	waiting := f.depths()
	var lanes, others []laneKey
	for app := range f.holds.inForce {
		for _, typ := range f.index.types {
			switch key := (laneKey{app, typ}); {
			case !f.holds.held(key):
			case waiting[key] > 0:
				lanes = append(lanes, key)
			default:
				others = append(others, key)
			}
		}
	}
	others = rotate(others, countedPerPoll, &f.holds.countPos)
	pending, err := lanesWithPending(ctx, f.replica.rdb, others)
	if err != nil {
		return // the next poll logs it
	}
	lanes = slices.AppendSeq(lanes, maps.Keys(pending))
	for key, l := range f.snapshot() {
		if !l.gate.asleep.Load() {
			lanes = append(lanes, key)
		}
	}
	if len(lanes) == 0 {
		return
	}
	if depth, err := pendingCounts(ctx, f.replica.rdb, lanes); err == nil {
		f.setDepth(depth)
	}
}

// closeHeld closes the lanes that are held and have no running handlers.
func (f *fleet) closeHeld() {
	for key, l := range f.snapshot() {
		if l.active.Load() == 0 && f.holds.held(key) {
			f.close(key, l)
		}
	}
}

// pendingCounts returns the numbers of pending tasks of some lanes.
func pendingCounts(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]int64, error) {
	type reply struct{ urgent, bulk *redis.IntCmd }
	replies := make([]reply, len(lanes))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range lanes {
			replies[i] = reply{p.LLen(ctx, keysOf(lane, tasks.Urgent).pending), p.LLen(ctx, keysOf(lane, tasks.Bulk).pending)}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]int64, len(lanes))
	for i, lane := range lanes {
		found[lane] = replies[i].urgent.Val() + replies[i].bulk.Val()
	}
	return found, nil
}
