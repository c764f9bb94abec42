package inspect

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

// OpenQuery selects tasks that have no outcome, by where they are.
type OpenQuery struct {
	Place  Place    // scheduled, waiting, sending, retrying or archived
	Queues []string // in which they are
	Match  func(*Found) bool
	Limit  int    // a page ends with so many, or up to 49 more
	Cursor string // of the page before; "": the first
}

// openPage is how many ids are read at a time, and openScan in one call.
const (
	openPage = 50
	openScan = 1000
)

// Open lists tasks without an outcome, queue by queue: in each the newest first of those that are due
// or are sent, and the next ones first of those that have a time. A page without items may have a
// cursor: it ended after 1,000 tasks. The list changes while it is read, so that a task may be missing
// on later pages, or occur twice. The error is resultlog.ErrCursor for a cursor that is of no page.
func (r *Reader) Open(ctx context.Context, q OpenQuery) (FoundTasks, error) {
	queues := slices.Compact(slices.Sorted(slices.Values(q.Queues)))
	at, offset, err := parseOpenCursor(q.Cursor)
	if err != nil {
		return FoundTasks{}, err
	}
	all := FoundTasks{Items: []Found{}}
	scanned := 0
	for _, queue := range queues {
		if queue < at {
			continue
		}
		if queue != at {
			offset = 0
		}
		for more := true; more; {
			if scanned >= openScan || len(all.Items) >= q.Limit {
				all.Cursor = queue + "|" + strconv.FormatInt(offset, 10)
				return all, nil
			}
			ids, err := r.openIDs(ctx, q.Place, queue, offset)
			if err != nil {
				return FoundTasks{}, err
			}
			offset, scanned, more = offset+int64(len(ids)), scanned+len(ids), len(ids) == openPage
			found, err := r.readQueued(ctx, queue, ids)
			if err != nil {
				return FoundTasks{}, err
			}
			for i := range found {
				if found[i].Outcome == "" && (q.Match == nil || q.Match(&found[i])) {
					all.Items = append(all.Items, found[i])
				}
			}
		}
	}
	return all, nil
}

func parseOpenCursor(text string) (queue string, offset int64, err error) {
	if text == "" {
		return "", 0, nil
	}
	queue, number, _ := strings.Cut(text, "|")
	offset, err = strconv.ParseInt(number, 10, 64)
	if _, _, _, ok := tasks.ParseQueue(queue); !ok || err != nil || offset < 0 {
		return "", 0, resultlog.ErrCursor
	}
	return queue, offset, nil
}

// openIDs reads asynq's ids of tasks of a queue.
func (r *Reader) openIDs(ctx context.Context, place Place, queue string, offset int64) ([]string, error) {
	var ids *redis.StringSliceCmd
	last := offset + openPage - 1
	switch place {
	case PlaceScheduled:
		ids = r.rdb.ZRange(ctx, asynqwire.Key(queue, asynqwire.Scheduled), offset, last)
	case PlaceRetrying:
		ids = r.rdb.ZRange(ctx, asynqwire.Key(queue, asynqwire.Retry), offset, last)
	case PlaceArchived:
		ids = r.rdb.ZRevRange(ctx, asynqwire.Key(queue, asynqwire.Archived), offset, last)
	case PlaceSending:
		ids = r.rdb.LRange(ctx, asynqwire.Key(queue, asynqwire.Active), offset, last)
	case PlaceWaiting:
		ids = r.rdb.LRange(ctx, asynqwire.Key(queue, asynqwire.Pending), offset, last)
	case PlaceDone, PlaceCanceled, PlaceDeleted:
		return nil, fmt.Errorf("inspect: tasks that are %s cannot be listed by queue", place)
	}
	all, err := ids.Result()
	if err != nil {
		return nil, fmt.Errorf("read a queue: %w", err)
	}
	return all, nil
}

// readQueued reads tasks of a queue by their ids in asynq.
func (r *Reader) readQueued(ctx context.Context, queue string, ids []string) ([]Found, error) {
	app, _, _, _ := tasks.ParseQueue(queue)
	var refs []ledger.Ref
	for _, id := range ids {
		if own, ok := strings.CutPrefix(id, asynqID(app, "")); ok {
			refs = append(refs, ledger.Ref{App: app, ID: own})
		}
	}
	return readEach(refs, func(ref ledger.Ref) (Found, error) { return r.readOpen(ctx, ref, []string{queue}) })
}

// QueuesIn returns the queues of lanes that have tasks in a place. A lane has two.
func QueuesIn(lanes []Lane, place Place) (queues []string) {
	for _, l := range lanes {
		n := map[Place]int64{
			PlaceScheduled: l.Scheduled, PlaceWaiting: l.Waiting + l.Bulk, PlaceSending: l.Active, PlaceRetrying: l.Retrying, PlaceArchived: l.Archived,
		}[place]
		if n > 0 {
			queues = append(queues, tasks.QueueNames(l.App, l.Type)...)
		}
	}
	return queues
}
