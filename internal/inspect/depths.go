package inspect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
)

// Depth counts the tasks of a queue by their state in asynq. Fields that were not read are
// zero.
type Depth struct {
	Pending   int64     // due tasks
	Active    int64     // tasks that a replica is processing
	Scheduled int64     // tasks that wait for their process_at
	Retrying  int64     // tasks that wait for another attempt
	Archived  int64     // tasks in the archive
	Since     time.Time // since when the next task of Pending is due; zero: there is none
	Due       time.Time // when the first delayed task, scheduled or retrying, is due; zero: there is none
	Paused    bool
	PausedBy  string // the scope of the hold that paused the queue; "": an operator paused it
}

// Fields selects what ReadDepths reads: one command each for every queue, two for Delayed, Due
// and Since.
type Fields uint8

// The fields.
const (
	Pending Fields = 1 << iota
	Active
	Delayed // Depth.Scheduled and Depth.Retrying
	Due
	Archived
	Paused // and PausedBy
	Since
)

// depthReplies are the pending replies for one queue; those of fields that were not asked for
// are nil.
type depthReplies struct {
	pending, active, scheduled, retrying, archived *redis.IntCmd
	firstScheduled, firstRetry                     *redis.ZSliceCmd
	paused                                         *redis.StringCmd
	next                                           *redis.StringSliceCmd // id of the next pending task
	since                                          *redis.StringCmd      // of next
}

// ReadDepths reads the depths of some queues, given by their names, in one round trip, or two
// with Since. The result has the order of the queues.
func ReadDepths(ctx context.Context, rdb redis.UniversalClient, queues []string, fields Fields) ([]Depth, error) {
	if len(queues) == 0 {
		return nil, nil
	}
	replies := make([]depthReplies, len(queues))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, queue := range queues {
			replies[i].request(ctx, p, queue, fields)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: a queue is not paused
		return nil, fmt.Errorf("read the queues: %w", err)
	}
	if fields&Since != 0 {
		if err := readSince(ctx, rdb, queues, replies); err != nil {
			return nil, err
		}
	}
	depths := make([]Depth, len(queues))
	for i, r := range replies {
		depths[i] = r.depth()
	}
	return depths, nil
}

// readSince reads since when the next pending task of each queue is due.
func readSince(ctx context.Context, rdb redis.UniversalClient, queues []string, replies []depthReplies) error {
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range replies {
			if next := replies[i].next.Val(); len(next) > 0 {
				replies[i].since = p.HGet(ctx, asynqwire.TaskKey(queues[i], next[0]), asynqwire.PendingSince)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: the task is no longer pending
		return fmt.Errorf("read the age of tasks: %w", err)
	}
	return nil
}

// request adds the commands for one queue to a pipeline.
func (r *depthReplies) request(ctx context.Context, p redis.Pipeliner, queue string, fields Fields) {
	if fields&Pending != 0 {
		r.pending = p.LLen(ctx, asynqwire.Key(queue, asynqwire.Pending))
	}
	if fields&Active != 0 {
		r.active = p.LLen(ctx, asynqwire.Key(queue, asynqwire.Active))
	}
	if fields&Delayed != 0 {
		r.scheduled = p.ZCard(ctx, asynqwire.Key(queue, asynqwire.Scheduled))
		r.retrying = p.ZCard(ctx, asynqwire.Key(queue, asynqwire.Retry))
	}
	if fields&Due != 0 {
		r.firstScheduled = p.ZRangeWithScores(ctx, asynqwire.Key(queue, asynqwire.Scheduled), 0, 0)
		r.firstRetry = p.ZRangeWithScores(ctx, asynqwire.Key(queue, asynqwire.Retry), 0, 0)
	}
	if fields&Archived != 0 {
		r.archived = p.ZCard(ctx, asynqwire.Key(queue, asynqwire.Archived))
	}
	if fields&Paused != 0 {
		r.paused = p.Get(ctx, asynqwire.Key(queue, asynqwire.Paused))
	}
	if fields&Since != 0 {
		r.next = p.LRange(ctx, asynqwire.Key(queue, asynqwire.Pending), -1, -1)
	}
}

// depth returns the depth that the replies show.
func (r *depthReplies) depth() Depth {
	count := func(c *redis.IntCmd) int64 {
		if c == nil {
			return 0
		}
		return c.Val()
	}
	d := Depth{
		Pending: count(r.pending), Active: count(r.active),
		Scheduled: count(r.scheduled), Retrying: count(r.retrying), Archived: count(r.archived),
	}
	if r.firstScheduled != nil {
		d.Due = earlier(earlier(time.Time{}, r.firstScheduled.Val()), r.firstRetry.Val())
	}
	if r.since != nil {
		if ns, err := r.since.Int64(); err == nil {
			d.Since = time.Unix(0, ns)
		}
	}
	if r.paused != nil && r.paused.Err() == nil {
		d.Paused = true
		d.PausedBy, _ = hold.ParsePause(r.paused.Val())
	}
	return d
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
