package worker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/exists"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
)

// laneDepth counts the tasks in the queues of a lane: pending, active, and when the first
// delayed task is due; zero when there is none.
type laneDepth struct {
	pending, active int64
	due             time.Time
}

// queueRef is one queue of a lane.
type queueRef struct {
	lane     laneKey
	priority tasks.Priority
}

// queuesOf returns both queues of a lane.
func queuesOf(lane laneKey) []queueRef {
	return []queueRef{{lane, tasks.Urgent}, {lane, tasks.Bulk}}
}

// parseQueue parses the name of a queue. known is false for a type that the catalog does not have: a
// newer producer's tasks wait for newer replicas.
func parseQueue(name string) (q queueRef, known bool) {
	app, lane, priority, _ := tasks.ParseLane(name)
	_, known = tasks.Lookup(tasks.TypeOfLane(lane))
	return queueRef{laneKey{app, lane}, priority}, known
}

// name returns the name of the queue.
func (q queueRef) name() string { return tasks.QueueName(q.lane.app, q.lane.typ, q.priority) }

// keys returns some of asynq's keys of the queue.
func (q queueRef) keys(names ...string) []string {
	queue := q.name()
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = asynqwire.Key(queue, name)
	}
	return keys
}

// queueDepths returns the depths of the lanes whose queues have tasks: pending, active or
// delayed. Empty queues cost one EXISTS for some hundred of them. A queue with tasks costs
// one more EXISTS for each queue of its block.
func queueDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneDepth, error) {
	work := func(q queueRef) []string {
		return q.keys(asynqwire.Pending, asynqwire.Active, asynqwire.Scheduled, asynqwire.Retry)
	}
	filled, err := exists.Filter(ctx, rdb, queues, work, exists.MaxKeys/4, 1)
	if err != nil || len(filled) == 0 {
		return nil, err
	}
	return readDepths(ctx, rdb, filled, inspect.Pending|inspect.Active|inspect.Due)
}

// lanesWithPending returns the lanes that have pending tasks.
func lanesWithPending(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]bool, error) {
	var queues []queueRef
	for _, lane := range lanes {
		queues = append(queues, queuesOf(lane)...)
	}
	filled, err := exists.Filter(ctx, rdb, queues, func(q queueRef) []string { return q.keys(asynqwire.Pending) }, exists.MaxKeys, 1)
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]bool, len(filled))
	for _, q := range filled {
		found[q.lane] = true
	}
	return found, nil
}

// pendingCounts returns the numbers of pending tasks of some lanes.
func pendingCounts(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]int64, error) {
	var queues []queueRef
	for _, lane := range lanes {
		queues = append(queues, queuesOf(lane)...)
	}
	found, err := readDepths(ctx, rdb, queues, inspect.Pending)
	if err != nil {
		return nil, err
	}
	pending := make(map[laneKey]int64, len(lanes))
	for _, lane := range lanes {
		pending[lane] = found[lane].pending
	}
	return pending, nil
}

// laneBacklog is what the metrics say about the tasks of a lane that are not in flight.
type laneBacklog struct {
	retrying, archived int64
	since              time.Time // since when the oldest pending task is due; zero: there is none
}

// backlogs returns the backlogs of the lanes whose queues have tasks that are not in flight. It
// takes four round trips, however many queues there are.
func backlogs(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneBacklog, error) {
	keys := func(q queueRef) []string { return q.keys(asynqwire.Pending, asynqwire.Retry, asynqwire.Archived) }
	filled, err := exists.Filter(ctx, rdb, queues, keys, exists.MaxKeys/3, 1)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(filled))
	for i, q := range filled {
		names[i] = q.name()
	}
	depths, err := inspect.ReadDepths(ctx, rdb, names, inspect.Delayed|inspect.Archived|inspect.Since)
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]laneBacklog)
	for i, q := range filled {
		d, b := depths[i], found[q.lane]
		b.retrying += d.Retrying
		b.archived += d.Archived
		if !d.Since.IsZero() && (b.since.IsZero() || d.Since.Before(b.since)) {
			b.since = d.Since
		}
		found[q.lane] = b
	}
	return found, nil
}

// readDepths counts the tasks of some queues, by lane.
func readDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef, fields inspect.Fields) (map[laneKey]laneDepth, error) {
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.name()
	}
	depths, err := inspect.ReadDepths(ctx, rdb, names, fields)
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]laneDepth)
	for i, q := range queues {
		d, w := depths[i], found[q.lane]
		w.pending += d.Pending
		w.active += d.Active
		if !d.Due.IsZero() && (w.due.IsZero() || d.Due.Before(w.due)) {
			w.due = d.Due
		}
		if w != (laneDepth{}) {
			found[q.lane] = w
		}
	}
	return found, nil
}

// hasWorkBy reports whether a lane has pending or active tasks, or a delayed task that is due
// by a time.
func (w laneDepth) hasWorkBy(until time.Time) bool {
	return w.pending+w.active > 0 || !w.due.IsZero() && !w.due.After(until)
}
