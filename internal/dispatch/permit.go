package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// permitTimeout bounds the wait of a call for a permit. A task of a lane holds a slot and a
// lease meanwhile; after it the task goes back to its queue.
const permitTimeout = time.Second

// The reasons why a call has no permit.
var (
	ErrNoPermit = &NotSentError{Reason: "no permit in time"}
	errReserved = &NotSentError{Reason: "the rest of the day's quota is reserved for urgent tasks"}
)

// Assign gives a permit to a call, or none when p is nil.
func (c *Call) Assign(p *ratelimit.Permit) { c.permit = p }

// Release returns the permit of a call that has not used it.
func (d *Dispatcher) Release(ctx context.Context, c *Call) {
	d.release(ctx, c.permit)
	c.permit = nil
}

// AcquirePermit acquires a permit for a call that has none, or whose permit is too late to use,
// or reserved for urgent calls while the call is bulk. The error is a *NotSentError.
func (d *Dispatcher) AcquirePermit(ctx context.Context, c *Call) error {
	mayUse := func(p *ratelimit.Permit) bool { return p.Bulk() || !c.Bulk }
	if p := c.permit; p != nil && p.Fresh(time.Now()) && mayUse(p) {
		return nil
	}
	d.Release(ctx, c)
	waiting, cancel := context.WithTimeout(ctx, permitTimeout)
	defer cancel()
	fresh, err := d.Pace(c.App, c.Type, c.Endpoint).Acquire(waiting, nil)
	if err != nil {
		return ErrNoPermit
	}
	if c.permit = fresh; !mayUse(fresh) {
		return errReserved
	}
	return nil
}

// useAtInstant waits for the instant of a call's permit, and uses the permit up. The client
// calls it when it has a connection, right before each write of the request: a call that
// WeChat refused for its token counts, and so does its repetition. A permit that is too late
// to use, because opening the connection took long, is replaced, within permitTimeout.
func (d *Dispatcher) useAtInstant(ctx, open context.Context, c *Call) error {
	if p, now := c.permit, time.Now(); c.Type != "" && (p == nil || !p.Fresh(now) || now.Before(p.At)) {
		if err := d.awaitInstant(ctx, open, c); err != nil {
			return err
		}
	}
	if c.BeforeWrite != nil {
		if err := c.BeforeWrite(); err != nil {
			return err
		}
	}
	c.permit = nil
	return nil
}

// awaitInstant waits for the instant of a call's permit, which it replaces where that is too
// late to use. It gives up after permitTimeout, or when ctx or open ends.
func (d *Dispatcher) awaitInstant(ctx, open context.Context, c *Call) error {
	ctx, cancel := context.WithTimeout(ctx, permitTimeout)
	defer cancel()
	defer context.AfterFunc(open, cancel)()
	for {
		if err := d.AcquirePermit(ctx, c); err != nil {
			return err
		}
		if c.permit.Wait(ctx) != nil {
			return ErrNoPermit
		}
		if !c.permit.Revoked() {
			return nil
		}
	}
}

// Pace is the limiter for one type of an app, as a lane's gate uses it. Its methods log the
// errors of Redis.
type Pace struct {
	d    *Dispatcher
	lane lane
	wait func(time.Duration) // observes the waits for permits
}

// Pace returns the limiter of an app's type. path names the endpoint in the metrics.
func (d *Dispatcher) Pace(app, typ string, path wechat.Endpoint) *Pace {
	return &Pace{d, lane{app, typ}, d.Metrics.permitWaitObserver(path)}
}

// Acquire waits for a permit until ctx ends. The permit's instant may still be ahead. A token
// in wake makes it check the limits again at once.
func (p *Pace) Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error) {
	start := time.Now()
	permit, err := p.d.limiter.AcquireEarly(ctx, p.lane.app, p.lane.typ, wake)
	if err == nil {
		p.wait(time.Since(start))
	}
	return permit, err
}

// TryAcquire returns up to n permits without waiting.
func (p *Pace) TryAcquire(ctx context.Context, n int) []*ratelimit.Permit {
	return p.d.limiter.TryAcquire(ctx, p.lane.app, p.lane.typ, n)
}

// Release returns an unused permit.
func (p *Pace) Release(ctx context.Context, permit *ratelimit.Permit) { p.d.release(ctx, permit) }

// ReturnUnused returns the permits that were leased for the type, which has no work.
func (p *Pace) ReturnUnused(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := p.d.limiter.ReturnUnused(ctx, p.lane.app, p.lane.typ); err != nil {
		p.d.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// release returns an unused permit, which may be nil. A permit that cannot be returned is
// lost until its window ends: that costs pace, not correctness.
func (d *Dispatcher) release(ctx context.Context, p *ratelimit.Permit) {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := d.limiter.Release(ctx, p); err != nil {
		d.log.Debug("a permit could not be given back", slog.Any("err", err))
	}
}

// RevokePermits returns the permits that were leased for an app, since a hold was set or
// lifted.
func (d *Dispatcher) RevokePermits(ctx context.Context, app string) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := d.limiter.Revoke(ctx, app); err != nil {
		d.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}
