package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// shortDelay is the delay of a task that cannot be sent for the moment.
const shortDelay = time.Second

// laneClosing is the reason for handing a task back when its lane closes.
const laneClosing = "the lane is closing, or asynq canceled the run"

// deliver takes one task through the pipeline:
//
//	decode → app's hours → probe → receiver's lock → request (guards, image, token) → permit →
//	open (settled? canceled? expired? fence) → OnSending → connection → permit's instant →
//	call → judge → record → settle
//
// It holds no policy: open decides whether the task may be sent, judge decides what follows
// from the answer. asynq deletes the task when deliver returns nil, retries it after a
// *handedBack, and archives it after asynq.SkipRetry.
func (r *Replica) deliver(ctx context.Context, l *lane, t *asynq.Task) error {
	// All waits end when the lane closes. The steps after an attempt outlive asynq's context:
	// a "cancel" in its web UI, or a lost lease, must not make a known answer unknown.
	taskCtx, laneCtx := ctx, l.gate.Context()
	ctx = context.WithoutCancel(ctx)

	permit := l.gate.TakePermit()
	j, err := newJob(taskCtx, l, t)
	if err != nil {
		r.limiter.release(ctx, permit)
		return r.discard(ctx, err)
	}
	j.permit, j.unlock = permit, func() {}
	defer func() {
		j.unlock()
		r.limiter.release(ctx, j.permit)
	}()
	if err := r.prepare(taskCtx, laneCtx, l, j); err != nil {
		if !j.capped() {
			return err // the record is unchanged: the task only waits
		}
		j.err = &guardError{reason: err.Error()} // asynq would archive the task: it ends with an outcome
	}
	openCtx := laneCtx
	if j.capped() {
		openCtx = ctx
	}
	if err := r.openOrWait(openCtx, l, j); err != nil {
		return retryLater(redisRetryDelay, "Redis did not answer")
	}
	if j.opened.Admission != ledger.Proceed {
		return r.unsent(ctx, j)
	}
	if j.err == nil {
		j.err = r.notifySending(laneCtx, j)
	}
	if j.err == nil {
		r.servers.donePreparing(j)
		j.answer, j.err = r.call(ctx, l, j)
	}
	return r.settle(ctx, j, r.verdict(ctx, j))
}

// prepare acquires what a task needs before open: the probe of a lane whose breaker is
// tripped, the receiver's lock, the request and a permit. It returns a *handedBack; other
// errors are stored in j.err.
func (r *Replica) prepare(taskCtx, laneCtx context.Context, l *lane, j *job) error {
	if wait, closed := r.hoursWait(j); closed {
		r.log.Debug("handed back", j.attrs(slog.Duration("delay", wait), slog.String("reason", outsideHours))...)
		return retryLater(wait, outsideHours)
	}
	probed, err := r.probe(laneCtx, j)
	if err != nil {
		return r.notCalled(laneCtx, j, err.Error())
	}
	j.unlock = probed
	unlock, err := r.lockReceiver(laneCtx, l, j)
	if err != nil {
		return err
	}
	j.unlock = func() { unlock(); probed() }
	if j.request, j.err = r.request(laneCtx, j); j.err == nil {
		if err := r.freshPermit(laneCtx, l, j); err != nil {
			return r.notCalled(laneCtx, j, err.Error())
		}
	}
	if taskCtx.Err() != nil || laneCtx.Err() != nil {
		return retryLater(redisRetryDelay, laneClosing)
	}
	return nil
}

// openOrWait opens a task. A capped task that another runner may still have waits until that
// runner has ended or the lane closes.
func (r *Replica) openOrWait(ctx context.Context, l *lane, j *job) error {
	for {
		err := r.open(ctx, j)
		if err != nil || j.opened.Admission != ledger.Busy || !j.capped() || !sleep(l.gate.Context(), j.opened.Wait) {
			return err
		}
	}
}

// open claims the task in the ledger, or finds out why it may not be sent. It repeats the
// call until Redis answers or the lane closes: a call whose reply was lost may have raised
// the fence, and only the same runner knows that no request was written.
func (r *Replica) open(ctx context.Context, j *job) error {
	return r.retryRedis(ctx, j, "the task could not be opened yet", func() (err error) {
		j.opened, err = r.ledger.Open(ctx, j.ref(), ledger.OpenRequest{
			Runner: j.runner, Queue: j.queue, Marked: j.marked, Enqueued: j.enqueuedAt,
			Fenced: j.spec.Repeat != tasks.Always, Dedupe: j.spec.Repeat.Window(),
			Expired: j.expired(r.now()),
		})
		return err
	})
}

