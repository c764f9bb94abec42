// Package backlog reads how full the queues are, from asynq's own keys.
//
//	queues, err := backlog.Read(ctx, rdb, []string{"wx0123456789abcdef"})
//
// It asks with single-key commands in one pipeline, so that it costs one round trip
// and also works on Redis Cluster.
package backlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/tasks"
)

// Lane is the two queues of an (app, type).
type Lane struct {
	App       string `json:"app"`
	Type      string `json:"type"`
	Waiting   int64  `json:"waiting"`   // urgent tasks that are due
	Bulk      int64  `json:"bulk"`      // bulk tasks that are due
	Scheduled int64  `json:"scheduled"` // that wait for their process_at
	Retrying  int64  `json:"retrying"`  // that wait for another attempt
	Active    int64  `json:"active"`    // that a replica has in hand
	Archived  int64  `json:"archived"`  // that asynq put aside: they failed, or their outcome is unknown
	Paused    bool   `json:"paused,omitempty"`
	// PausedBy is the hold that paused it; empty when a person did.
	PausedBy string `json:"paused_by,omitempty"`
}

// Empty tells whether there is nothing to see in a lane. That a hold pauses it is shown
// with the hold.
func (l Lane) Empty() bool {
	return l.Waiting+l.Bulk+l.Scheduled+l.Retrying+l.Active+l.Archived == 0 && (!l.Paused || l.PausedBy != "")
}

// HoldMark begins what a hold writes into asynq's pause key; the hold's scope follows.
const HoldMark = "wxcourier:"

const queueSet = "asynq:queues" // asynq's set of all queue names

// Read lists the lanes of the apps, by app and type, and those of all other queues in
// asynq's set that are named like ours.
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

// queueReplies is what is asked about one queue.
type queueReplies struct {
	lane                                           *Lane
	bulk                                           bool
	pending, active, scheduled, retrying, archived *redis.IntCmd
	paused                                         *redis.StringCmd
}

func readCounts(ctx context.Context, rdb redis.UniversalClient, lanes map[[2]string]*Lane) error {
	if len(lanes) == 0 {
		return nil
	}
	var asked []queueReplies
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, lane := range lanes {
			for _, priority := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
				prefix := "asynq:{" + tasks.QueueName(lane.App, lane.Type, priority) + "}:"
				asked = append(asked, queueReplies{
					lane: lane, bulk: priority == tasks.Bulk,
					pending: p.LLen(ctx, prefix+"pending"), active: p.LLen(ctx, prefix+"active"),
					scheduled: p.ZCard(ctx, prefix+"scheduled"), retrying: p.ZCard(ctx, prefix+"retry"),
					archived: p.ZCard(ctx, prefix+"archived"), paused: p.Get(ctx, prefix+"paused"),
				})
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) { // which a queue that is not paused answers
		return fmt.Errorf("measure the queues: %w", err)
	}
	for _, r := range asked {
		r.add()
	}
	return nil
}

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
		if hold, ok := strings.CutPrefix(r.paused.Val(), HoldMark); ok {
			l.PausedBy = hold
		}
	}
}
