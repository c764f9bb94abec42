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
	// submitters is the number of goroutines that submit chunks: one chunk is checked and
	// encoded while the other is sent to Redis.
	submitters = 2
	// chunkTasks and chunkBytes limit a chunk, and so the part of a stream that is in
	// memory.
	chunkTasks = 500
	chunkBytes = 1 << 20 // of bodies; a single body may exceed it
	// linger is how long the first task of a chunk waits for others, since a stream may be
	// a pipe with a line now and then.
	linger = 20 * time.Millisecond
)

// makeChunks groups items into chunks of at most maxTasks, until items is closed.
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

// submit submits a chunk and repeats the tasks for which Redis did not answer. Its error ends
// the run. It returns nil when ctx ends before the chunk is submitted.
func (e *enqueuer) submit(ctx context.Context, chunk []taskfile.Item) error {
	if err := e.keepEarlierIDs(ctx, chunk); err != nil || !e.waitForSlots(ctx, chunk) {
		return err
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

// keepEarlierIDs gives the tasks of a chunk that Options.Known knows by the id of an earlier
// version that id. It repeats the look-up while Redis does not answer.
func (e *enqueuer) keepEarlierIDs(ctx context.Context, chunk []taskfile.Item) error {
	byApp := make(map[string][]*taskfile.Item)
	for i := range chunk {
		if item := &chunk[i]; item.EarlierID != "" {
			byApp[item.Envelope.App] = append(byApp[item.Envelope.App], item)
		}
	}
	for app, items := range byApp {
		ids := make([]string, len(items))
		for i, item := range items {
			ids[i] = item.EarlierID
		}
		var known []bool
		var err error
		for attempt := 0; ; attempt++ {
			if known, err = e.Known(ctx, app, ids); err == nil {
				break
			}
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the run ends; nothing of the chunk was submitted
			}
			if attempt == len(retryDelays) || !sleep(ctx, retryDelays[attempt]) {
				return fmt.Errorf("line %d: %w", items[0].Line, err)
			}
		}
		for i, item := range items {
			if known[i] {
				item.Envelope.ID = item.EarlierID
			}
		}
	}
	return nil
}

// waitForSlots waits until beforeSubmit admits all tasks of a chunk. It returns false if ctx
// ended; no task of the chunk is then submitted.
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

// retryDelays are the pauses between attempts while Redis does not answer: 0.2 + 0.5 + 1 +
// 2 s, besides the retries of the Redis client.
var retryDelays = [...]time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// sleep waits for d. It returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// submitOnce submits a chunk. It returns the tasks for which Redis did not answer, with the
// first error; repeating these is safe. A submission that has begun is finished even if ctx
// ends.
func (e *enqueuer) submitOnce(ctx context.Context, chunk []taskfile.Item) ([]taskfile.Item, error) {
	envelopes := make([]tasks.Envelope, len(chunk))
	for i := range chunk {
		envelopes[i] = chunk[i].Envelope
	}
	var left []taskfile.Item
	var firstErr error
	for i, result := range e.Client.SubmitMany(context.WithoutCancel(ctx), envelopes) {
		if !e.report(chunk[i], result) {
			left = append(left, chunk[i])
			if firstErr == nil {
				firstErr = result.Err
			}
		}
	}
	return left, firstErr
}

// report reports the result of a submission. It returns false if the task must be repeated.
func (e *enqueuer) report(item taskfile.Item, result tasks.SubmitResult) bool {
	var validationErr *tasks.ValidationError
	invalidTask := errors.As(result.Err, &validationErr) || errors.Is(result.Err, tasks.ErrIDInUse)
	if result.Err != nil && !invalidTask {
		return false
	}
	if e.afterSubmit != nil {
		e.afterSubmit(item.Envelope, result.Receipt, result.Err)
	}
	if invalidTask {
		e.reportBad(item.Line, result.Err)
		return true
	}
	e.update(func(c *Counts) {
		if result.Receipt.Already {
			c.Already++
			if result.Receipt.Differs {
				c.Differing++
			}
		} else {
			c.Enqueued++
		}
		e.OnEnqueued(item.Line, result.Receipt)
	})
	return true
}

// abandon calls afterSubmit with err for tasks that beforeSubmit admitted and that are not
// submitted.
func (e *enqueuer) abandon(chunk []taskfile.Item, err error) {
	if e.afterSubmit == nil {
		return
	}
	for _, item := range chunk {
		e.afterSubmit(item.Envelope, tasks.Receipt{}, err)
	}
}
