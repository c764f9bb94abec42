package tasks

import (
	"context"
	"errors"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// Canceled counts what a cancellation met.
type Canceled struct {
	Taken   int `json:"taken"`   // will not be sent
	Sending int `json:"sending"` // being sent right now: canceled only if WeChat does not take it
	Done    int `json:"done"`    // ended before
	Missing int `json:"missing"` // not known
}

// Cancel takes back tasks that have not left yet. They end as [OutcomeCanceled] when
// their turn comes. A hundred thousand ids take a second or two, and others use Redis
// meanwhile. Repeating it is harmless, and after an error the way to finish it.
func (c *Client) Cancel(ctx context.Context, app string, ids ...string) (Canceled, error) {
	var n Canceled
	met, err := c.ledger.Cancel(ctx, app, ids)
	for _, m := range met {
		switch m {
		case ledger.CancelMarked:
			n.Taken++
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

// CancelBatch takes back all tasks of a batch that have not left yet, with one mark. It
// returns how many had no outcome yet, or [ErrNotFound].
//
// A task that is enqueued while others of the batch have no outcome yet is taken back, too;
// when all have one, the name may be used again. Of a task that a plain asynq.Client
// enqueued, the batch learns only when a worker takes it: it is taken back when its header
// [HeaderEnqueuedAt], by the producer's clock, is not after the cancellation, or is
// missing.
func (c *Client) CancelBatch(ctx context.Context, app, batch string) (int64, error) {
	n, err := c.ledger.CancelBatch(ctx, app, batch)
	if errors.Is(err, ledger.ErrNotFound) {
		return 0, ErrNotFound
	}
	return n, err
}
