package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

// work is what the queues of a lane hold.
type work struct{ pending, active int64 }

// existsChunk is how many keys one EXISTS asks for.
const existsChunk = 500

// survey finds the lanes that have tasks pending or active, or due before a time. As
// long as no queue holds anything, it costs one EXISTS for some sixty lanes; one that does
// costs a question to each queue of its block.
func survey(ctx context.Context, rdb redis.UniversalClient, lanes []laneKey, due time.Time) (map[laneKey]work, error) {
	queues := make([]queueKeys, 0, 2*len(lanes))
	for _, lane := range lanes {
		for _, p := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
			queues = append(queues, keysOf(lane, p))
		}
	}
	// In blocks first. On a cluster the keys of two queues may not meet in one command.
	sizes := []int{existsChunk / len(queueKeys{}.all()), 1}
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		sizes = sizes[1:]
	}
	var err error
	for _, size := range sizes {
		if queues, err = nonEmpty(ctx, rdb, queues, size); err != nil || len(queues) == 0 {
			return nil, err
		}
	}
	return measure(ctx, rdb, queues, due)
}

// queueKeys are asynq's keys of one queue.
type queueKeys struct {
	lane                                laneKey
	pending, active, scheduled, retried string
}

func keysOf(lane laneKey, p tasks.Priority) queueKeys {
	prefix := "asynq:{" + tasks.QueueName(lane.app, lane.typ, p) + "}:"
	return queueKeys{lane, prefix + "pending", prefix + "active", prefix + "scheduled", prefix + "retry"}
}

func (q queueKeys) all() []string { return []string{q.pending, q.active, q.scheduled, q.retried} }

// nonEmpty leaves out the queues that hold nothing. It asks for so many in one command, and
// keeps all of these where any holds something.
func nonEmpty(ctx context.Context, rdb redis.UniversalClient, queues []queueKeys, atOnce int) ([]queueKeys, error) {
	blocks := slices.Collect(slices.Chunk(queues, atOnce))
	replies := make([]*redis.IntCmd, len(blocks))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, block := range blocks {
			var keys []string
			for _, q := range block {
				keys = append(keys, q.all()...)
			}
			replies[i] = p.Exists(ctx, keys...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the queues: %w", err)
	}
	var filled []queueKeys
	for i, block := range blocks {
		if replies[i].Val() > 0 {
			filled = append(filled, block...)
		}
	}
	return filled, nil
}

func measure(ctx context.Context, rdb redis.UniversalClient, queues []queueKeys, due time.Time) (map[laneKey]work, error) {
	type reply struct {
		pending, active   *redis.IntCmd
		scheduled, retrys *redis.ZSliceCmd
	}
	replies := make([]reply, len(queues))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, q := range queues {
			replies[i] = reply{
				p.LLen(ctx, q.pending), p.LLen(ctx, q.active),
				p.ZRangeWithScores(ctx, q.scheduled, 0, 0), p.ZRangeWithScores(ctx, q.retried, 0, 0),
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the queues: %w", err)
	}
	found := make(map[laneKey]work)
	for i, q := range queues {
		r := replies[i]
		if r.pending.Val()+r.active.Val() == 0 && !isDue(r.scheduled.Val(), due) && !isDue(r.retrys.Val(), due) {
			continue
		}
		w := found[q.lane]
		w.pending += r.pending.Val()
		w.active += r.active.Val()
		found[q.lane] = w
	}
	return found, nil
}

func isDue(first []redis.Z, due time.Time) bool {
	return len(first) > 0 && first[0].Score <= float64(due.Unix())
}
