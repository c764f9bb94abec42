package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

// How many of the queues that are known to exist a look asks for at least, in how many looks
// all of them come, and how many of the others it sweeps through.
const (
	queuesPerPoll = 2 * existsChunk / 4 // two EXISTS
	pollsPerPass  = 10
	sweptPerPoll  = existsChunk / 4
)

const (
	// allQueuesKey is asynq's set of all queue names.
	allQueuesKey = "asynq:queues"
	// rereadSetAfter is how often the set is read although its size is the same, or at most when
	// it is large.
	rereadSetAfter = 30 * time.Second
	largeSet       = 10_000
)

// queueIndex decides which queues a look asks for. There may be a hundred thousand: all apps
// × all types × two. Of those only the ones exist that tasks were enqueued in; asynq has a
// set of them. These are looked at in turn, all of them within five seconds and twice a
// second when they are few. The others are swept through in minutes: a set that is lost
// strands no task.
type queueIndex struct {
	apps  []string // sorted
	types []string

	known    []queueRef // that exist or existed
	isKnown  map[queueRef]bool
	size     int64                 // of the set when it was read
	readAt   time.Time             // when it was
	knownPos int                   // of known
	sweepPos int                   // of all
	started  bool                  // all were looked at once
	pollNext map[queueRef]bool     // to be looked at next
	due      map[laneKey]time.Time // when the first delayed task of a closed lane is due
}

func newQueueIndex(apps map[string]App) *queueIndex {
	x := &queueIndex{isKnown: make(map[queueRef]bool), pollNext: make(map[queueRef]bool), due: make(map[laneKey]time.Time)}
	for app := range apps {
		x.apps = append(x.apps, app)
	}
	slices.Sort(x.apps)
	for _, spec := range tasks.Catalog() {
		x.types = append(x.types, spec.Type)
	}
	slices.Sort(x.types)
	return x
}

// add takes a queue into those that are looked at often, and has it looked at next.
func (x *queueIndex) add(q queueRef) {
	if !x.isKnown[q] {
		x.isKnown[q] = true
		x.known = append(x.known, q)
		x.pollNext[q] = true
	}
}

// expedite has an app's queues looked at next.
func (x *queueIndex) expedite(app string) {
	for _, typ := range x.types {
		for _, q := range queuesOf(laneKey{app, typ}) {
			x.pollNext[q] = true
		}
	}
}

// pollAt has a closed lane looked at again when its first delayed task is due; zero is none.
func (x *queueIndex) pollAt(lane laneKey, due time.Time) {
	if old, known := x.due[lane]; !due.IsZero() && (!known || due.Before(old)) {
		x.due[lane] = due
	}
}

// total counts the queues that there may be, and queue is the i-th of them.
func (x *queueIndex) total() int { return 2 * len(x.apps) * len(x.types) }

func (x *queueIndex) queue(i int) queueRef {
	return queuesOf(laneKey{x.apps[i/2/len(x.types)], x.types[i/2%len(x.types)]})[i%2]
}

// next returns the queues to look at now. The first time, these are all.
func (x *queueIndex) next(now time.Time) []queueRef {
	taken := make(map[queueRef]bool)
	var queues []queueRef
	take := func(q queueRef) {
		if !taken[q] {
			taken[q] = true
			queues = append(queues, q)
		}
	}
	for q := range x.pollNext {
		take(q)
	}
	clear(x.pollNext)
	for lane, due := range x.due {
		if !due.After(now.Add(dueSoon)) {
			delete(x.due, lane)
			for _, q := range queuesOf(lane) {
				take(q)
			}
		}
	}
	some, others := max(queuesPerPoll, (len(x.known)+pollsPerPass-1)/pollsPerPass), sweptPerPoll
	if !x.started {
		x.started, some, others = true, len(x.known), x.total()
	}
	for range min(some, len(x.known)) {
		x.knownPos = (x.knownPos + 1) % len(x.known)
		take(x.known[x.knownPos])
	}
	for range min(others, x.total()) {
		x.sweepPos = (x.sweepPos + 1) % x.total()
		take(x.queue(x.sweepPos))
	}
	return queues
}

// retry has queues looked at next that a look got no answer about.
func (x *queueIndex) retry(queues []queueRef) {
	for _, q := range queues {
		x.pollNext[q] = true
	}
}

// refresh reads asynq's set when it has changed. mine tells of which apps.
func (x *queueIndex) refresh(ctx context.Context, rdb redis.UniversalClient, mine map[string]App) error {
	if !x.readAt.IsZero() {
		size, err := rdb.SCard(ctx, allQueuesKey).Result()
		if err != nil {
			return fmt.Errorf("look at the queues: %w", err)
		}
		old := time.Since(x.readAt) >= rereadSetAfter
		if size == x.size && !old || size > largeSet && time.Since(x.readAt) < rereadSetAfter/6 {
			return nil
		}
	}
	names, err := rdb.SMembers(ctx, allQueuesKey).Result()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if app, typ, priority, ok := tasks.ParseQueue(name); ok {
			if _, known := tasks.Lookup(typ); known {
				if _, is := mine[app]; is {
					x.add(queueRef{laneKey{app, typ}, priority})
				}
			}
		}
	}
	x.size, x.readAt = int64(len(names)), time.Now()
	return nil
}
