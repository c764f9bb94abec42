package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/exists"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// queuesPerPoll is the minimum of known queues that one poll checks: two EXISTS.
	queuesPerPoll = 2 * exists.MaxKeys / 4
	// pollsPerPass is in how many polls all known queues are checked.
	pollsPerPass = 10
	// sweptPerPoll is how many of all possible queues one poll checks: one EXISTS.
	sweptPerPoll = exists.MaxKeys / 4
)

const (
	// rereadSetAfter is the age at which the set is read again although its size has not
	// changed. A set above largeSet is read at most once in a sixth of it.
	rereadSetAfter = 30 * time.Second
	largeSet       = 10_000
)

// queueIndex decides which queues a poll checks. There may be a hundred thousand: all apps ×
// all types × two. Only queues in which tasks were enqueued exist; asynq keeps a set of
// them. All of these known queues are checked within five seconds, or twice a second when
// they are few. All possible queues are checked within minutes, so that tasks are found even
// where the set was lost.
type queueIndex struct {
	apps  []string // sorted
	types []string

	known    []queueRef // queues that exist or existed
	isKnown  map[queueRef]bool
	size     int64                 // of the set at readAt
	readAt   time.Time             // when the set was read
	knownPos int                   // position in known
	sweepPos int                   // position among all possible queues
	started  bool                  // next has returned all queues once
	pollNext map[queueRef]bool     // returned by the next call of next
	due      map[laneKey]time.Time // when the first delayed task of a closed lane is due
}

// newQueueIndex returns an index of the queues of apps, which must be sorted.
func newQueueIndex(apps []string) *queueIndex {
	x := &queueIndex{apps: apps, isKnown: make(map[queueRef]bool), pollNext: make(map[queueRef]bool), due: make(map[laneKey]time.Time)}
	x.types = tasks.Types()
	slices.Sort(x.types)
	return x
}

// serves reports whether an app is one of the index.
func (x *queueIndex) serves(app string) bool {
	_, is := slices.BinarySearch(x.apps, app)
	return is
}

// add adds a queue to the known ones, to be checked in the next poll.
func (x *queueIndex) add(q queueRef) {
	if !x.isKnown[q] {
		x.isKnown[q] = true
		x.known = append(x.known, q)
		x.pollNext[q] = true
	}
}

// expedite adds all queues of an app to the next poll.
func (x *queueIndex) expedite(app string) {
	for _, typ := range x.types {
		for _, q := range queuesOf(laneKey{app, typ}) {
			x.pollNext[q] = true
		}
	}
}

// pollAt schedules a check of a closed lane for when its first delayed task is due. It
// ignores the zero time.
func (x *queueIndex) pollAt(lane laneKey, due time.Time) {
	if old, known := x.due[lane]; !due.IsZero() && (!known || due.Before(old)) {
		x.due[lane] = due
	}
}

// total returns the number of possible queues; queue returns the i-th of them.
func (x *queueIndex) total() int { return 2 * len(x.apps) * len(x.types) }

func (x *queueIndex) queue(i int) queueRef {
	return queuesOf(laneKey{x.apps[i/2/len(x.types)], x.types[i/2%len(x.types)]})[i%2]
}

// next returns the queues to check in this poll. The first call returns all queues.
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

// retry adds queues to the next poll, after a poll that failed.
func (x *queueIndex) retry(queues []queueRef) {
	for _, q := range queues {
		x.pollNext[q] = true
	}
}

// refresh reads asynq's set when its size has changed or it was last read long ago.
func (x *queueIndex) refresh(ctx context.Context, rdb redis.UniversalClient) error {
	if !x.readAt.IsZero() {
		size, err := rdb.SCard(ctx, asynqwire.Queues).Result()
		if err != nil {
			return fmt.Errorf("count the queues: %w", err)
		}
		old := time.Since(x.readAt) >= rereadSetAfter
		if size == x.size && !old || size > largeSet && time.Since(x.readAt) < rereadSetAfter/6 {
			return nil
		}
	}
	names, err := rdb.SMembers(ctx, asynqwire.Queues).Result()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	slices.Sort(names)
	for _, name := range names {
		if q, known := parseQueue(name); known && x.serves(q.lane.app) {
			x.add(q)
		}
	}
	x.size, x.readAt = int64(len(names)), time.Now()
	return nil
}
