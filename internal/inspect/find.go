package inspect

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/tasks"
)

// FindQuery selects tasks. Exactly one of ID, OpenID, Person, RID and MsgID is set.
type FindQuery struct {
	Apps   []string
	ID     string
	OpenID string
	Person string // an openid's hash, see ledger.PersonOf
	RID    string // of WeChat's answer
	MsgID  string
	Limit  int    // of tasks; 0: 100
	Cursor string // of the page before; "": the first
}

// Found is a task that was found.
type Found struct {
	tasks.Result
	Place Place `json:"place"`
}

// FoundTasks is a page of tasks, the newest first.
type FoundTasks struct {
	Items []Found `json:"items"`
	// Cursor is for the next page; "": there is none.
	Cursor string `json:"cursor,omitempty"`
	// Back is the time to which the search has looked; zero: to the end of what is kept.
	Back time.Time `json:"back,omitzero"`
}

// errFindQuery is the error for a query without exactly one criterion.
var errFindQuery = errors.New("inspect: a search needs exactly one of id, openid, its hash, rid and msgid")

const findLimit = 100

// Find finds tasks. By ID and OpenID it also finds tasks that have not ended; by RID and MsgID it
// reads the results, the newest first, at most 20,000 in one call. The error is resultlog.ErrCursor for
// a cursor that is of no page.
//
// The index of openids is described in package ledger. A search by it takes three round trips, and up to
// five more for the tasks that have not ended.
func (r *Reader) Find(ctx context.Context, q FindQuery) (FoundTasks, error) {
	q.Apps = slices.Compact(slices.Sorted(slices.Values(q.Apps)))
	if q.Limit <= 0 {
		q.Limit = findLimit
	}
	set := slices.DeleteFunc([]string{q.ID, q.OpenID, q.Person, q.RID, q.MsgID}, func(text string) bool { return text == "" })
	switch {
	case len(set) != 1:
		return FoundTasks{}, errFindQuery
	case q.ID != "":
		return r.findID(ctx, q)
	case q.OpenID != "":
		return r.findPerson(ctx, q, ledger.PersonOf(q.OpenID))
	case q.Person != "":
		return r.findPerson(ctx, q, q.Person)
	case q.RID != "":
		return r.findResults(ctx, q, "rid", q.RID, func(t *tasks.Result) bool { return t.RID == q.RID })
	}
	return r.findResults(ctx, q, "msgid", q.MsgID, func(t *tasks.Result) bool { return t.MsgID == q.MsgID })
}

// findID finds the tasks with an id, one in an app.
func (r *Reader) findID(ctx context.Context, q FindQuery) (FoundTasks, error) {
	refs := make([]ledger.Ref, len(q.Apps))
	for i, app := range q.Apps {
		refs[i] = ledger.Ref{App: app, ID: q.ID}
	}
	found, err := r.readFound(ctx, refs)
	if err != nil {
		return FoundTasks{}, err
	}
	if len(found) == 0 { // a plain asynq.Client may have enqueued it: asynq alone knows it until its first run
		if found, err = readEach(refs, func(ref ledger.Ref) (Found, error) { return r.readOpen(ctx, ref, queuesOf(ref.App)) }); err != nil {
			return FoundTasks{}, err
		}
	}
	slices.SortStableFunc(found, func(a, b Found) int { return b.EnqueuedAt.Compare(a.EnqueuedAt) })
	return FoundTasks{Items: found}, nil
}

// findPerson finds the tasks for an openid, by its hash.
func (r *Reader) findPerson(ctx context.Context, q FindQuery, person string) (FoundTasks, error) {
	indexed, err := r.ledger.FindPerson(ctx, q.Apps, person)
	if err != nil {
		return FoundTasks{}, err
	}
	if _, ok := (ledger.OpenIDTask{}).After(q.Cursor); !ok {
		return FoundTasks{}, resultlog.ErrCursor
	}
	indexed = slices.DeleteFunc(indexed, func(t ledger.OpenIDTask) bool { after, _ := t.After(q.Cursor); return !after })
	all := FoundTasks{Items: []Found{}}
	for len(indexed) > 0 && len(all.Items) < q.Limit { // again where records have expired
		next := indexed[:min(q.Limit-len(all.Items), len(indexed))]
		indexed = indexed[len(next):]
		refs := make([]ledger.Ref, len(next))
		for i, t := range next {
			refs[i] = ledger.Ref{App: t.App, ID: t.ID}
		}
		found, err := r.readFound(ctx, refs)
		if err != nil {
			return FoundTasks{}, err
		}
		if all.Items = append(all.Items, found...); len(indexed) > 0 {
			all.Cursor = next[len(next)-1].Place()
		} else {
			all.Cursor = ""
		}
	}
	return all, nil
}

