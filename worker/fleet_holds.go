package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// pollHoldsEvery is how often all holds are read and held lanes are looked at. Messages
	// make it unnecessary, unless one was lost.
	pollHoldsEvery = 5 * time.Second
	// syncPausesEvery is how often all holds are mirrored, changed or not. It is well within
	// shownFor.
	syncPausesEvery = 30 * time.Second
	// readPerPoll is how many apps that have holds are read in one slow look, and
	// pausesAtOnce of how many others the pauses are cleared up.
	readPerPoll   = 50
	clearedPerPoll = 100
	// countedPerPoll is how many held lanes are looked at in one slow look that had nothing
	// pending the time before.
	countedPerPoll = 5000
	// keepRecords is how long an app that has no hold in force is read with those that have,
	// since its records may be there.
	keepRecords = time.Hour
)

// holdCache is what the fleet knows of the holds that close lanes.
//
//	unread  a message or the clock says that an app's holds are not what they were;
//	        learn reads them, and keeps the app here while Redis does not answer
//	inForce as they were read last: those of whole apps and types that last
//	records the apps that have records, ended ones too, and when they had a hold in force
//
// The slow look reads the apps with records in turn. Of the others it asks only whether
// they have any.
type holdCache struct {
	unread   map[string]bool
	inForce  map[string][]ratelimit.Hold // by app
	records  map[string]time.Time        // by app
	syncedAt time.Time                   // those in force
	clearedAt  time.Time                   // the pauses of some other apps

	readPos, clearPos, countPos int // positions among the apps, and among the held lanes
}

func newHoldCache() holdCache {
	return holdCache{
		unread: make(map[string]bool), inForce: make(map[string][]ratelimit.Hold), records: make(map[string]time.Time),
	}
}

// held tells whether a lane is held. Shortly before the hold's end ([dueSoon]) it is no
// more: then it opens, and its gate waits for the end as it does for any permit.
func (h holdCache) held(key laneKey) bool {
	return slices.ContainsFunc(h.inForce[key.app], func(h ratelimit.Hold) bool { return coversLane(h, key) })
}

// expire drops the holds that end soon, and has what they leave behind cleared up.
func (h holdCache) expire(now time.Time) {
	for app, holds := range h.inForce {
		left := slices.DeleteFunc(slices.Clone(holds), func(h ratelimit.Hold) bool { return !closesLanes(h, now) })
		if len(left) < len(holds) {
			h.inForce[app] = left
			h.unread[app] = true
		}
	}
}

// update takes in what was read of some apps, and returns those for which it is news.
func (h holdCache) update(apps []string, holds []ratelimit.Hold, now time.Time) (news []string) {
	read := make(map[string][]ratelimit.Hold)
	for _, hold := range holds {
		_, typed := tasks.Lookup(hold.Scope)
		if closesLanes(hold, now) && (typed || hold.Scope == ratelimit.WholeApp) {
			read[hold.App] = append(read[hold.App], hold)
		}
	}
	for _, app := range apps {
		same := slices.EqualFunc(h.inForce[app], read[app], func(a, b ratelimit.Hold) bool {
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

// readChangedHolds reads the holds of the apps that something has happened to.
func (f *fleet) readChangedHolds(ctx context.Context) {
	f.holds.expire(time.Now())
	if len(f.holds.unread) > 0 {
		f.readHolds(ctx, slices.Sorted(maps.Keys(f.holds.unread)))
	}
}

// pollHolds reads holds and measures the held lanes: slowly, since what happens to them
// is told by messages.
func (f *fleet) pollHolds(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var others []string
	for _, app := range f.index.apps {
		if _, known := f.holds.records[app]; !known {
			others = append(others, app)
		}
	}
	found, err := f.replica.limiter.Recorded(within, others...)
	if err != nil {
		f.logUnreadable(ctx, err)
		return
	}
	known := slices.Sorted(maps.Keys(f.holds.records))
	f.readHolds(ctx, append(found, rotate(known, readPerPoll, &f.holds.readPos)...))
	f.syncAllPauses(ctx)
	f.countHeld(ctx)
}

// rotate returns the next n of all, round and round.
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

// readHolds reads the holds of some apps, mirrors what is new, and has the lanes ask again:
// after the mirror, or they would find their queues still paused.
func (f *fleet) readHolds(ctx context.Context, apps []string) {
	if len(apps) == 0 {
		return
	}
	within, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	holds, err := f.replica.limiter.Holds(within, apps...)
	if err != nil {
		f.logUnreadable(ctx, err)
		return
	}
	news := f.holds.update(apps, holds, time.Now())
	for _, app := range news {
		f.index.expedite(app)
		if len(f.holds.inForce[app]) > 0 {
			f.replica.limiter.revoke(within, app) // again, or for the first time where the message was lost
		}
	}
	if !f.syncPauses(within, news) {
		for _, app := range news {
			f.holds.unread[app] = true // to be tried again
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

// syncAllPauses shows the holds in force again, and clears up the pauses of some other apps: a
// replica may have died between the end of a hold and its mirror.
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

// syncPauses mirrors the holds of some apps.
func (f *fleet) syncPauses(ctx context.Context, apps []string) bool {
	if len(apps) == 0 {
		return true
	}
	var holds []ratelimit.Hold
	for _, app := range apps {
		holds = append(holds, f.holds.inForce[app]...)
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	err := SyncPauses(ctx, f.replica.rdb, apps, holds)
	if err != nil {
		f.replica.log.Debug("the holds could not be shown in asynq's queues", slog.Any("err", err))
	}
	return err == nil
}

// countHeld counts what waits in the held lanes, and in the open ones that are awake.
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
		return // the next look says so
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

// closeHeld closes the lanes that are held, once they have finished what is in hand.
func (f *fleet) closeHeld() {
	for key, l := range f.snapshot() {
		if l.active.Load() == 0 && f.holds.held(key) {
			f.close(key, l)
		}
	}
}

// pendingCounts counts the pending tasks of some lanes.
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
