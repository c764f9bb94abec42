package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// BatchTasks yields the tasks of a batch, each once and in no particular order: those that have ended
// with their results, the others with their state alone, which is empty for a task of which nothing
// is kept any more. The error is tasks.ErrNotFound for an unknown batch; an error ends the iteration.
//
// It remembers eight bytes and some of each task.
func (r *Reader) BatchTasks(ctx context.Context, app, batch string) iter.Seq2[tasks.Result, error] {
	return func(yield func(tasks.Result, error) bool) {
		records, seed, seen := ledger.New(r.rdb, ledger.Policy{}), maphash.MakeSeed(), make(map[uint64]struct{})
		for cursor := uint64(0); ; {
			page, next, err := records.BatchTasks(ctx, app, batch, cursor)
			if errors.Is(err, ledger.ErrNotFound) {
				err = tasks.ErrNotFound
			}
			if err != nil {
				yield(tasks.Result{}, err)
				return
			}
			for _, t := range page {
				sum := maphash.String(seed, t.ID)
				if _, again := seen[sum]; again {
					continue
				}
				seen[sum] = struct{}{}
				if !yield(resultOf(app, batch, t)) {
					return
				}
			}
			if cursor = next; cursor == 0 {
				return
			}
		}
	}
}

// resultOf returns what is known of a task of a batch.
func resultOf(app, batch string, t ledger.BatchTask) (tasks.Result, error) {
	_, typ, _, _ := tasks.ParseQueue(t.Queue)
	r := tasks.Result{ID: t.ID, App: app, Type: typ, Batch: batch, State: tasks.State(t.State)}
	if t.Outcome == "" {
		return r, nil
	}
	if err := json.Unmarshal(t.Result, &r); err != nil {
		return r, fmt.Errorf("the record of the task %s cannot be read: %w", t.ID, err)
	}
	return tasks.WithReceipt(r, t.Receipt), nil
}

// Queue is a queue of an app: a task type and a priority.
type Queue struct {
	Type string
	Bulk bool
}

// sampleSize is the number of tasks from which the queues of a batch are estimated.
const sampleSize = 100

// BatchQueues returns in which queues the tasks of a batch are, with the share of each, estimated
// from a sample: of the open tasks or, if the sample has none, of all. It takes two round trips.
func (r *Reader) BatchQueues(ctx context.Context, app, batch string) (map[Queue]float64, error) {
	sample, err := ledger.New(r.rdb, ledger.Policy{}).SampleBatch(ctx, app, batch, sampleSize)
	if err != nil {
		return nil, err
	}
	open, all := make(map[Queue]float64), make(map[Queue]float64)
	for _, t := range sample {
		_, typ, priority, ok := tasks.ParseQueue(t.Queue)
		if !ok {
			continue
		}
		q := Queue{Type: typ, Bulk: priority == tasks.Bulk}
		if all[q]++; t.Outcome == "" {
			open[q]++
		}
	}
	if len(open) == 0 {
		open = all
	}
	total := 0.0
	for _, n := range open {
		total += n
	}
	for q := range open {
		open[q] /= total
	}
	return open, nil
}
