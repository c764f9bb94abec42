// Package backlog reads the sizes of the queues from asynq's keys.
//
//	queues, err := backlog.Read(ctx, rdb, []string{"wx0123456789abcdef"})
//
// It sends single-key commands in one pipeline, so that it takes one round trip and also works on
// Redis Cluster.
package backlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

// Lane is the number of tasks in the two queues of an (app, type).
type Lane struct {
	App       string `json:"app"`
	Type      string `json:"type"`
	Waiting   int64  `json:"waiting"`   // urgent tasks that are due
	Bulk      int64  `json:"bulk"`      // bulk tasks that are due
	Scheduled int64  `json:"scheduled"` // tasks that wait for their process_at
	Retrying  int64  `json:"retrying"`  // tasks that wait for another attempt
	Active    int64  `json:"active"`    // tasks that a replica is processing
	Archived  int64  `json:"archived"`  // tasks in asynq's archive: failed, or with an unknown outcome
	Paused    bool   `json:"paused,omitempty"`
	// PausedBy is the scope of the hold that paused the queue; empty if an operator paused it.
	PausedBy string `json:"paused_by,omitempty"`
}

// Empty reports whether there is nothing to show for a lane. A pause by a hold is shown with the
// hold.
func (l Lane) Empty() bool {
	return l.Waiting+l.Bulk+l.Scheduled+l.Retrying+l.Active+l.Archived == 0 && (!l.Paused || l.PausedBy != "")
}

const queueSet = "asynq:queues" // asynq's set of all queue names

// Read returns the lanes of the apps, and those of all other queues in asynq's set whose names
// have our format, sorted by app and type.
func Read(ctx context.Context, rdb redis.UniversalClient, apps []string) ([]Lane, error) {
	known, err := rdb.SMembers(ctx, queueSet).Result()
	if err != nil {
		return nil, fmt.Errorf("list the queues: %w", err)
	}
	lanes := make(map[[2]string]*Lane)
	add := func(app, typ string) { lanes[[2]string{app, typ}] = &Lane{App: app, Type: typ} }
	for _, app := range apps {
		for _, spec := range tasks.Catalog() {
			add(app, spec.Type)
		}
	}
	for _, name := range known {
		if app, typ, _, ok := tasks.ParseQueue(name); ok {
			add(app, typ)
		}
	}
	if err := readCounts(ctx, rdb, lanes); err != nil {
		return nil, err
	}
	all := make([]Lane, 0, len(lanes))
	for _, lane := range lanes {
		all = append(all, *lane)
	}
	slices.SortFunc(all, func(a, b Lane) int { return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Type, b.Type)) })
	return all, nil
}

// queueReplies are the pending replies for one queue.
type queueReplies struct {
	lane                                           *Lane
	bulk                                           bool
	pending, active, scheduled, retrying, archived *redis.IntCmd
	paused                                         *redis.StringCmd
}

// readCounts sets the counts of lanes.
func readCounts(ctx context.Context, rdb redis.UniversalClient, lanes map[[2]string]*Lane) error {
	if len(lanes) == 0 {
		return nil
	}
	var all []queueReplies
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, lane := range lanes {
			for _, priority := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
				prefix := "asynq:{" + tasks.QueueName(lane.App, lane.Type, priority) + "}:"
				all = append(all, queueReplies{
					lane: lane, bulk: priority == tasks.Bulk,
					pending: p.LLen(ctx, prefix+"pending"), active: p.LLen(ctx, prefix+"active"),
					scheduled: p.ZCard(ctx, prefix+"scheduled"), retrying: p.ZCard(ctx, prefix+"retry"),
					archived: p.ZCard(ctx, prefix+"archived"), paused: p.Get(ctx, prefix+"paused"),
				})
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: a queue is not paused
		return fmt.Errorf("read the sizes of the queues: %w", err)
	}
	for _, r := range all {
		r.add()
	}
	return nil
}

// add adds the replies to the lane.
func (r queueReplies) add() {
	l := r.lane
	if r.bulk {
		l.Bulk += r.pending.Val()
	} else {
		l.Waiting += r.pending.Val()
	}
	l.Active += r.active.Val()
	l.Scheduled += r.scheduled.Val()
	l.Retrying += r.retrying.Val()
	l.Archived += r.archived.Val()
	if r.paused.Err() == nil {
		l.Paused = true
		if scope, ok := hold.ParsePause(r.paused.Val()); ok {
			l.PausedBy = scope
		}
	}
}
