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
	// slowEvery is how often all holds are read and held lanes are looked at. Messages
	// make it unnecessary, unless one was lost.
	slowEvery = 5 * time.Second
	// mirrorEvery is how often all holds are mirrored, changed or not. It is well within
	// shownFor.
	mirrorEvery = 30 * time.Second
)

// holdings is what the fleet knows of the holds that close lanes.
//
//	unread  a message or the clock says that an app's holds are not what they were;
//	        learn reads them, and keeps the app here while Redis does not answer
//	inForce as they were read last: those of whole apps and types that last
type holdings struct {
	unread   map[string]bool
	inForce  map[string][]ratelimit.Hold // by app
	mirrored time.Time                   // all of them
}

func newHoldings() holdings {
	return holdings{unread: make(map[string]bool), inForce: make(map[string][]ratelimit.Hold)}
}

// stop tells whether a lane is held. Shortly before the hold's end ([dueSoon]) it is no
// more: then it opens, and its gate waits for the end as it does for any permit.
func (h holdings) stop(key laneKey) bool {
	return slices.ContainsFunc(h.inForce[key.app], func(h ratelimit.Hold) bool { return stands(h, key) })
}

// expire drops the holds that end soon, and has what they leave behind cleared up.
func (h holdings) expire(now time.Time) {
	for app, holds := range h.inForce {
		left := slices.DeleteFunc(slices.Clone(holds), func(h ratelimit.Hold) bool { return !lasts(h, now) })
		if len(left) < len(holds) {
			h.inForce[app] = left
			h.unread[app] = true
		}
	}
}

// take takes in what was read of some apps, and returns those for which it is news.
func (h holdings) take(apps []string, holds []ratelimit.Hold, now time.Time) (news []string) {
	read := make(map[string][]ratelimit.Hold)
	for _, hold := range holds {
		_, typed := tasks.Lookup(hold.Scope)
		if lasts(hold, now) && (typed || hold.Scope == ratelimit.WholeApp) {
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
		h.inForce[app] = read[app]
		if len(read[app]) == 0 {
			delete(h.inForce, app)
		}
	}
	return news
}

// learn reads the holds of the apps that something has happened to.
func (f *fleet) learn(ctx context.Context) {
	f.holds.expire(time.Now())
	if len(f.holds.unread) > 0 {
		f.read(ctx, slices.Sorted(maps.Keys(f.holds.unread)))
	}
}

// lookAtHolds reads all holds and measures the held lanes: slowly, since what happens to
// them is told by messages.
func (f *fleet) lookAtHolds(ctx context.Context) {
	f.read(ctx, slices.Sorted(maps.Keys(f.replica.apps)))
	held, _ := f.parted()
	if len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	waiting, err := pendingOf(ctx, f.replica.rdb, held)
	if err != nil {
		return // the next look says so
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range held {
		delete(f.depth, key)
		if n := waiting[key]; n > 0 {
			f.depth[key] = n
		}
	}
}

// read reads the holds of some apps, mirrors what is new, and has the lanes ask again:
// after the mirror, or they would find their queues still paused.
func (f *fleet) read(ctx context.Context, apps []string) {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	holds, err := f.replica.limiter.Holds(ctx, apps...)
	if err != nil {
		if ctx.Err() == nil {
			f.replica.log.Debug("the holds could not be read", slog.Any("err", err))
		}
		return
	}
	news := f.holds.take(apps, holds, time.Now())
	for _, app := range news {
		if len(f.holds.inForce[app]) > 0 {
			f.replica.limiter.recall(ctx, app) // again, or for the first time where the message was lost
		}
	}
	stale, all := news, time.Since(f.holds.mirrored) >= mirrorEvery
	if all = all && len(apps) == len(f.replica.apps); all {
		stale = apps
	}
	switch err := Mirror(ctx, f.replica.rdb, stale, holds); {
	case err == nil && all:
		f.holds.mirrored = time.Now()
	case err != nil:
		f.replica.log.Debug("the holds could not be shown in asynq's queues", slog.Any("err", err))
		for _, app := range news {
			f.holds.unread[app] = true // to be tried again
		}
	}
	for key, l := range f.snapshot() {
		if slices.Contains(news, key.app) {
			l.gate.wake()
		}
	}
}

// parted is every lane that there may be: those that are held, and the others.
func (f *fleet) parted() (held, free []laneKey) {
	for _, key := range f.replica.laneKeys() {
		if f.holds.stop(key) {
			held = append(held, key)
		} else {
			free = append(free, key)
		}
	}
	return held, free
}

// setDepth keeps what was found. Of held lanes it keeps what is known.
func (f *fleet) setDepth(held []laneKey, found map[laneKey]work) {
	depth := make(map[laneKey]int64, len(found)+len(held))
	for key, w := range found {
		depth[key] = w.pending
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range held {
		if n, known := f.depth[key]; known {
			depth[key] = n
		}
	}
	f.depth = depth
}

// closeHeld closes the lanes that are held, once they have finished what is in hand.
func (f *fleet) closeHeld() {
	for key, l := range f.snapshot() {
		if l.active.Load() == 0 && f.holds.stop(key) {
			f.close(key, l)
		}
	}
}

// pendingOf counts the pending tasks of some lanes.
func pendingOf(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]int64, error) {
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
