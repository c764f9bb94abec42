package worker

import (
	"context"
	"log/slog"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/tasks"
)

// awaitCallback makes a task wait for WeChat's push, which tells the result of its request. asynq's
// copy comes back when the task has waited too long, or when the push has ended it.
//
// The gateway that gets the push ends the task. This run does so if the push came before.
func (d *deliverer) awaitCallback(ctx context.Context, j *job, v dispatch.Verdict) error {
	if !ledger.ValidTraceID(j.answer.TraceID) {
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: pushes.ReasonNoCallback})
	}
	base := j.result(v, d.now())
	var awaited ledger.AwaitResult
	err := d.retryRedis(ctx, j, "the answer could not be recorded yet", func() (err error) {
		awaited, err = d.ledger.Await(ctx, j.ref(), ledger.AwaitRequest{
			Runner: j.runner, Queue: j.queue, TraceID: j.answer.TraceID, Result: base.Encode(), Timeout: d.callbackTimeout,
		})
		return err
	})
	switch {
	case err != nil:
		return retryLater(redisRetryDelay, "Redis did not answer")
	case awaited.Lost:
		return retryLater(redisRetryDelay, "another runner has it, or it has ended")
	case awaited.Early != nil:
		return d.endByCallback(ctx, j, awaited.Early)
	case j.capped(): // asynq would archive it; the push replaces the outcome
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: pushes.ReasonNoCallback})
	}
	d.log.Debug("waits for the callback", j.attrs(slog.Duration("timeout", d.callbackTimeout))...)
	j.trace.end(j, v)
	return retryLater(d.callbackTimeout, taskstate.AwaitsCallback)
}

// checkCallback ends or hands back a task whose request WeChat has accepted before this run. waits is
// false for a task of which no request was accepted.
func (d *deliverer) checkCallback(ctx context.Context, j *job) (waits bool, err error) {
	a, err := d.ledger.Awaiting(ctx, j.App, j.ID)
	if err != nil {
		return true, retryLater(redisRetryDelay, "Redis did not answer")
	}
	if a.TraceID == "" {
		return false, nil
	}
	j.opened = ledger.OpenResult{Attempts: a.Attempts, Generation: a.Generation, Enqueued: a.Enqueued}
	j.answer.TraceID = a.TraceID
	switch {
	case a.Early != nil:
		return true, d.endByCallback(ctx, j, a.Early)
	case a.Wait > 0:
		return true, retryLater(a.Wait, taskstate.AwaitsCallback)
	}
	return true, d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: pushes.ReasonNoCallback})
}

// endByCallback ends a task with a push that came before the answer to its request was recorded.
func (d *deliverer) endByCallback(ctx context.Context, j *job, push []byte) error {
	var r tasks.Result
	if err := pushes.CompleteEarlyCheck(&r, push, d.now()); err != nil {
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: err.Error()})
	}
	j.completed = &r
	return d.end(ctx, j, dispatch.Verdict{Outcome: r.Outcome, Reason: r.Reason})
}
