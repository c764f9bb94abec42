package tasks

import (
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
	return &Inspector{backend: newBackend(rdb), asynqClient: asynq.NewClientFromRedisClient(rdb)}
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
	if len(last) == 0 {
		return "0-0", nil
	}
	return Cursor(last[0].ID), nil
}

// Since returns the position of the first result at or after a time.
func Since(t time.Time) Cursor {
	return Cursor(fmt.Sprintf("%d-0", max(t.UnixMilli()-1, 0)))
}

// Results yields an app's results after a cursor, in the order in which they were recorded.
// With follow it then waits for further results until ctx ends; without, it ends after the
// last one. The iteration ends after an error.
func (i *Inspector) Results(ctx context.Context, app string, from Cursor, follow bool) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		if from == "" {
			from = "0-0"
		}
		for ctx.Err() == nil {
			entries, err := i.readResults(ctx, app, from, follow)
			if err != nil {
				if ctx.Err() == nil {
					yield(Result{}, err)
				}
				return
			}
			if len(entries) == 0 && !follow {
				return
			}
			for _, e := range entries {
				from = Cursor(e.ID)
				text, _ := e.Values["result"].(string)
				r, err := decodeResult([]byte(text))
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
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
