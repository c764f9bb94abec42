package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// settle ends or hands back a task by the verdict on its attempt.
func (d *deliverer) settle(ctx context.Context, j *job, v dispatch.Verdict) error {
	if v.Outcome == "" {
		return d.handBack(ctx, j, v)
	}
	return d.end(ctx, j, v)
}

// settleUnsent ends or hands back a task that may not be sent now.
func (d *deliverer) settleUnsent(ctx context.Context, j *job) error {
	switch j.opened.Admission {
	case ledger.Settled, ledger.Proceed:
		return d.endAgain(ctx, j)
	case ledger.Busy:
		if j.capped() { // the other runner may replace this outcome
			return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: "runner_lost"})
		}
		return retryLater(j.opened.Wait, "another runner has it")
	case ledger.Unknown:
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: "runner_lost"})
	case ledger.Forgotten:
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeUnknown, Reason: "record_lost"})
	case ledger.Lost:
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeFailed, Reason: "runners_lost"})
	case ledger.Canceled:
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeCanceled})
	case ledger.Expired:
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeExpired})
	}
	return fmt.Errorf("the ledger answered %q", j.opened.Admission)
}

// end records an outcome, and returns the error that makes asynq delete, retry or archive
// its copy.
func (d *deliverer) end(ctx context.Context, j *job, v dispatch.Verdict) error {
	defer j.trace.end(j, v)
	recorded, err := d.record(ctx, j, v)
	if errors.Is(err, errRedriven) {
		d.log.Warn("the outcome is dropped: the task was redriven during the run", j.attrs(slog.String("outcome", string(v.Outcome)))...)
		return retryLater(0, err.Error())
	}
	if err != nil {
		return retryLater(redisRetryDelay, "the outcome could not be recorded")
	}
	return d.endInAsynq(j, recorded)
}

// handBack returns a task to asynq for another attempt. A capped task fails instead.
func (d *deliverer) handBack(ctx context.Context, j *job, v dispatch.Verdict) error {
	if j.capped() {
		return d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeFailed, Reason: "retries_capped"})
	}
	defer j.trace.end(j, v)
	state := tasks.StateWaiting
	if v.Counts {
		state = tasks.StateRetrying
	}
	d.notifyNotSent(j)
	last := j.lastAnswer(time.Now())
	err := d.retryRedis(ctx, j, "the task could not be handed back yet", func() error {
		return d.ledger.Defer(ctx, j.ref(), ledger.DeferRequest{
			Runner: j.runner, State: string(state), NotAccepted: !dispatch.NoAnswer(j.err), NotCalled: !j.call.Called(),
			Last: last, Wait: v.Delay,
		})
	})
	if err != nil {
		return retryLater(redisRetryDelay, "Redis did not answer")
	}
	if errors.Is(j.err, dispatch.ErrNoPermit) && d.dispatcher.Held(ctx, &j.call) {
		v.Place = asynqwire.QueueFront
	}
	d.log.Debug("handed back", j.attrs(slog.Duration("delay", v.Delay), slog.Any("err", j.err))...)
	return &handedBack{delay: v.Delay, counts: v.Counts, why: j.why(v), place: v.Place}
}
