package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// How long a task waits in its handler, where it holds a slot and a lease. What takes
// longer, it waits for outside.
const (
	turnPatience   = 2 * time.Second
	permitPatience = time.Second
	// crowdPause is how long it then stays away.
	crowdPause = time.Second
)

// deliver takes one task through the pipeline:
//
//	decode → app's hours → openid's turn → request (guards, image, token) → permit →
//	open (settled? canceled? expired? fence) → OnSending → permit's instant →
//	call → judge → record → settle
//
// It decides nothing: open says whether the task may be sent, judge what an answer
// means for it. What it returns tells asynq to forget the task (nil), to bring it back
// (*handedBack) or to archive it (asynq.SkipRetry).
func (r *Replica) deliver(ctx context.Context, l *lane, t *asynq.Task) error {
	// All waiting ends with the lane. What follows an attempt outlives asynq's context
	// too: an operator's "cancel" there, or a lost lease, must not turn an answer that is
	// in hand into an unknown one.
	asked, waiting := ctx, l.gate.ctx
	ctx = context.WithoutCancel(ctx)

	permit, late := l.gate.take(time.Now()) // of this task or of another one of the lane
	for _, p := range late {
		r.limiter.release(ctx, p)
	}
	defer func() { r.limiter.release(ctx, permit) }()

	j, err := newJob(asked, l, t)
	if err != nil {
		return r.discard(ctx, err)
	}
	if wait, rests := r.resting(j); rests {
		if !j.capped() {
			r.log.Debug("handed back", j.attrs(slog.Duration("delay", wait), slog.String("reason", outside))...)
			return notNow(wait, outside) // its record stays as it is: it only waits
		}
		j.err = &guardError{reason: outside, delay: wait}
	}
	leave, err := r.turn(waiting, j)
	if err != nil {
		return notNow(crowdPause, "others send to the same person")
	}
	defer leave()
	if j.err == nil {
		j.request, j.err = r.request(waiting, l, j)
	}
	if j.err == nil {
		if permit, err = r.freshPermit(waiting, l, j, permit); err != nil {
			return notNow(crowdPause, err.Error())
		}
	}
	if asked.Err() != nil || waiting.Err() != nil {
		return notNow(redisPause, "the lane closes, or asynq took it back")
	}
	if err := r.open(waiting, j); err != nil {
		return notNow(redisPause, "Redis did not answer")
	}
	if j.opened.What != ledger.Go {
		return r.unsent(ctx, j)
	}
	if j.err == nil {
		j.err = r.announce(waiting, j)
	}
	if j.err == nil {
		permit, j.err = r.instant(waiting, l, j, permit)
	}
	if j.err == nil {
		permit = nil // used
		r.servers.waits(j)
		j.answer, j.err = r.call(ctx, j)
	}
	return r.settle(ctx, j, r.verdict(ctx, j))
}

// turn waits for the turn of the task's receiver.
func (r *Replica) turn(ctx context.Context, j *job) (leave func(), err error) {
	if leave, ok := r.turns.try(j.turnKey()); ok {
		return leave, nil
	}
	r.servers.waits(j)
	ctx, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	return r.turns.enter(ctx, j.turnKey())
}

// errNoPermit and errReserved say why a task has no permit.
var (
	errNoPermit = &guardError{reason: "no permit in time"}
	errReserved = &guardError{reason: "what is left of the day is kept for urgent tasks"}
)

// freshPermit is the permit p, which may be nil, or another one when it has become too late
// to use, or is kept for urgent tasks and the job is none. p is given back then.
func (r *Replica) freshPermit(ctx context.Context, l *lane, j *job, p *ratelimit.Permit) (*ratelimit.Permit, error) {
	mayUse := func(p *ratelimit.Permit) bool { return p.Bulk() || j.Priority != tasks.Bulk }
	if p != nil && p.Fresh(time.Now()) && mayUse(p) {
		return p, nil
	}
	r.limiter.release(ctx, p)
	waiting, cancel := context.WithTimeout(ctx, permitPatience)
	defer cancel()
	fresh, err := l.pace.Acquire(waiting, nil)
	switch {
	case err != nil:
		return nil, errNoPermit
	case !mayUse(fresh):
		r.limiter.release(ctx, fresh)
		return nil, errReserved
	}
	return fresh, nil
}

// instant waits for the permit's instant, right before the call. A permit that became
// too late meanwhile is replaced; when that takes long, the task goes back to its queue.
func (r *Replica) instant(ctx context.Context, l *lane, j *job, p *ratelimit.Permit) (*ratelimit.Permit, error) {
	if now := time.Now(); !p.Fresh(now) || now.Before(p.At) {
		var err error
		if p, err = r.await(ctx, l, j, p); err != nil {
			return p, err
		}
	}
	if wait, rests := r.resting(j); rests { // they closed meanwhile
		return p, &guardError{reason: outside, delay: wait}
	}
	return p, nil
}

