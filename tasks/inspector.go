package tasks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// Inspector lists what a Redis holds, and redrives ended tasks: the operator's half of this
// package, as asynq.Inspector is of asynq. It is safe for concurrent use. See [NewInspector].
//
//	inspector := tasks.NewInspector(rdb)
//	failed := tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeFailed}, ErrCodes: []int{40001}}
//	for id, err := range inspector.RedriveCandidates(ctx, app, failed) {
//		if err != nil {
//			return err
//		}
//		if _, err := inspector.Redrive(ctx, app, id, failed); err != nil {
//			return err
//		}
//	}
//
// To look up or cancel tasks and batches by name is part of [Client], since their producers
// do that too.
type Inspector struct {
	backend
	asynqClient *asynq.Client
}

// NewInspector returns an Inspector on rdb. It does no I/O. The caller closes rdb after the
// last use of the Inspector.
func NewInspector(rdb redis.UniversalClient) *Inspector {
	return &Inspector{backend: newBackend(rdb, ledger.Policy{}), asynqClient: asynq.NewClientFromRedisClient(rdb)}
}

// Apps returns the apps for which a task was ever enqueued, in no particular order.
func (i *Inspector) Apps(ctx context.Context) ([]string, error) {
	apps, err := i.rdb.SMembers(ctx, ledger.AppsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the apps: %w", err)
	}
	return apps, nil
}

const (
	resultsPage  = 500
	resultsBlock = time.Second
)

// Cursor is a position in an app's stream of results: the id of an entry. The empty Cursor
// is the beginning.
type Cursor string

// End returns the position after the last result of an app.
func (i *Inspector) End(ctx context.Context, app string) (Cursor, error) {
	last, err := i.rdb.XRevRangeN(ctx, ledger.StreamKey(app), "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the results: %w", err)
	}
	if len(last) > 0 {
		return Cursor(last[0].ID), nil
	}
	cut, err := i.ledger.Cut(ctx, app)
	if err != nil {
		return "", err
	}
	return Cursor(cmp.Or(cut.ID, "0-0")), nil // after what was removed, so that nothing is missing
}

// Since returns the position of the first result at or after a time.
func Since(t time.Time) Cursor {
	return Cursor(fmt.Sprintf("%d-0", max(t.UnixMilli()-1, 0)))
}

// A ResultsCutError says that an app's stream no longer has all results after a position. It
// does not end the iteration that yields it, see [Inspector.Results].
type ResultsCutError struct {
	App string
	// Start is the time to which the stream goes back now.
	Start time.Time
	// ByLength is true if results were removed because the stream had more entries than
	// results.stream_max_len, although they were younger than results.retention; and false
	// if they were older.
	ByLength bool
}

// Error says what is missing, and what keeps more.
func (e *ResultsCutError) Error() string {
	cause := "earlier ones are older than results.retention"
	if e.ByLength {
		cause = "results.stream_max_len has cut earlier ones before results.retention has passed; raise it, or set it to 0"
	}
	return fmt.Sprintf("the results of %s go back to %s only: %s", e.App, e.Start.Format(time.RFC3339), cause)
}

// ResultsCut returns a *[ResultsCutError] if results of an app after a cursor have been
// removed from its stream, and nil if there are none. The empty cursor is before the first
// result that was ever recorded.
func (i *Inspector) ResultsCut(ctx context.Context, app string, after Cursor) (*ResultsCutError, error) {
	cut, err := i.ledger.Cut(ctx, app)
	if err != nil || !cut.After(string(after)) {
		return nil, err
	}
	return &ResultsCutError{App: app, Start: cut.Start(), ByLength: cut.ByLength}, nil
}

// Results yields an app's results after a cursor, in the order in which they were recorded.
// With follow it then waits for further results until ctx ends; without, it ends after the
// last one. Receipts are results of their own ([Result.IsReceipt]); see [Inspector.AddReceipts].
//
// If some of the results after the cursor have been removed from the stream, it yields a
// *[ResultsCutError], and continues with the oldest result if the caller does; with the empty
// cursor it does not, since that asks for what there is. If a reader is slow, this can also
// happen later. The iteration ends after any other error.
func (i *Inspector) Results(ctx context.Context, app string, from Cursor, follow bool) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		r := resultsReader{Inspector: i, app: app, from: from, follow: follow, behind: from != ""}
		if from == "" {
			r.from = "0-0"
		}
		for ctx.Err() == nil {
			entries, cut, err := r.next(ctx)
			if err != nil {
				if ctx.Err() == nil {
					yield(Result{}, err)
				}
				return
			}
			if cut != nil && !yield(Result{}, cut) {
				return
			}
			if len(entries) == 0 && !follow {
				return
			}
			for _, e := range entries {
				r.from = Cursor(e.ID)
				text, _ := e.Values["result"].(string)
				result, err := decodeResult([]byte(text))
				if !yield(result, err) || err != nil {
					return
				}
			}
		}
	}
}

// resultsReader reads the pages of one iteration.
type resultsReader struct {
	*Inspector
	app    string
	from   Cursor
	follow bool
	behind bool // results after from may have been removed, since it is not the end of the stream
}

// next reads the results after from. cut is not nil if some of them were removed. It costs a
// round trip more for the first page of a cursor, and after each full page.
func (r *resultsReader) next(ctx context.Context) (entries []redis.XMessage, cut *ResultsCutError, err error) {
	after := r.from
	if entries, err = r.readResults(ctx, r.app, after, r.follow); err != nil {
		return nil, nil, err
	}
	if r.behind { // after the page is read, so that what is removed meanwhile counts
		if cut, err = r.cutBefore(ctx, after, entries); err != nil {
			return nil, nil, err
		}
	}
	r.behind = len(entries) == resultsPage
	return entries, cut, nil
}

// cutBefore looks for results that were removed after a cursor and before the entries that
// were read there.
func (r *resultsReader) cutBefore(ctx context.Context, after Cursor, entries []redis.XMessage) (*ResultsCutError, error) {
	cut, err := r.ledger.Cut(ctx, r.app)
	if err != nil || !cut.After(string(after)) {
		return nil, err
	}
	missing := &ResultsCutError{App: r.app, Start: cut.Start(), ByLength: cut.ByLength}
	if len(entries) > 0 {
		missing.Start = ledger.EntryTime(entries[0].ID)
	}
	return missing, nil
}

func (i *Inspector) readResults(ctx context.Context, app string, from Cursor, follow bool) ([]redis.XMessage, error) {
	args := &redis.XReadArgs{Streams: []string{ledger.StreamKey(app), string(from)}, Count: resultsPage, Block: -1}
	if follow {
		args.Block = resultsBlock
	}
	streams, err := i.rdb.XRead(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	return streams[0].Messages, nil
}
