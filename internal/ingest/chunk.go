package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// submitters is how many chunks are handed over at the same time: one is checked
	// and encoded while the other is on its way to Redis.
	submitters = 2
	// chunkTasks and chunkBytes end a chunk. Chunks are what a stream of any length is
	// held in memory by.
	chunkTasks = 500
	chunkBytes = 1 << 20 // of bodies; a single task may have more
	// linger is how long the first task of a chunk waits for others: a stream may be a
	// pipe that gives a line now and then.
	linger = 20 * time.Millisecond
)

// makeChunks makes chunks of at most some items, until there are no more.
func makeChunks(items <-chan taskfile.Item, chunks chan<- []taskfile.Item, maxTasks int) {
	late := time.NewTimer(linger)
	defer late.Stop()
	for first := range items {
		late.Reset(linger)
		chunk, size := append(make([]taskfile.Item, 0, maxTasks), first), len(first.Envelope.Body)
		open := true
		for open && len(chunk) < maxTasks && size < chunkBytes {
			var item taskfile.Item
			select {
			case item, open = <-items:
				if open {
					chunk, size = append(chunk, item), size+len(item.Envelope.Body)
				}
			case <-late.C:
				open = false
			}
		}
		chunks <- chunk
	}
}

// submit hands over a chunk. The error is one that ends the run; that ctx ended is none.
func (e *enqueuer) submit(ctx context.Context, chunk []taskfile.Item) error {
	if !e.waitForSlots(ctx, chunk) {
		return nil
	}
	for attempt := 0; ; attempt++ {
		left, err := e.submitOnce(ctx, chunk)
		if len(left) == 0 {
			return nil
		}
		if attempt == len(retryDelays) || !sleep(ctx, retryDelays[attempt]) {
			e.abandon(left, err)
			return fmt.Errorf("line %d: %w", left[0].Line, err)
		}
		chunk = left
	}
}

// waitForSlots waits until all of a chunk may be handed over. It is false when ctx has ended;
// then none of it is.
func (e *enqueuer) waitForSlots(ctx context.Context, chunk []taskfile.Item) bool {
	if ctx.Err() != nil {
		return false
	}
	if e.beforeSubmit == nil {
		return true
	}
	for i, item := range chunk {
		if !e.beforeSubmit(ctx, item.Envelope) {
			e.abandon(chunk[:i], ctx.Err())
			return false
		}
	}
	return true
}

// retryDelays is how long Redis may be away, as pauses between attempts: 0.2 + 0.5 + 1 + 2 s,
// and what the client itself waits for each.
var retryDelays = [...]time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// sleep is false when ctx ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// submitOnce submits a chunk, and returns what Redis did not answer for, with the first error:
// repeating it is safe. A submission that has begun is finished even when ctx ends.
func (e *enqueuer) submitOnce(ctx context.Context, chunk []taskfile.Item) ([]taskfile.Item, error) {
	envelopes := make([]tasks.Envelope, len(chunk))
	for i := range chunk {
		envelopes[i] = chunk[i].Envelope
	}
	var left []taskfile.Item
	var first error
	for i, answer := range e.Client.SubmitMany(context.WithoutCancel(ctx), envelopes) {
		if !e.report(chunk[i], answer) {
			left = append(left, chunk[i])
			if first == nil {
				first = answer.Err
			}
		}
	}
	return left, first
}

// report passes the answer to a task on. It is false for an answer that is not the last.
func (e *enqueuer) report(item taskfile.Item, answer tasks.Submitted) bool {
	var invalid *tasks.ValidationError
	bad := errors.As(answer.Err, &invalid) || errors.Is(answer.Err, tasks.ErrIDInUse)
	if answer.Err != nil && !bad {
		return false
	}
	if e.afterSubmit != nil {
		e.afterSubmit(item.Envelope, answer.Receipt, answer.Err)
	}
	if bad {
		e.reportBad(item.Line, answer.Err)
		return true
	}
	e.update(func(c *Counts) {
		if answer.Receipt.Already {
			c.Already++
			if answer.Receipt.Differs {
				c.Differing++
			}
		} else {
			c.Enqueued++
		}
		e.Enqueued(item.Line, answer.Receipt)
	})
	return true
}

// abandon takes back what before has let through.
func (e *enqueuer) abandon(chunk []taskfile.Item, err error) {
	if e.afterSubmit == nil {
		return
	}
	for _, item := range chunk {
		e.afterSubmit(item.Envelope, tasks.Receipt{}, err)
	}
}
