package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// deliver takes one task through the pipeline:
//
//	decode → openid's turn → permit → open (settled? canceled? expired? fence) →
//	permit's instant → call → judge → record → settle
//
// It decides nothing: Open says whether the task may be sent, judge what an answer
// means for it. What it returns tells asynq to forget the task (nil), to bring it back
// (*handedBack) or to archive it (asynq.SkipRetry).
func (r *Replica) deliver(ctx context.Context, l *lane, t *asynq.Task) error {
	j, err := newJob(ctx, l, t)
	if err != nil {
		return r.discard(ctx, l, err)
	}
	leave, err := r.turns.enter(l.gate.ctx, j.turnKey())
	if err != nil {
		return notNow(0, "the lane closes")
	}
	defer leave()
	permit, err := r.freshPermit(l.gate.ctx, l, l.gate.take())
	if err != nil {
		return notNow(0, "the lane closes")
	}
	defer func() { r.limiter.release(permit) }() // nothing, once it is used
	if opened, err := r.open(ctx, j); err != nil {
		return notNow(redisPause, "Redis did not answer")
	} else if opened.What != ledger.Go {
		r.limiter.release(permit) // before it is too late for another task
		return r.settle(ctx, j, r.verdictOf(opened))
	}
	j.answer, j.err = r.call(ctx, j, func() (err error) {
		permit, err = r.use(ctx, l, j, permit)
		return err
	})
	return r.settle(ctx, j, r.judge(ctx, j))
}

// freshPermit is the permit that came with the dequeue, or another one when it has
// become too late to use.
func (r *Replica) freshPermit(ctx context.Context, l *lane, p *ratelimit.Permit) (*ratelimit.Permit, error) {
	if p != nil && p.Fresh(time.Now()) {
		return p, nil
	}
	r.limiter.release(p)
	return l.pace.Acquire(ctx, nil)
}

// permitPatience is how long a task that has been opened waits for another permit, when
// its own became too late meanwhile. Longer, and it goes back to its queue.
const permitPatience = 2 * time.Second

// use waits for the instant of a permit, which is used up then: what it returns is left to
// be given back.
func (r *Replica) use(ctx context.Context, l *lane, j *job, p *ratelimit.Permit) (*ratelimit.Permit, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), permitPatience)
	defer cancel()
	fresh, err := r.freshPermit(ctx, l, p)
	switch {
	case err != nil:
		return nil, &guardError{reason: "no permit in time"}
	case fresh != p && !fresh.Bulk() && isBulk(j.queue):
		return fresh, &guardError{reason: "what is left of the day is kept for urgent tasks"}
	case fresh.Wait(ctx) != nil:
		return fresh, &guardError{reason: "no permit in time"}
	}
	return nil, nil
}

func isBulk(queue string) bool {
	_, _, priority, ok := tasks.ParseQueue(queue)
	return ok && priority == tasks.Bulk
}

func (r *Replica) open(ctx context.Context, j *job) (ledger.Opened, error) {
	opened, err := r.ledger.Open(ctx, j.ref(), ledger.Opening{
		Runner: j.runner, Queue: j.queue,
		Fenced: j.spec.Repeat != tasks.Always, Dedupe: j.spec.Repeat.Window(),
		Expired: !j.NotAfter.IsZero() && time.Now().After(j.NotAfter),
	})
	j.opened = opened
	return opened, err
}

// verdictOf is what becomes of a task that may not be sent.
func (r *Replica) verdictOf(o ledger.Opened) verdict {
	switch o.What {
	case ledger.Busy:
		return verdict{delay: o.Wait}
	case ledger.Unknown:
		return verdict{outcome: tasks.OutcomeUnknown, reason: "runner_lost"}
	case ledger.Lost:
		return verdict{outcome: tasks.OutcomeFailed, reason: "runners_lost"}
	case ledger.Canceled:
		return verdict{outcome: tasks.OutcomeCanceled}
	case ledger.Expired:
		return verdict{outcome: tasks.OutcomeExpired}
	case ledger.Settled, ledger.Go:
	}
	return verdict{}
}

// call makes the attempt: the guards that need no call first, then WeChat, when the pace
// says so.
func (r *Replica) call(ctx context.Context, j *job, paced func() error) (answer wechat.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("panic in a delivery", j.attrs(slog.String("panic", fmt.Sprintf("%T", v)))...)
			err = &panicError{}
		}
	}()
	if err := r.guard(ctx, j); err != nil {
		return wechat.Answer{}, err
	}
	request, err := r.request(ctx, j)
	if err != nil {
		return wechat.Answer{}, err
	}
	if err := paced(); err != nil {
		return wechat.Answer{}, err
	}
	// The attempt outlives asynq's context: an operator's "cancel" there, or a lost
	// lease, must not turn a request under way into an unknown answer.
	started := time.Now()
	answer, err = r.wechat.Call(context.WithoutCancel(ctx), j.App, request)
	r.metrics.called(j.App, j.spec.Path, err, time.Since(started))
	return answer, err
}

// settle carries a verdict out: the outcome is recorded, or the task handed back.
func (r *Replica) settle(ctx context.Context, j *job, v verdict) error {
	if j.opened.What == ledger.Settled {
		r.log.Debug("already settled", j.attrs()...)
		return nil
	}
	if v.stops != stopNothing {
		v.delay = max(v.delay, r.hold(ctx, j, v))
	}
	if v.outcome == "" {
		return r.handBack(ctx, j, v)
	}
	result, err := r.record(ctx, j, v)
	if err != nil {
		return notNow(redisPause, "the outcome could not be recorded")
	}
	r.logOutcome(j, v)
	if result.Outcome == tasks.OutcomeFailed || result.Outcome == tasks.OutcomeUnknown {
		return fmt.Errorf("%s: %s: %w", result.Outcome, v.reason, asynq.SkipRetry)
	}
	return nil
}

func (r *Replica) handBack(ctx context.Context, j *job, v verdict) error {
	if j.opened.What == ledger.Go {
		state := tasks.StateWaiting
		if v.counts {
			state = tasks.StateRetrying
		}
		// A fence that could not be lowered costs an unknown outcome, never a double.
		if err := r.ledger.Defer(ctx, j.ref(), j.runner, string(state), !noAnswer(j.err)); err != nil {
			r.log.Warn("a task could not be handed back", j.attrs(slog.Any("err", err))...)
		}
	}
	r.log.Debug("handed back", j.attrs(slog.Duration("delay", v.delay), slog.Any("err", j.err))...)
	return &handedBack{delay: v.delay, counts: v.counts, why: j.why(v)}
}
