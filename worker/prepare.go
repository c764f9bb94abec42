package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/dispatch"
)

// laneClosing is the reason for handing a task back when its lane closes.
const laneClosing = "the lane is closing, or asynq canceled the run"

// prepare acquires what a task needs before it is opened, one step after the other. It returns
// the first error: a *handedBack when the task only has to wait; after any other error the
// task is opened and settled. ctx ends when the lane closes.
func (d *deliverer) prepare(ctx context.Context, j *job) error {
	for _, step := range []func(context.Context, *job) error{
		d.lookUpApp, d.checkHours, d.awaitProbe, d.lockReceiver, d.prepareRequest, d.acquirePermit,
	} {
		if err := step(ctx, j); err != nil {
			return err
		}
	}
	return nil
}

// appLeft is the reason for handing a task back when the replica no longer sends for its app.
const appLeft = "its app is no longer configured"

// lookUpApp hands back a task whose app has left: its lane is closing.
func (d *deliverer) lookUpApp(_ context.Context, j *job) error {
	app, ok := d.apps.get(j.App)
	if !ok {
		return retryLater(redisRetryDelay, appLeft)
	}
	j.app = app
	return nil
}

// checkHours hands back a task that may not be sent at this time of the day.
func (d *deliverer) checkHours(_ context.Context, j *job) error {
	wait, closed := d.hoursWait(j)
	if !closed {
		return nil
	}
	d.log.Debug("handed back", j.attrs(slog.Duration("delay", wait), slog.String("reason", outsideHours))...)
	return retryLater(wait, outsideHours)
}

// awaitProbe waits while another task probes the lane, whose breaker has tripped.
func (d *deliverer) awaitProbe(ctx context.Context, j *job) (err error) {
	if j.endProbe, err = d.dispatcher.Probe(ctx, &j.call); err != nil {
		return d.notCalled(ctx, j, err.Error())
	}
	return nil
}

// lockReceiver takes the lock of a job's receiver. Before a wait it returns the job's
// permit, so that another task may use it.
//
// A capped task waits as long as the lane is open. A task that has expired will not be sent,
// and needs no lock.
func (d *deliverer) lockReceiver(ctx context.Context, j *job) error {
	key := j.receiverKey()
	if key == "" || j.expired(d.now()) {
		return nil
	}
	if unlock, ok := d.receivers.TryLock(key); ok {
		j.unlock = unlock
		return nil
	}
	l := j.lane
	l.gate.DonePreparing(j.started)
	d.dispatcher.Release(context.WithoutCancel(ctx), &j.call)
	waiting, cancel := ctx, func() {}
	if !j.capped() {
		waiting, cancel = context.WithTimeout(ctx, receiverTimeout)
	}
	defer cancel()
	entered := false
	unlock, err := d.receivers.Lock(waiting, key, func(ahead int, wait time.Duration) bool {
		entered = !j.capped() && wait <= receiverTimeout && l.receiverWaits.acquire(int(l.active.Load()), ahead, wait)
		return entered || j.capped()
	})
	if entered {
		l.receiverWaits.release()
	}
	switch {
	case err == nil:
		j.unlock = unlock
		return nil
	case ctx.Err() != nil:
		return retryLater(redisRetryDelay, laneClosing)
	}
	delay := d.receivers.Defer(key, deferral{lane: l, queue: j.queue, task: j.TaskID(), since: time.Now()})
	if !j.NotAfter.IsZero() { // the outcome "expired" must not wait for a longer delay
		delay = min(delay, j.NotAfter.Sub(d.now())+time.Nanosecond)
	}
	return retryLater(delay, errReceiverBusy.Error())
}

// prepareRequest prepares the content and the token of the call, so that only a connection is
// missing before the permit's instant.
func (d *deliverer) prepareRequest(ctx context.Context, j *job) (err error) {
	j.request, err = d.request(ctx, j)
	return err
}

// acquirePermit acquires a permit, unless the one that came with the dequeue may be used.
func (d *deliverer) acquirePermit(ctx context.Context, j *job) error {
	if err := d.dispatcher.AcquirePermit(ctx, &j.call); err != nil {
		return d.notCalled(ctx, j, err.Error())
	}
	return nil
}

// notCalled hands back a task that has not been opened. It goes to the front of its queue
// where its lane is held, and otherwise comes back after a short delay.
func (d *deliverer) notCalled(ctx context.Context, j *job, why string) error {
	back := &handedBack{delay: dispatch.ShortDelay, why: why}
	if d.dispatcher.Held(context.WithoutCancel(ctx), &j.call) {
		back.place = asynqwire.QueueFront
	}
	return back
}
