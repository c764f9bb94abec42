package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// BatchTask is a task of a batch.
type BatchTask struct {
	ID      string
	Queue   string  // with its app; "" if it is not known
	State   string  // as in its record or mark; "": nothing of it is kept
	Outcome string  // "": it has not ended
	Result  []byte  // of an ended task, as recorded
	Receipt Receipt // see Record.Receipt
}

// BatchTasks reads a page of a batch: its tasks, also those that have not ended. Begin with the cursor
// 0; the returned cursor is 0 after the last page. A task may occur twice. It returns ErrNotFound if
// there is no such batch.
func (l *Ledger) BatchTasks(ctx context.Context, app, batch string, cursor uint64) ([]BatchTask, uint64, error) {
	ids, next, err := l.rdb.SScan(ctx, batchIDsKey(app, batch), cursor, "", batchPage).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("read the batch: %w", err)
	}
	if cursor == 0 && next == 0 && len(ids) == 0 {
		return nil, 0, ErrNotFound
	}
	all, err := l.tasksOf(ctx, app, ids)
	return all, next, err
}

// SampleBatch reads some tasks of a batch, at random. A batch that is not there has none.
func (l *Ledger) SampleBatch(ctx context.Context, app, batch string, count int64) ([]BatchTask, error) {
	ids, err := l.rdb.SRandMemberN(ctx, batchIDsKey(app, batch), count).Result()
	if err != nil {
		return nil, fmt.Errorf("read the batch: %w", err)
	}
	return l.tasksOf(ctx, app, ids)
}

// tasksOf reads the marks and records of tasks in one round trip: the mark first, since it moves to
// the record.
func (l *Ledger) tasksOf(ctx context.Context, app string, ids []string) ([]BatchTask, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	marks, records := make([]*redis.StringCmd, len(ids)), make([]*redis.SliceCmd, len(ids))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			marks[i] = p.HGet(ctx, WaitingKey(app, id), id)
			records[i] = p.HMGet(ctx, TaskKey(app, id), "state", "queue", "outcome", "result", "receipt")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the batch: %w", err)
	}
	all := make([]BatchTask, len(ids))
	for i, id := range ids {
		values, err := records[i].Result()
		if err != nil {
			return nil, fmt.Errorf("read the batch: %w", err)
		}
		text := func(n int) string { s, _ := values[n].(string); return s }
		t := BatchTask{ID: id, State: text(0), Queue: fullQueue(app, text(1)), Outcome: text(2), Result: []byte(text(3)), Receipt: parseReceipt(text(4))}
		if parts := markPattern.FindStringSubmatch(marks[i].Val()); t.State == "" && parts != nil {
			t.State, t.Queue = waiting, fullQueue(app, parts[2])
			if parts[3] != "" {
				t.State = parts[3]
			}
		}
		all[i] = t
	}
	return all, nil
}
