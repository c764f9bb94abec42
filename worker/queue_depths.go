package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/exists"
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

func (q queueRef) keys() queueKeys { return keysOf(q.lane, q.priority) }

// queueDepths returns the depths of the lanes whose queues have tasks: pending, active or
// delayed. Empty queues cost one EXISTS for some hundred of them. A queue with tasks costs
// one more EXISTS for each queue of its block.
func queueDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneDepth, error) {
	filled, err := exists.Filter(ctx, rdb, queues, func(q queueRef) []string { return q.keys().all() }, exists.MaxKeys/len(queueKeys{}.all()), 1)
	if err != nil || len(filled) == 0 {
		return nil, err
	}
	return readDepths(ctx, rdb, filled)
}

// queueKeys are asynq's keys of one queue.
type queueKeys struct {
	pending, active, scheduled, retried string
}

// keysOf returns the keys of one queue.
func keysOf(lane laneKey, p tasks.Priority) queueKeys {
	queue := tasks.QueueName(lane.app, lane.typ, p)
	return queueKeys{
		asynqwire.Key(queue, asynqwire.Pending), asynqwire.Key(queue, asynqwire.Active),
		asynqwire.Key(queue, asynqwire.Scheduled), asynqwire.Key(queue, asynqwire.Retry),
	}
}

func (q queueKeys) all() []string { return []string{q.pending, q.active, q.scheduled, q.retried} }

// lanesWithPending returns the lanes that have pending tasks.
func lanesWithPending(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]bool, error) {
	var queues []queueRef
	for _, lane := range lanes {
		queues = append(queues, queuesOf(lane)...)
	}
	filled, err := exists.Filter(ctx, rdb, queues, func(q queueRef) []string { return []string{q.keys().pending} }, exists.MaxKeys, 1)
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]bool, len(filled))
	for _, q := range filled {
		found[q.lane] = true
	}
	return found, nil
}

// readDepths counts the tasks of some queues, by lane.
func readDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneDepth, error) {
	type reply struct {
		pending, active  *redis.IntCmd
		scheduled, retry *redis.ZSliceCmd
	}
	replies := make([]reply, len(queues))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, q := range queues {
			keys := q.keys()
			replies[i] = reply{
				p.LLen(ctx, keys.pending), p.LLen(ctx, keys.active),
				p.ZRangeWithScores(ctx, keys.scheduled, 0, 0), p.ZRangeWithScores(ctx, keys.retried, 0, 0),
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the queues: %w", err)
	}
	found := make(map[laneKey]laneDepth)
	for i, q := range queues {
		r, w := replies[i], found[q.lane]
		w.pending += r.pending.Val()
		w.active += r.active.Val()
		w.due = earlier(earlier(w.due, r.scheduled.Val()), r.retry.Val())
		if w != (laneDepth{}) {
			found[q.lane] = w
		}
	}
	return found, nil
}

// earlier returns the due time of the first task, or t where t is earlier and not zero.
func earlier(t time.Time, first []redis.Z) time.Time {
	if len(first) == 0 {
		return t
	}
	if due := time.Unix(int64(first[0].Score), 0); t.IsZero() || due.Before(t) {
		return due
	}
	return t
}

// hasWorkBy reports whether a lane has pending or active tasks, or a delayed task that is due
// by a time.
func (w laneDepth) hasWorkBy(until time.Time) bool {
	return w.pending+w.active > 0 || !w.due.IsZero() && !w.due.After(until)
}