// findResults finds the results with a text in a field.
func (r *Reader) findResults(ctx context.Context, q FindQuery, field, value string, match func(*tasks.Result) bool) (FoundTasks, error) {
	text := strictjson.AppendQuote([]byte(`"`+field+`":`), value)
	page, err := r.results.Newest(ctx, resultlog.NewestQuery{
		Apps: q.Apps, Before: q.Cursor, Limit: q.Limit, Contains: []string{string(text)}, Match: match,
	})
	if err != nil {
		return FoundTasks{}, err
	}
	found := FoundTasks{Items: []Found{}, Cursor: page.Next, Back: page.Back}
	for _, e := range page.Entries {
		found.Items = append(found.Items, Found{Result: e.Result, Place: PlaceDone})
	}
	return found, nil
}

// readFound reads tasks: in one round trip, and a few more for those that have not ended. Those that
// have neither mark nor record are left out.
func (r *Reader) readFound(ctx context.Context, refs []ledger.Ref) ([]Found, error) {
	records, ok, err := r.ledger.Records(ctx, refs)
	if err != nil {
		return nil, err
	}
	place := make(map[ledger.Ref]int, len(refs))
	var known []ledger.Ref
	for i, ref := range refs {
		if ok[i] {
			place[ref], known = i, append(known, ref)
		}
	}
	return readEach(known, func(ref ledger.Ref) (Found, error) {
		record := records[place[ref]]
		if record.Outcome == "" {
			return r.readOpen(ctx, ref, nil)
		}
		result, err := tasks.ResultOf(taskstate.Task{App: ref.App, ID: ref.ID, Record: record}, taskstate.Wait{})
		return Found{Result: result, Place: PlaceDone}, err
	})
}

// readOpen reads a task that has not ended. The error is ledger.ErrNotFound for an unknown one.
func (r *Reader) readOpen(ctx context.Context, ref ledger.Ref, queues []string) (Found, error) {
	state, err := taskstate.NewReader(r.rdb).Read(ctx, taskstate.Names{
		App: ref.App, ID: ref.ID, AsynqID: asynqID(ref.App, ref.ID), LaneOf: laneOf, Queues: queues,
	})
	if err != nil {
		return Found{}, err
	}
	result, err := tasks.ResultOf(state, taskstate.Last(state.Waits(time.Now())))
	return Found{Result: result, Place: placeOf(state, result)}, err
}

// readsAtOnce is how many tasks are read at a time.
const readsAtOnce = 8

// readEach reads some tasks, and leaves out those for which the error is ledger.ErrNotFound.
func readEach(refs []ledger.Ref, read func(ledger.Ref) (Found, error)) ([]Found, error) {
	found, errs := make([]Found, len(refs)), make([]error, len(refs))
	var next atomic.Int64
	var readers sync.WaitGroup
	for range min(readsAtOnce, len(refs)) {
		readers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(refs)); i = next.Add(1) - 1 {
				found[i], errs[i] = read(refs[i])
			}
		})
	}
	readers.Wait()
	all := []Found{}
	for i, err := range errs {
		switch {
		case errors.Is(err, ledger.ErrNotFound):
		case err != nil:
			return nil, err
		default:
			all = append(all, found[i])
		}
	}
	return all, nil
}

// Failure is an attempt that did not end its task.
type Failure struct {
	At      time.Time `json:"at"`
	ErrCode int       `json:"errcode"` // 0: there was no answer
	Class   string    `json:"class"`   // as in metrics
	ErrMsg  string    `json:"errmsg"`
	RID     string    `json:"rid,omitempty"`
	// Wait is how long the task was to wait before its next attempt.
	Wait        time.Duration `json:"-"`
	WaitSeconds float64       `json:"wait_seconds"`
}

// RecentBatch is a batch and when tasks were last enqueued in it.
type RecentBatch struct {
	Batch
	LastEnqueued time.Time `json:"last_enqueued"`
}

// RecentBatches returns the batches of some apps by the last enqueue, the newest first, up to limit.
// The batches have no Rate. before is the LastEnqueued of the last one of the page before; zero: the
// first page.
func (r *Reader) RecentBatches(ctx context.Context, apps []string, before time.Time, limit int) ([]RecentBatch, error) {
	recent, err := r.ledger.RecentBatches(ctx, slices.Compact(slices.Sorted(slices.Values(apps))), before, limit)
	if err != nil {
		return nil, err
	}
	all := make([]RecentBatch, len(recent))
	for i, b := range recent {
		all[i] = RecentBatch{Batch: newBatch(b.App, b.Batch, b.Counts), LastEnqueued: b.LastEnqueued}
	}
	return all, nil
}