// await waits for the instant of a permit, or of another one when it became too late.
func (r *Replica) await(ctx context.Context, l *lane, j *job, p *ratelimit.Permit) (*ratelimit.Permit, error) {
	ctx, cancel := context.WithTimeout(ctx, permitPatience)
	defer cancel()
	fresh, err := r.freshPermit(ctx, l, j, p)
	if err != nil {
		return nil, err
	}
	if fresh.Wait(ctx) != nil {
		return fresh, errNoPermit
	}
	return fresh, nil
}

// open takes the task, or learns why it may not be sent. It asks until Redis answers,
// or the lane closes: a question whose answer was lost may have raised the fence, and
// only the same runner can tell that nothing was written.
func (r *Replica) open(ctx context.Context, j *job) error {
	return r.insist(ctx, j, "the task could not be opened yet", func() (err error) {
		j.opened, err = r.ledger.Open(ctx, j.ref(), ledger.Opening{
			Runner: j.runner, Queue: j.queue, Marked: j.marked,
			Fenced: j.spec.Repeat != tasks.Always, Dedupe: j.spec.Repeat.Window(),
			Expired: !j.NotAfter.IsZero() && r.now().After(j.NotAfter),
		})
		return err
	})
}

// unsent ends or hands back a task that may not be sent now.
func (r *Replica) unsent(ctx context.Context, j *job) error {
	switch j.opened.What {
	case ledger.Settled, ledger.Go:
		r.log.Debug("already settled", j.attrs()...)
		return nil
	case ledger.Busy:
		return notNow(j.opened.Wait, "another runner has it")
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
	return fmt.Errorf("the ledger answered %q", j.opened.What)
}

// settle carries the verdict on an attempt out.
func (r *Replica) settle(ctx context.Context, j *job, v verdict) error {
	if v.slows != "" {
		r.slow(ctx, j, v.slows)
	}
	if v.stops != stopNothing {
		r.hold(ctx, j, v)
	}
	if v.learns {
		r.learner.refused(j.App, j.Type)
	}
	if v.outcome == "" {
		return r.handBack(ctx, j, v)
	}
	return r.end(ctx, j, v)
}

// end records an outcome, and tells asynq what to do with its copy.
func (r *Replica) end(ctx context.Context, j *job, v verdict) error {
	outcome, err := r.record(ctx, j, v)
	if errors.Is(err, errRedriven) {
		r.log.Warn("its outcome came too late: the task was redriven", j.attrs(slog.String("outcome", string(v.outcome)))...)
		return notNow(0, err.Error())
	}
	if err != nil {
		return notNow(redisPause, "the outcome could not be recorded")
	}
	if outcome == tasks.OutcomeFailed || outcome == tasks.OutcomeUnknown {
		return fmt.Errorf("%s: %s: %w", outcome, v.reason, asynq.SkipRetry)
	}
	return nil
}

func (r *Replica) handBack(ctx context.Context, j *job, v verdict) error {
	if j.capped() {
		return r.end(ctx, j, verdict{outcome: tasks.OutcomeFailed, reason: "retries_capped"})
	}
	state := tasks.StateWaiting
	if v.counts {
		state = tasks.StateRetrying
	}
	r.returned(j)
	err := r.insist(ctx, j, "the task could not be handed back yet", func() error {
		return r.ledger.Defer(ctx, j.ref(), ledger.Deferral{
			Runner: j.runner, State: string(state), NotAccepted: !noAnswer(j.err), NotCalled: !j.called,
		})
	})
	if err != nil {
		return notNow(redisPause, "Redis did not answer")
	}
	r.log.Debug("handed back", j.attrs(slog.Duration("delay", v.delay), slog.Any("err", j.err))...)
	return &handedBack{delay: v.delay, counts: v.counts, why: j.why(v)}
}

// insist repeats a step until Redis takes it or ctx ends. It says the first failure, and
// one a minute of those that go on.
func (r *Replica) insist(ctx context.Context, j *job, trouble string, step func() error) error {
	for n := 0; ; n++ {
		err := step()
		if err == nil {
			return nil
		}
		if n%int(time.Minute/redisPause) == 0 {
			r.log.Warn(trouble, j.attrs(slog.Any("err", err))...)
		}
		select {
		case <-time.After(redisPause):
		case <-ctx.Done():
			return err
		}
	}
}
