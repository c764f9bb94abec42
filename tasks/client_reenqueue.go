package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// resumeRedrive goes on with what another call put back: it died over it, or is at it.
func (c *Client) resumeRedrive(ctx context.Context, app, id string, e ledger.Ended, want Redrive) (Redriven, error) {
	if len(e.History) == 0 {
		return RedriveUnmatched, nil
	}
	before, err := decodeResult(e.History[len(e.History)-1].Result)
	if err != nil {
		return "", err
	}
	if !want.matches(before) {
		return RedriveUnmatched, nil
	}
	if want.DryRun {
		return RedriveDone, nil
	}
	return c.reenqueue(ctx, app, id, e)
}

// FinishRedrives hands over what earlier redrives of an app put back and did not hand
// over, whatever they asked for: their process died, or Redis failed them. It returns how
// many there were, and the ids of those that stay behind, since a run that had them
// before has not ended. With dryRun it only counts.
func (c *Client) FinishRedrives(ctx context.Context, app string, dryRun bool) (finished int, busy []string, err error) {
	ids, err := c.ledger.Underway(ctx, app)
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		e, err := c.ledger.Ended(ctx, app, id)
		switch {
		case err != nil && !errors.Is(err, ledger.ErrNotFound):
			return finished, busy, err
		case dryRun:
			if e.Underway && e.Outcome == "" {
				finished++
			}
			continue
		case !e.Underway || e.Outcome != "": // a runner has it, or it has ended
			if err := c.ledger.HandedOver(ctx, app, id, e.Generation); err != nil {
				return finished, busy, err
			}
			continue
		}
		done, err := c.reenqueue(ctx, app, id, e)
		if err != nil {
			return finished, busy, err
		}
		if done == RedriveBusy {
			busy = append(busy, id)
		} else {
			finished++
		}
	}
	return finished, busy, nil
}

// reenqueueTimeout is how long a redrive waits for a run that had the task before. As a
// rule it has recorded the outcome, and is about to tell asynq.
const reenqueueTimeout = 5 * time.Second

// reenqueue gives a task that was put back to asynq, wakes its lane and ends the redrive.
func (c *Client) reenqueue(ctx context.Context, app, id string, e ledger.Ended) (Redriven, error) {
	task := redrivenTask(app, id, e)
	deadline := time.Now().Add(reenqueueTimeout)
	for pause := 5 * time.Millisecond; ; {
		_, err := c.asynqClient.EnqueueContext(ctx, task)
		state := copyCurrent
		if errors.Is(err, asynq.ErrTaskIDConflict) {
			state, err = c.removeStaleCopy(ctx, app, id, e.Queue)
		}
		switch {
		case err != nil:
			return "", fmt.Errorf("redrive %s: %w", id, err)
		case state == copyCurrent:
			_ = c.rdb.Publish(ctx, ledger.WakeChannel, e.Queue).Err() // else the replicas look for themselves
			return RedriveDone, c.ledger.HandedOver(ctx, app, id, e.Generation)
		case time.Now().After(deadline):
			return RedriveBusy, nil
		case state == copyAbsent:
			continue
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, 250*time.Millisecond)
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// redrivenTask is the asynq task of a record.
func redrivenTask(app, id string, e ledger.Ended) *asynq.Task {
	_, typ, _, _ := ParseQueue(e.Queue)
	return asynq.NewTaskWithHeaders(typ, e.Kept.Payload, e.Kept.Headers, asynq.Queue(e.Queue),
		asynq.TaskID(Envelope{App: app, ID: id}.TaskID()), asynq.Timeout(handlerTimeout),
		asynq.MaxRetry(MarkedRetry)) // it has a record, whoever enqueued it first
}

// queueSet is asynq's set of all queues.
const queueSet = "asynq:queues"

// taskInfo asks asynq for a task. A queue that was deleted in the asynq web UI is not in
// asynq's set of queues, and a producer that knew it before does not put it back: asynq
// says then that there is no such queue, whatever is in it.
func (c *Client) taskInfo(ctx context.Context, queue, taskID string) (*asynq.TaskInfo, error) {
	info, err := c.inspector.GetTaskInfo(queue, taskID)
	if !errors.Is(err, asynq.ErrQueueNotFound) {
		return info, err
	}
	if err := c.rdb.SAdd(ctx, queueSet, queue).Err(); err != nil {
		return nil, err
	}
	return c.inspector.GetTaskInfo(queue, taskID)
}

// What became of asynq's copy of a task.
type copyState int

const (
	copyCurrent copyState = iota // it is about to run, or runs, in the task's present generation
	copyAbsent                   // there is room for a new one
	copyBusy                     // as it was before: asynq forgets it, or archives it, when its run ends
)

// removeStaleCopy looks at the copy that asynq has of a task already. One that would not run
// soon is deleted, to be enqueued anew.
func (c *Client) removeStaleCopy(ctx context.Context, app, id, queue string) (copyState, error) {
	taskID := Envelope{App: app, ID: id}.TaskID()
	info, err := c.taskInfo(ctx, queue, taskID)
	if errors.Is(err, asynq.ErrTaskNotFound) {
		return copyAbsent, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for asynq's copy: %w", err)
	}
	switch info.State {
	case asynq.TaskStatePending, asynq.TaskStateScheduled:
		return copyCurrent, nil
	case asynq.TaskStateActive:
		// A run that found the task put back has ended the redrive with it.
		underway, err := c.ledger.IsUnderway(ctx, app, id)
		if underway {
			return copyBusy, err
		}
		return copyCurrent, err
	default:
		err := c.inspector.DeleteTask(queue, taskID)
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
			return copyBusy, nil // it may have become active; asked again, asynq tells
		}
		return copyAbsent, nil
	}
}
