package worker

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// permitTimeout is how long a task waits for a permit in its handler, where it holds a slot
// and a lease. What takes longer, it waits for outside.
const permitTimeout = time.Second

// errNoPermit and errReserved say why a task has no permit.
var (
	errNoPermit = &guardError{reason: "no permit in time"}
	errReserved = &guardError{reason: "what is left of the day is kept for urgent tasks"}
)

// assignedPermit takes the permit that this task or another one of the lane was dequeued
// with; nil when none is fresh. Those that have become too late are given back.
func (r *Replica) assignedPermit(ctx context.Context, l *lane) *ratelimit.Permit {
	permit, late := l.gate.takePermit(time.Now())
	for _, p := range late {
		r.limiter.release(ctx, p)
	}
	return permit
}

// freshPermit replaces a job's permit where there is none, where it has become too late to
// use, or where it is kept for urgent tasks and the job is none.
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

// useAtInstant waits for the instant of a job's permit, and uses it up. It is called with a
// connection in hand, right before the request is written, once for each time that it is:
// what WeChat refused for its token counts as a call, and so does the repetition. A permit
// that has become too late meanwhile, as a new connection took its time, is replaced; when
// that takes long, the task goes back to its queue.
func (r *Replica) useAtInstant(ctx context.Context, l *lane, j *job) error {
	if p, now := j.permit, time.Now(); p == nil || !p.Fresh(now) || now.Before(p.At) {
		if err := r.awaitInstant(ctx, l, j); err != nil {
			return err
		}
	}
	if wait, rests := r.hoursWait(j); rests { // they closed meanwhile
		return &guardError{reason: outsideHours, delay: wait}
	}
	j.permit = nil
	return nil
}

// awaitInstant waits for the instant of a job's permit, or of another one when that is too
// late, until ctx or the lane ends.
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
