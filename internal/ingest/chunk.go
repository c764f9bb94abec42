package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
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
	// linger is how long the first task of a chunk waits for others while the stream is
	// read again and again.
	linger = 20 * time.Millisecond
	// readGrace is how long a chunk waits for one read of the stream. A read of a file, or
	// of a pipe that holds more lines, takes less; a read that takes longer waits for the
	// stream's writer, which may itself wait for the answers to the tasks in the chunk.
	readGrace = 250 * time.Microsecond
)

// An event is what the reading goroutine tells the grouping one: the next task, or that it
// is about to read the stream, which may block.
type event struct {
	task    task
	reading bool
}

// A task is a task of the stream, with its position among all lines that have an answer.
type task struct {
	taskfile.Item
	seq int // used with Options.OnAnswers only
}

// makeChunks groups tasks into chunks of at most maxTasks, until events is closed. A chunk is
// complete when the reader has no further line at hand.
func (e *enqueuer) makeChunks(events <-chan event, chunks chan<- []task) {
	late := time.NewTimer(linger)
	defer late.Stop()
	var carried *task // the first task of the next chunk
	for {
		var first task
		if carried != nil {
			first = *carried
		} else {
			ev, open := <-events
			if !open {
				return
			}
			if ev.reading {
				continue
			}
			first = ev.task
		}
		e.awaitEarlier(first)
		var chunk []task
		chunk, carried = e.fillChunk(first, events, late)
		chunks <- chunk
	}
}

// fillChunk returns the chunk that begins with first. It also returns a task that it received
// and that must not be submitted at the same time as the chunk's.
func (e *enqueuer) fillChunk(first task, events <-chan event, late *time.Timer) (chunk []task, next *task) {
	begun, short := time.Now(), false // short: late was set to readGrace
	late.Reset(linger)
	chunk, size := append(make([]task, 0, e.maxChunk), first), len(first.Envelope.Body)
	for len(chunk) < e.maxChunk && size < chunkBytes {
		select {
		case ev, open := <-events:
			if !open {
				return chunk, nil
			}
			if ev.reading {
				late.Reset(min(readGrace, linger-time.Since(begun)))
				short = true
				continue
			}
			if short {
				late.Reset(linger - time.Since(begun))
				short = false
			}
			if !e.inFlight.add(keyOf(ev.task.Envelope), first.seq) {
				carried := ev.task
				return chunk, &carried
			}
			chunk, size = append(chunk, ev.task), size+len(ev.task.Envelope.Body)
		case <-late.C:
			return chunk, nil
		}
	}
	return chunk, nil
}

// awaitEarlier adds the first task of a chunk to inFlight. It waits while another chunk has a
// task of the same id, so that of equal ids the first line is the one that is enqueued.
func (e *enqueuer) awaitEarlier(first task) {
	for key := keyOf(first.Envelope); !e.inFlight.add(key, first.seq); {
		e.inFlight.wait(key)
	}
}

// submit submits a chunk and repeats the tasks for which Redis did not answer. Its error ends
// the run. It returns nil when ctx ends before the chunk is submitted.
func (e *enqueuer) submit(ctx context.Context, chunk []task) error {
	defer e.inFlight.remove(slices.Clone(chunk)) // keepEarlierIDs may change ids
	if err := e.keepEarlierIDs(ctx, chunk); err != nil {
		e.answerUnsent(chunk, err)
		return err
	}
	if !e.waitForSlots(ctx, chunk) {
		e.answerUnsent(chunk, nil)
		return nil
	}
	for attempt := 0; ; attempt++ {
		left, err := e.submitOnce(ctx, chunk)
		if len(left) == 0 {
			return nil
		}
		if attempt == len(retryDelays) || !background.Sleep(ctx, retryDelays[attempt]) {
			e.abandon(left, err)
			e.answerUnsent(left, err)
			return fmt.Errorf("line %d: %w", left[0].Line, err)
		}
		chunk = left
	}
}

// keepEarlierIDs gives the tasks of a chunk that Options.Known knows by the id of an earlier
// version that id. It repeats the look-up while Redis does not answer.
func (e *enqueuer) keepEarlierIDs(ctx context.Context, chunk []task) error {
	byApp := make(map[string][]*task)
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
			if attempt == len(retryDelays) || !background.Sleep(ctx, retryDelays[attempt]) {
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
func (e *enqueuer) waitForSlots(ctx context.Context, chunk []task) bool {
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

// submitOnce submits a chunk. It returns the tasks for which Redis did not answer, with the
// first error; repeating these is safe. A submission that has begun is finished even if ctx
// ends.
func (e *enqueuer) submitOnce(ctx context.Context, chunk []task) ([]task, error) {
	envelopes := make([]tasks.Envelope, len(chunk))
	for i := range chunk {
		envelopes[i] = chunk[i].Envelope
	}
	var left []task
	var firstErr error
	var done []answered
	for i, result := range e.Client.SubmitMany(context.WithoutCancel(ctx), envelopes) {
		if !e.report(chunk[i], result) {
			left = append(left, chunk[i])
			if firstErr == nil {
				firstErr = result.Err
			}
			continue
		}
		if e.answers != nil {
			done = append(done, chunk[i].answered(result.Receipt, result.Err))
		}
	}
	e.answers.add(done...)
	return left, firstErr
}

// report reports the result of a submission. It returns false if the task must be repeated.
func (e *enqueuer) report(item task, result tasks.SubmitResult) bool {
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
func (e *enqueuer) abandon(chunk []task, err error) {
	if e.afterSubmit == nil {
		return
	}
	for _, item := range chunk {
		e.afterSubmit(item.Envelope, tasks.Receipt{}, err)
	}
}
