package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

// laneDepth is what the queues of a lane hold: tasks that are pending and active, and when the
// first one of the others is due; zero when there is none.
type laneDepth struct {
	pending, active int64
	due             time.Time
}

// existsChunk is how many keys one EXISTS asks for.
const existsChunk = 500

// queueRef is one queue of a lane.
type queueRef struct {
	lane     laneKey
	priority tasks.Priority
}

// queuesOf are both queues of a lane.
func queuesOf(lane laneKey) []queueRef {
	return []queueRef{{lane, tasks.Urgent}, {lane, tasks.Bulk}}
}

func (q queueRef) keys() queueKeys { return keysOf(q.lane, q.priority) }

// queueDepths finds the lanes whose queues have tasks, pending, active, or for later. As long as
// no queue holds anything, it costs one EXISTS for some hundred queues; one that does
// costs a question to each queue of its block.
func queueDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneDepth, error) {
	filled, err := filterExisting(ctx, rdb, queues, func(q queueRef) []string { return q.keys().all() }, existsChunk/len(queueKeys{}.all()), 1)
	if err != nil || len(filled) == 0 {
		return nil, err
	}
	return readDepths(ctx, rdb, filled)
}

// queueKeys are asynq's keys of one queue.
type queueKeys struct {
	pending, active, scheduled, retried string
}

func keysOf(lane laneKey, p tasks.Priority) queueKeys {
	prefix := "asynq:{" + tasks.QueueName(lane.app, lane.typ, p) + "}:"
	return queueKeys{prefix + "pending", prefix + "active", prefix + "scheduled", prefix + "retry"}
}

func (q queueKeys) all() []string { return []string{q.pending, q.active, q.scheduled, q.retried} }

// filterExisting leaves out the items that have none of their keys in Redis. It asks for blocks of
// so many items in one command each, then for smaller blocks of those blocks that have
// something. Blocks whose last size is not 1 stay whole.
func filterExisting[T any](ctx context.Context, rdb redis.UniversalClient, items []T, keys func(T) []string, sizes ...int) ([]T, error) {
	if _, cluster := rdb.(*redis.ClusterClient); cluster { // the keys of two queues may not meet in one command
		sizes = []int{1}
	}
	for _, size := range sizes {
		if len(items) == 0 {
			return nil, nil
		}
		var err error
		if items, err = nonEmptyBlocks(ctx, rdb, items, keys, size); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// nonEmptyBlocks leaves out the blocks that hold nothing.
func nonEmptyBlocks[T any](ctx context.Context, rdb redis.UniversalClient, items []T, keys func(T) []string, atOnce int) ([]T, error) {
	blocks := slices.Collect(slices.Chunk(items, atOnce))
	replies := make([]*redis.IntCmd, len(blocks))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, block := range blocks {
			var all []string
			for _, item := range block {
				all = append(all, keys(item)...)
			}
			replies[i] = p.Exists(ctx, all...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the queues: %w", err)
	}
	var filled []T
	for i, block := range blocks {
		if replies[i].Val() > 0 {
			filled = append(filled, block...)
		}
	}
	return filled, nil
}

// lanesWithPending finds the lanes that have tasks pending.
func lanesWithPending(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey) (map[laneKey]bool, error) {
	var queues []queueRef
	for _, lane := range lanes {
		queues = append(queues, queuesOf(lane)...)
	}
	filled, err := filterExisting(ctx, rdb, queues, func(q queueRef) []string { return []string{q.keys().pending} }, existsChunk, 1)
	if err != nil {
		return nil, err
	}
	found := make(map[laneKey]bool, len(filled))
	for _, q := range filled {
		found[q.lane] = true
	}
	return found, nil
}

func readDepths(ctx context.Context, rdb redis.UniversalClient, queues []queueRef) (map[laneKey]laneDepth, error) {
	type reply struct {
		pending, active   *redis.IntCmd
		scheduled, retrys *redis.ZSliceCmd
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
		return nil, fmt.Errorf("look at the queues: %w", err)
	}
	found := make(map[laneKey]laneDepth)
	for i, q := range queues {
		r, w := replies[i], found[q.lane]
		w.pending += r.pending.Val()
		w.active += r.active.Val()
		w.due = earlier(earlier(w.due, r.scheduled.Val()), r.retrys.Val())
		if w != (laneDepth{}) {
			found[q.lane] = w
		}
	}
	return found, nil
}

// earlier returns the time of the first task, or t if that is earlier and not zero.
func earlier(t time.Time, first []redis.Z) time.Time {
	if len(first) == 0 {
		return t
	}
	if due := time.Unix(int64(first[0].Score), 0); t.IsZero() || due.Before(t) {
		return due
	}
	return t
}

// hasWorkBy tells whether there is something to do for a lane before a time.
func (w laneDepth) hasWorkBy(until time.Time) bool {
	return w.pending+w.active > 0 || !w.due.IsZero() && !w.due.After(until)
}
