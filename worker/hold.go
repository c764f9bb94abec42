package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// redisTimeout bounds what is said to Redis beside the pipeline.
const redisTimeout = 3 * time.Second

// limiter is the shared limiter as the worker uses it.
type limiter struct {
	*ratelimit.Limiter
	log *slog.Logger
}

// release gives back a permit that was not used; nil is none. One that cannot be given
// back is lost until its window has passed; that costs pace, not correctness.
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

// returnUnused gives back what was leased for a lane that has nothing to do.
func (l limiter) returnUnused(ctx context.Context, app, typ string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := l.ReturnUnused(ctx, app, typ); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// revoke gives back what was leased for an app: a hold was set or lifted.
func (l limiter) revoke(ctx context.Context, app string) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if err := l.Revoke(ctx, app); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// scope is the name of what a verdict stops, as hold records have it.
func (j *job) scope(s stop) string {
	switch s {
	case stopApp:
		return ratelimit.WholeApp
	case stopTemplate:
		return ratelimit.TemplateScope(j.template)
	case stopLane, stopNothing:
	}
	return j.Type
}

// unheldPause bounds how long a task stays away whose hold could not be set: nothing but
// its delay keeps it from being called again at once, and no release brings it back.
const unheldPause = 30 * time.Second

// hold stops what the verdict stops, for all replicas, and returns what that makes of the
// verdict. A hold that ends later, or is an operator's, stays as it is.
func (r *Replica) hold(ctx context.Context, j *job, v verdict) verdict {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	h := ratelimit.Hold{
		App: j.App, Scope: j.scope(v.stops), Reason: v.hold.reason, Code: codeOf(j.err),
		By: ratelimit.ReplicaPrefix + r.id,
	}
	inForce, begun, err := r.limiter.HoldEnding(ctx, h, v.hold.end)
	r.templateHolds.forget(j.App)
	if err != nil {
		r.log.Warn("a hold could not be set", j.attrs(slog.Any("err", err))...)
	}
	if inForce.Scope == "" {
		v.delay = min(v.delay, unheldPause)
		return v
	}
	h.Since = time.Now() // by the clock of the log
	h.Until = h.Since.Add(v.hold.end.After)
	if inForce.Reason == h.Reason && r.loggedHolds.shouldLog(h) {
		r.log.Log(ctx, holdLevel(j.err, v), "held", j.attrs(slog.String("scope", h.Scope), slog.String("reason", h.Reason),
			slog.Int("errcode", h.Code), slog.Duration("delay", v.hold.end.After), slog.Any("err", j.err))...)
	}
	return v.underHold(begun)
}

// held tells whether a hold of a job's lane is in force. That Redis does not answer counts
// as no.
func (r *Replica) held(ctx context.Context, j *job) bool {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	held, err := r.limiter.Held(ctx, j.App, j.Type)
	return err == nil && held
}

// holdLevel: a spent quota or a short slow-down is WeChat's normal business, and what is
// wrong with a token was said by package wechat already. The rest is an operator's.
func holdLevel(err error, v verdict) slog.Level {
	var token *wechat.TokenError
	if errors.As(err, &token) || v.stops == stopLane && v.hold.end.After <= time.Minute {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// loggedHolds remembers which holds were logged: calls under way at the same time all meet
// the same refusal.
type loggedHolds struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu; by app and scope
}

// shouldLog tells whether no hold of this app and scope was logged that is still in force.
func (s *loggedHolds) shouldLog(h ratelimit.Hold) bool {
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