// unsent ends or hands back a task that may not be sent now.
func (r *Replica) unsent(ctx context.Context, j *job) error {
	switch j.opened.Admission {
	case ledger.Settled, ledger.Proceed:
		r.log.Debug("already settled", j.attrs()...)
		return nil
	case ledger.Busy:
		if j.capped() { // the other runner may replace this outcome
			return r.end(ctx, j, verdict{outcome: tasks.OutcomeUnknown, reason: "runner_lost"})
		}
		return retryLater(j.opened.Wait, "another runner has it")
	case ledger.Unknown:
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeUnknown, reason: "runner_lost"})
	case ledger.Forgotten:
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeUnknown, reason: "record_lost"})
	case ledger.Lost:
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeFailed, reason: "runners_lost"})
	case ledger.Canceled:
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeCanceled})
	case ledger.Expired:
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeExpired})
	}
	return fmt.Errorf("the ledger answered %q", j.opened.Admission)
}

// settle carries out the verdict on an attempt.
func (r *Replica) settle(ctx context.Context, j *job, v verdict) error {
	if v.slows != "" {
		r.lowerPace(ctx, j, v.slows)
	}
	if v.stops != stopNothing {
		v = r.hold(ctx, j, v)
	}
	if v.learns {
		r.learner.refused(j.App, j.Type)
	}
	if v.outcome == "" {
		return r.handBack(ctx, j, v)
	}
	return r.end(ctx, j, v)
}

// end records an outcome, and returns the error that makes asynq delete, retry or archive
// its copy.
func (r *Replica) end(ctx context.Context, j *job, v verdict) error {
	outcome, err := r.record(ctx, j, v)
	if errors.Is(err, errRedriven) {
		r.log.Warn("the outcome is dropped: the task was redriven during the run", j.attrs(slog.String("outcome", string(v.outcome)))...)
		return retryLater(0, err.Error())
	}
	if err != nil {
		return retryLater(redisRetryDelay, "the outcome could not be recorded")
	}
	if outcome == tasks.OutcomeFailed || outcome == tasks.OutcomeUnknown {
		return fmt.Errorf("%s: %s: %w", outcome, v.reason, asynq.SkipRetry)
	}
	return nil
}

// handBack returns a task to asynq for another attempt. A capped task fails instead.
// handBack returns a task to asynq for another attempt. A capped task fails instead.
func (r *Replica) handBack(ctx context.Context, j *job, v verdict) error {
	if j.capped() {
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeFailed, reason: "retries_capped"})
	}
	state := tasks.StateWaiting
	if v.counts {
		state = tasks.StateRetrying
	}
	r.notifyNotSent(j)
	err := r.retryRedis(ctx, j, "the task could not be handed back yet", func() error {
		return r.ledger.Defer(ctx, j.ref(), ledger.DeferRequest{
			Runner: j.runner, State: string(state), NotAccepted: !noAnswer(j.err), NotCalled: !j.called,
		})
	})
	if err != nil {
		return retryLater(redisRetryDelay, "Redis did not answer")
	}
	if errors.Is(j.err, errNoPermit) && r.held(ctx, j) {
		v.place = asynqwire.QueueFront
	}
	r.log.Debug("handed back", j.attrs(slog.Duration("delay", v.delay), slog.Any("err", j.err))...)
	return &handedBack{delay: v.delay, counts: v.counts, why: j.why(v), place: v.place}
}

// notCalled hands back a task that has not been opened. It goes to the front of its queue
// where its lane is held, and otherwise comes back after shortDelay.
func (r *Replica) notCalled(ctx context.Context, j *job, why string) error {
	back := &handedBack{delay: shortDelay, why: why}
	if r.held(context.WithoutCancel(ctx), j) {
		back.place = asynqwire.QueueFront
	}
	return back
}

// retryRedis repeats a step until it succeeds or ctx ends. It logs the first failure, and
// then one a minute.
func (r *Replica) retryRedis(ctx context.Context, j *job, trouble string, step func() error) error {
	for n := 0; ; n++ {
		err := step()
		if err == nil {
			return nil
		}
		if n%int(time.Minute/redisRetryDelay) == 0 {
			r.log.Warn(trouble, j.attrs(slog.Any("err", err))...)
		}
		select {
		case <-time.After(redisRetryDelay):
		case <-ctx.Done():
			return err
		}
	}
}
