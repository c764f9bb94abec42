package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// cancelBatchScript marks a batch as canceled, with the number of this cancellation and its
// time, in ms of Redis' clock.
//
// KEYS[1] batch. Returns the number of its tasks that had not ended, or -1 if there is no such
// batch.
var cancelBatchScript = redis.NewScript(`
local r = redis.call("HMGET", KEYS[1], "total", "done")
if not r[1] then return -1 end
local t = redis.call("TIME")
redis.call("HSET", KEYS[1], "withdrawn", redis.call("HINCRBY", KEYS[1], "withdrawals", 1),
	"withdrawn_at", string.format("%d", t[1] * 1000 + math.floor(t[2] / 1000)))
return tonumber(r[1]) - tonumber(r[2] or 0)
`)

// CancelBatch cancels all tasks of a batch that are not sent yet, with one mark for any number
// of tasks. It returns how many tasks had not ended, or ErrNotFound.
//
// Tasks that join the batch while others of it are open are canceled as well. Once all have
// ended, the batch can be used again: tasks enqueued from then on are sent.
func (l *Ledger) CancelBatch(ctx context.Context, app, batch string) (int64, error) {
	n, err := cancelBatchScript.Run(ctx, l.rdb, []string{BatchKey(app, batch)}).Int64()
	if err != nil {
		return 0, fmt.Errorf("cancel the batch: %w", err)
	}
	if n < 0 {
		return 0, ErrNotFound
	}
	return n, nil
}

// maxBatches is how many batches of an app batchesKey has: those in which tasks were enqueued last.
const maxBatches = 10_000

// enqueuedInLua notes that a task was enqueued in a batch. It uses the variables batches (a key), name
// (of the batch) and now (µs since 1970, as text).
var enqueuedInLua = `
local added = redis.pcall("ZADD", batches, now, name)
if added == 1 then redis.pcall("ZREMRANGEBYRANK", batches, 0, -1 - ` + strconv.Itoa(maxBatches) + `) end
`

// Batch returns the counters of a batch: total, done, and one per outcome.
func (l *Ledger) Batch(ctx context.Context, app, batch string) (map[string]int64, error) {
	fields, err := l.rdb.HGetAll(ctx, BatchKey(app, batch)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the batch: %w", err)
	}
	return batchCounts(fields)
}

// batchCounts returns the counters among the fields of a batch. It returns ErrNotFound for no fields.
func batchCounts(fields map[string]string) (map[string]int64, error) {
	if len(fields) == 0 {
		return nil, ErrNotFound
	}
	counts := make(map[string]int64, len(fields))
	for name, value := range fields {
		if name == "withdrawn" || name == "withdrawals" || name == "withdrawn_at" {
			continue // the mark of CancelBatch, the number of cancellations, and the time of the last one
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the batch: field %s is not a number", name)
		}
		counts[name] = n
	}
	return counts, nil
}

// RecentBatch is a batch with its counters, see Batch.
type RecentBatch struct {
	App, Batch   string
	LastEnqueued time.Time // when a task was last enqueued in it, by the producer's clock
	Counts       map[string]int64
}

// RecentBatches returns batches of some apps, those first in which tasks were enqueued last. before, if
// it is not zero, leaves out those in which a task was enqueued at that time or later. It takes two round
// trips, and two more where batches that have expired are still listed: those are removed.
func (l *Ledger) RecentBatches(ctx context.Context, apps []string, before time.Time, limit int) ([]RecentBatch, error) {
	var all []RecentBatch
	for len(all) < limit {
		page, err := l.batchPage(ctx, apps, before, limit-len(all))
		if err != nil || len(page) == 0 {
			return all, err
		}
		before = page[len(page)-1].LastEnqueued
		if page, err = l.withCounts(ctx, page); err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

// batchPage reads which batches come next.
func (l *Ledger) batchPage(ctx context.Context, apps []string, before time.Time, limit int) ([]RecentBatch, error) {
	wanted := &redis.ZRangeBy{Min: "-inf", Max: "+inf", Count: int64(limit)}
	if !before.IsZero() {
		wanted.Max = "(" + strconv.FormatInt(before.UnixMicro(), 10)
	}
	replies := make([]*redis.ZSliceCmd, len(apps))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			replies[i] = p.ZRevRangeByScoreWithScores(ctx, batchesKey(app), wanted)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the batches: %w", err)
	}
	var page []RecentBatch
	for i, reply := range replies {
		for _, z := range reply.Val() {
			name, _ := z.Member.(string)
			page = append(page, RecentBatch{App: apps[i], Batch: name, LastEnqueued: time.UnixMicro(int64(z.Score))})
		}
	}
	slices.SortStableFunc(page, func(a, b RecentBatch) int { return b.LastEnqueued.Compare(a.LastEnqueued) })
	return page[:min(limit, len(page))], nil
}

// dropBatchScript removes a batch that has expired from the list.
//
// KEYS[1] the app's batches, KEYS[2] batch. ARGV[1] its name
var dropBatchScript = redis.NewScript(`
if redis.call("EXISTS", KEYS[2]) == 0 then redis.call("ZREM", KEYS[1], ARGV[1]) end
return 1
`)

// withCounts adds the counters. It removes batches that have expired, from the page and in Redis.
func (l *Ledger) withCounts(ctx context.Context, page []RecentBatch) ([]RecentBatch, error) {
	replies := make([]*redis.MapStringStringCmd, len(page))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, b := range page {
			replies[i] = p.HGetAll(ctx, BatchKey(b.App, b.Batch))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	kept := page[:0]
	for i, b := range page {
		b.Counts, err = batchCounts(replies[i].Val())
		switch {
		case errors.Is(err, ErrNotFound):
			if err := dropBatchScript.Run(ctx, l.rdb, []string{batchesKey(b.App), BatchKey(b.App, b.Batch)}, b.Batch).Err(); err != nil {
				return nil, fmt.Errorf("list the batches: %w", err)
			}
		case err != nil:
			return nil, err
		default:
			kept = append(kept, b)
		}
	}
	return kept, nil
}
