package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// ErrNotFound means that no task has this id, or that its result is no longer kept.
var ErrNotFound = errors.New("no such task")

// Result returns a task's outcome, or its state if it has no outcome yet. The error is
// [ErrNotFound] for an unknown id.
func (c *Client) Result(ctx context.Context, app, id string) (Result, error) {
	record, err := c.ledger.Record(ctx, app, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return Result{}, ErrNotFound
	}
	if err != nil {
		return Result{}, err
	}
	if record.Outcome != "" {
		return decodeResult(record.Result)
	}
	_, typ, _, _ := ParseQueue(record.Queue)
	return Result{
		ID: id, App: app, Type: typ, State: State(record.State),
		Attempts: record.Attempts, Generation: record.Generation, EnqueuedAt: record.Enqueued,
	}, nil
}

func decodeResult(b []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(b, &r); err != nil {
		return Result{}, fmt.Errorf("decode a result: %w", err)
	}
	return r, nil
}

// Image returns the image that a task of kind [Code] produced, or [ErrNotFound].
func (c *Client) Image(ctx context.Context, app, id string) ([]byte, error) {
	b, err := c.ledger.Image(ctx, app, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, ErrNotFound
	}
	return b, err
}

// Wait polls for a task's outcome until it is recorded or ctx ends. Use it for tasks whose
// producer needs the result, such as links.
func (c *Client) Wait(ctx context.Context, app, id string) (Result, error) {
	pause := 10 * time.Millisecond
	for {
		r, err := c.Result(ctx, app, id)
		if err != nil || r.Outcome != "" {
			return r, err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}

// Batch returns the counters of a batch: "total", "done" and one per outcome. The error is
// [ErrNotFound] for an unknown batch.
func (c *Client) Batch(ctx context.Context, app, batch string) (map[string]int64, error) {
	counts, err := c.ledger.Batch(ctx, app, batch)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, ErrNotFound
	}
	return counts, err
}

// Apps returns the apps for which a task was ever enqueued, in no particular order.
func (c *Client) Apps(ctx context.Context) ([]string, error) {
	apps, err := c.rdb.SMembers(ctx, ledger.AppsKey).Result()
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
func (c *Client) End(ctx context.Context, app string) (Cursor, error) {
	last, err := c.rdb.XRevRangeN(ctx, ledger.StreamKey(app), "+", "-", 1).Result()
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
func (c *Client) Results(ctx context.Context, app string, from Cursor, follow bool) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		if from == "" {
			from = "0-0"
		}
		for ctx.Err() == nil {
			entries, err := c.readResults(ctx, app, from, follow)
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

func (c *Client) readResults(ctx context.Context, app string, from Cursor, follow bool) ([]redis.XMessage, error) {
	args := &redis.XReadArgs{Streams: []string{ledger.StreamKey(app), string(from)}, Count: resultsPage, Block: -1}
	if follow {
		args.Block = resultsBlock
	}
	streams, err := c.rdb.XRead(ctx, args).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	return streams[0].Messages, nil
}
