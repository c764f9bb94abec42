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
	queuesPerLook = 2 * existsChunk / 4 // two EXISTS
	looksPerTurn  = 10
	sweptPerLook  = existsChunk / 4
)

const (
	// queueSet is asynq's set of all queue names.
	queueSet = "asynq:queues"
	// setEvery is how often the set is read although its size is the same, or at most when
	// it is large.
	setEvery = 30 * time.Second
	setLarge = 10_000
)

// queueIndex decides which queues a look asks for. There may be a hundred thousand: all apps
// × all types × two. Of those only the ones exist that tasks were enqueued in; asynq has a
// set of them. These are looked at in turn, all of them within five seconds and twice a
// second when they are few. The others are swept through in minutes: a set that is lost
// strands no task.
type queueIndex struct {
	apps  []string // sorted
	types []string

	known   []queueRef // that exist or existed
	at      map[queueRef]bool
	size    int64                 // of the set when it was read
	read    time.Time             // when it was
	turn    int                   // of known
	sweep   int                   // of all
	started bool                  // all were looked at once
	soon    map[queueRef]bool     // to be looked at next
	due     map[laneKey]time.Time // when the first delayed task of a closed lane is due
}

func newQueueIndex(apps map[string]App) *queueIndex {
	x := &queueIndex{at: make(map[queueRef]bool), soon: make(map[queueRef]bool), due: make(map[laneKey]time.Time)}
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
	if !x.at[q] {
		x.at[q] = true
		x.known = append(x.known, q)
		x.soon[q] = true
	}
}

// hurry has an app's queues looked at next.
func (x *queueIndex) hurry(app string) {
	for _, typ := range x.types {
		for _, q := range queuesOf(laneKey{app, typ}) {
			x.soon[q] = true
		}
	}
}

// later has a closed lane looked at again when its first delayed task is due; zero is none.
func (x *queueIndex) later(lane laneKey, due time.Time) {
	if old, known := x.due[lane]; !due.IsZero() && (!known || due.Before(old)) {
		x.due[lane] = due
	}
}

// all counts the queues that there may be, and queue is the i-th of them.
func (x *queueIndex) all() int { return 2 * len(x.apps) * len(x.types) }

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
	for q := range x.soon {
		take(q)
	}
	clear(x.soon)
	for lane, due := range x.due {
		if !due.After(now.Add(dueSoon)) {
			delete(x.due, lane)
			for _, q := range queuesOf(lane) {
				take(q)
			}
		}
	}
	some, others := max(queuesPerLook, (len(x.known)+looksPerTurn-1)/looksPerTurn), sweptPerLook
	if !x.started {
		x.started, some, others = true, len(x.known), x.all()
	}
	for range min(some, len(x.known)) {
		x.turn = (x.turn + 1) % len(x.known)
		take(x.known[x.turn])
	}
	for range min(others, x.all()) {
		x.sweep = (x.sweep + 1) % x.all()
		take(x.queue(x.sweep))
	}
	return queues
}

// again has queues looked at next that a look got no answer about.
func (x *queueIndex) again(queues []queueRef) {
	for _, q := range queues {
		x.soon[q] = true
	}
}

// refresh reads asynq's set when it has changed. mine tells of which apps.
func (x *queueIndex) refresh(ctx context.Context, rdb redis.UniversalClient, mine map[string]App) error {
	if !x.read.IsZero() {
		size, err := rdb.SCard(ctx, queueSet).Result()
		if err != nil {
			return fmt.Errorf("look at the queues: %w", err)
		}
		old := time.Since(x.read) >= setEvery
		if size == x.size && !old || size > setLarge && time.Since(x.read) < setEvery/6 {
			return nil
		}
	}
	names, err := rdb.SMembers(ctx, queueSet).Result()
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
	x.size, x.read = int64(len(names)), time.Now()
	return nil
}
