package tasks

import (
	"context"
	"errors"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// Image returns the image that a task of kind [Code] produced, or [ErrNotFound].
func (c *Client) Image(ctx context.Context, app, id string) ([]byte, error) {
	b, err := c.ledger.Image(ctx, app, id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, ErrNotFound
	}
	return b, err
}

// Batch returns the counters of a batch: "total", "done", one per outcome, and "receipt:delivered",
// "receipt:blocked" and "receipt:failed". A counter that is 0 may be missing. The error is
// [ErrNotFound] for an unknown batch.
func (c *Client) Batch(ctx context.Context, app, batch string) (map[string]int64, error) {
	counts, err := c.ledger.Batch(ctx, app, batch)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil, ErrNotFound
	}
	return counts, err
}

// CancelCounts counts the tasks of a cancellation by their state.
type CancelCounts struct {
	Canceled int `json:"taken"`   // canceled: will not be sent
	Sending  int `json:"sending"` // being sent now: canceled only if WeChat does not accept it
	Done     int `json:"done"`    // had an outcome already
	Missing  int `json:"missing"` // not known
}

// Cancel cancels tasks that have not been sent yet. They end as [OutcomeCanceled] when a
// worker dequeues them. A hundred thousand ids take a second or two, in steps that do not
// block Redis. Cancel may be repeated; after an error, repeat it to finish.
func (c *Client) Cancel(ctx context.Context, app string, ids ...string) (CancelCounts, error) {
	var n CancelCounts
	states, err := c.ledger.Cancel(ctx, app, ids)
	for _, state := range states {
		switch state {
		case ledger.CancelMarked:
			n.Canceled++
		case ledger.CancelSending:
			n.Sending++
		case ledger.CancelDone:
			n.Done++
		case ledger.CancelNone:
			n.Missing++
		}
	}
	return n, err
}

// CancelBatch cancels all tasks of a batch that have not been sent yet, by one mark on the
// batch. It returns how many tasks had no outcome, or [ErrNotFound].
//
// A task that is added to the batch while others have no outcome is canceled too; when all
// tasks have one, the name of the batch may be used again. The batch does not know a task
// of a plain asynq.Client until a worker dequeues it: such a task is canceled if its header
// [HeaderEnqueuedAt], by the producer's clock, is not later than the cancellation, or is
// missing.
func (c *Client) CancelBatch(ctx context.Context, app, batch string) (int64, error) {
	n, err := c.ledger.CancelBatch(ctx, app, batch)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, ErrNotFound
	}
	return n, err
}
