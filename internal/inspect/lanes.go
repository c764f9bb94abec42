// Package inspect reads what waits, what is held and how much of the limits is used: one read
// model for the command status, the metrics and the API.
//
//	state, err := inspect.NewReader(rdb, limiter, holds).Read(ctx, []string{"wx0123456789abcdef"})
//
// A read takes a fixed number of round trips to Redis, however many apps and lanes there are. It
// changes nothing.
package inspect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/exists"
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

// Lanes returns the lanes of the apps, and those of all other queues in asynq's set whose names
// have our format, sorted by app and type. It takes four round trips.
func Lanes(ctx context.Context, rdb redis.UniversalClient, apps []string) ([]Lane, error) {
	known, err := rdb.SMembers(ctx, asynqwire.Queues).Result()
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
		if app, lane, _, ok := tasks.ParseLane(name); ok {
			add(app, lane)
		}
	}
	all := slices.SortedFunc(maps.Values(lanes), func(a, b *Lane) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Type, b.Type))
	})
	if err := readLanes(ctx, rdb, all); err != nil {
		return nil, err
	}
	sorted := make([]Lane, len(all))
	for i, l := range all {
		sorted[i] = *l
	}
	return sorted, nil
}

// queue is one queue of a lane.
type queue struct {
	name string
	lane *Lane
	bulk bool
}

// keys returns the keys of which one exists while there is something to show.
func (q queue) keys() []string {
	var keys []string
	for _, name := range []string{
		asynqwire.Pending, asynqwire.Active, asynqwire.Scheduled, asynqwire.Retry, asynqwire.Archived, asynqwire.Paused,
	} {
		keys = append(keys, asynqwire.Key(q.name, name))
	}
	return keys
}

// readLanes adds the depths of their queues to lanes.
func readLanes(ctx context.Context, rdb redis.UniversalClient, lanes []*Lane) error {
	var queues []queue
	for _, l := range lanes {
		queues = append(queues,
			queue{tasks.QueueName(l.App, l.Type, tasks.Urgent), l, false}, queue{tasks.QueueName(l.App, l.Type, tasks.Bulk), l, true})
	}
	queues, err := exists.Filter(ctx, rdb, queues, queue.keys, exists.MaxKeys/6, 1)
	if err != nil {
		return fmt.Errorf("read the queues: %w", err)
	}
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = q.name
	}
	depths, err := ReadDepths(ctx, rdb, names, Pending|Active|Delayed|Archived|Paused)
	if err != nil {
		return err
	}
	for i, q := range queues {
		q.lane.add(depths[i], q.bulk)
	}
	return nil
}

// add adds the depth of one of its queues to a lane.
func (l *Lane) add(d Depth, bulk bool) {
	if bulk {
		l.Bulk += d.Pending
	} else {
		l.Waiting += d.Pending
	}
	l.Active += d.Active
	l.Scheduled += d.Scheduled
	l.Retrying += d.Retrying
	l.Archived += d.Archived
	if d.Paused {
		l.Paused = true
		l.PausedBy = cmp.Or(d.PausedBy, l.PausedBy)
	}
}
