package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// resumeRedrive resumes the redrive of a task that another call put back and has not
// enqueued yet.
func (i *Inspector) resumeRedrive(ctx context.Context, app, id string, e ledger.RedriveState, want Redrive) (RedriveResult, error) {
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
	return i.reenqueue(ctx, app, id, e)
}

// FinishRedrives enqueues the tasks of an app that earlier redrives put back but did not
// enqueue, because their process died or Redis failed. It returns the number of these tasks,
// and the ids of those that are still busy: an earlier run of the task has not ended. With
// dryRun it only counts.
func (i *Inspector) FinishRedrives(ctx context.Context, app string, dryRun bool) (finished int, busy []string, err error) {
	ids, err := i.ledger.RedrivesInProgress(ctx, app)
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		e, err := i.ledger.RedriveState(ctx, app, id)
		switch {
		case err != nil && !errors.Is(err, ledger.ErrNotFound):
			return finished, busy, err
		case dryRun:
			if e.InProgress && e.Outcome == "" {
				finished++
			}
			continue
		case !e.InProgress || e.Outcome != "": // a runner started it, or it has ended
			if err := i.ledger.FinishRedrive(ctx, app, id, e.Generation); err != nil {
				return finished, busy, err
			}
			continue
		}
		done, err := i.reenqueue(ctx, app, id, e)
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

// reenqueueTimeout is how long a redrive waits for an earlier run of the task. Usually that
// run has recorded the outcome and is about to end the task in asynq.
const reenqueueTimeout = 5 * time.Second

// reenqueue enqueues a task that was put back, wakes its lane and completes the redrive.
func (i *Inspector) reenqueue(ctx context.Context, app, id string, e ledger.RedriveState) (RedriveResult, error) {
	task := redrivenTask(app, id, e)
	deadline := time.Now().Add(reenqueueTimeout)
	for pause := 5 * time.Millisecond; ; {
		_, err := i.asynqClient.EnqueueContext(ctx, task)
		state := copyCurrent
		if errors.Is(err, asynq.ErrTaskIDConflict) {
			state, err = i.removeStaleCopy(ctx, app, id, e.Queue)
		}
		switch {
		case err != nil:
			return "", fmt.Errorf("redrive %s: %w", id, err)
		case state == copyCurrent:
			i.wake(ctx, e.Queue)
			return RedriveDone, i.ledger.FinishRedrive(ctx, app, id, e.Generation)
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

// redrivenTask makes the asynq task of a record.
func redrivenTask(app, id string, e ledger.RedriveState) *asynq.Task {
	_, typ, _, _ := ParseQueue(e.Queue)
	return asynq.NewTaskWithHeaders(typ, e.Content.Payload, e.Content.Headers, asynq.Queue(e.Queue),
		asynq.TaskID(Envelope{App: app, ID: id}.TaskID()), asynq.Timeout(handlerTimeout),
		asynq.MaxRetry(MarkedRetry)) // it has a record, also if a plain asynq.Client enqueued it first
}

// copyState is the state of asynq's copy of a task.
type copyState int

const (
	copyCurrent copyState = iota // pending, or running in the task's present generation
	copyAbsent                   // there is none: the task can be enqueued
	copyBusy                     // running in an earlier generation: asynq deletes or archives it when the run ends
)

// removeStaleCopy returns the state of asynq's copy of a task. It deletes a copy that is
// neither pending, scheduled nor running, so that the task can be enqueued again.
func (i *Inspector) removeStaleCopy(ctx context.Context, app, id, queue string) (copyState, error) {
	taskID := Envelope{App: app, ID: id}.TaskID()
	info, err := i.taskInfo(ctx, queue, taskID)
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
		// A run of the present generation has completed the redrive.
		inProgress, err := i.ledger.IsRedriveInProgress(ctx, app, id)
		if inProgress {
			return copyBusy, err
		}
		return copyCurrent, err
	default:
		err := i.asynqInspector.DeleteTask(queue, taskID)
		if err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
			return copyBusy, nil // it may have become active; the next attempt finds out
		}
		return copyAbsent, nil
	}
}
