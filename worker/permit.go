package worker

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// permitTimeout bounds the wait for a permit in a handler, where the task holds a slot and a
// lease. After it the task goes back to its queue.
const permitTimeout = time.Second

// The reasons why a task has no permit.
var (
	errNoPermit = &guardError{reason: "no permit in time"}
	errReserved = &guardError{reason: "the rest of the day's quota is reserved for urgent tasks"}
)

// freshPermit acquires a permit for a job that has none, or whose permit is too late to use,
// or reserved for urgent tasks while the job is bulk.
func (r *Replica) freshPermit(ctx context.Context, l *lane, j *job) error {
	mayUse := func(p *ratelimit.Permit) bool { return p.Bulk() || j.Priority != tasks.Bulk }
	if p := j.permit; p != nil && p.Fresh(time.Now()) && mayUse(p) {
		return nil
	}
	r.limiter.release(ctx, j.permit)
	j.permit = nil
	waiting, cancel := context.WithTimeout(ctx, permitTimeout)
	defer cancel()
	fresh, err := l.pace.Acquire(waiting, nil)
	if err != nil {
		return errNoPermit
	}
	if j.permit = fresh; !mayUse(fresh) {
		return errReserved
	}
	return nil
}

// useAtInstant waits for the instant of a job's permit, and uses the permit up. The client
// calls it when it has a connection, right before each write of the request: a call that
// WeChat refused for its token counts, and so does its repetition. A permit that is too late
// to use, because opening the connection took long, is replaced; the task goes back to its
// queue when that takes longer than permitTimeout.
func (r *Replica) useAtInstant(ctx context.Context, l *lane, j *job) error {
	if p, now := j.permit, time.Now(); p == nil || !p.Fresh(now) || now.Before(p.At) {
		if err := r.awaitInstant(ctx, l, j); err != nil {
			return err
		}
	}
	if wait, closed := r.hoursWait(j); closed { // the hours closed since prepare
		return &guardError{reason: outsideHours, delay: wait}
	}
	j.permit = nil
	return nil
}

// awaitInstant waits for the instant of a job's permit, which it replaces where that is too
// late to use. It gives up after permitTimeout, or when ctx ends or the lane closes.
func (r *Replica) awaitInstant(ctx context.Context, l *lane, j *job) error {
	ctx, done := l.whileOpen(ctx)
	defer done()
	ctx, cancel := context.WithTimeout(ctx, permitTimeout)
	defer cancel()
	if err := r.freshPermit(ctx, l, j); err != nil {
		return err
	}
	if j.permit.Wait(ctx) != nil {
		return errNoPermit
	}
	return nil
}
