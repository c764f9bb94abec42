package ledger

import (
	"context"
	"fmt"
	"strconv"

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

// Batch returns the counters of a batch: total, done, and one per outcome.
func (l *Ledger) Batch(ctx context.Context, app, batch string) (map[string]int64, error) {
	fields, err := l.rdb.HGetAll(ctx, BatchKey(app, batch)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the batch: %w", err)
	}
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
