package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// redisTimeout bounds a call to Redis outside of the delivery pipeline.
const redisTimeout = 3 * time.Second

// limiter is the shared limiter with the worker's timeouts. Its methods log errors.
type limiter struct {
	*ratelimit.Limiter
	log *slog.Logger
}

// release returns an unused permit, which may be nil. A permit that cannot be returned is
// lost until its window ends: that costs pace, not correctness.
func (l limiter) release(ctx context.Context, p *ratelimit.Permit) {
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := l.Release(ctx, p); err != nil {
		l.log.Debug("a permit could not be given back", slog.Any("err", err))
	}
}

// returnUnused returns the permits that were leased for a lane, which has no work.
func (l limiter) returnUnused(ctx context.Context, app, typ string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := l.ReturnUnused(ctx, app, typ); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// revoke returns the permits that were leased for an app, since a hold was set or lifted.
func (l limiter) revoke(ctx context.Context, app string) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := l.Revoke(ctx, app); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// scope returns the scope of the hold that a verdict sets.
func (j *job) scope(s stop) string {
	switch s {
	case stopApp:
		return hold.WholeApp
	case stopTemplate:
		return hold.TemplateScope(j.template)
	case stopLane, stopNothing:
	}
	return j.Type
}

// unheldPause bounds the delay of a task whose hold could not be set. Only the delay keeps
// the task from being called again at once, and no end of a hold shortens it.
const unheldPause = 30 * time.Second

// hold sets the hold of a verdict, for all replicas, and returns the verdict under that
// hold. It does not change a hold that ends later, nor an operator's.
func (r *Replica) hold(ctx context.Context, j *job, v verdict) verdict {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	h := hold.Hold{
		App: j.App, Scope: j.scope(v.stops), Reason: v.hold.reason, Code: codeOf(j.err),
		By: hold.ReplicaPrefix + r.id,
	}
	inForce, begun, err := r.holds.SetEnding(ctx, h, v.hold.end)
	r.templates.Forget(j.App)
	if err != nil {
		r.log.Warn("a hold could not be set", j.attrs(slog.Any("err", err))...)
	}
	if inForce.Scope == "" {
		v.delay = min(v.delay, unheldPause)
		return v
	}
	h.Since = time.Now() // loggedHolds uses the clock of the log
	h.Until = h.Since.Add(v.hold.end.After)
	if inForce.Reason == h.Reason && r.loggedHolds.shouldLog(h) {
		r.log.Log(ctx, holdLevel(j.err, v), "held", j.attrs(slog.String("scope", h.Scope), slog.String("reason", h.Reason),
			slog.Int("errcode", h.Code), slog.Duration("delay", v.hold.end.After), slog.Any("err", j.err))...)
	}
	return v.underHold(begun)
}

// held reports whether a hold of a job's lane is in force. It returns false where Redis does
// not answer.
func (r *Replica) held(ctx context.Context, j *job) bool {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	held, err := r.holds.Held(ctx, j.App, j.Type)
	return err == nil && held
}

// holdLevel returns the level at which a hold is logged: info for short lane holds, and for
// token errors, which package wechat has logged already; warn for what an operator should
// look at.
func holdLevel(err error, v verdict) slog.Level {
	var token *wechat.TokenError
	if errors.As(err, &token) || v.stops == stopLane && v.hold.end.After <= time.Minute {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// loggedHolds remembers which holds were logged, since concurrent calls get the same
// refusal.
type loggedHolds struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu; by app and scope
}

// shouldLog reports whether no hold of this app and scope was logged that is still in force.
func (s *loggedHolds) shouldLog(h hold.Hold) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := h.App + " " + h.Scope
	if h.Since.Before(s.until[key]) {
		return false
	}
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	s.until[key] = h.Until
	return true
}
