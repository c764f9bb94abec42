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

// redisAnswer bounds what is said to Redis beside the pipeline.
const redisAnswer = 3 * time.Second

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
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisAnswer)
	defer cancel()
	if err := l.Release(ctx, p); err != nil {
		l.log.Debug("a permit could not be given back", slog.Any("err", err))
	}
}

// rest gives back what was leased for a lane that has nothing to do.
func (l limiter) rest(ctx context.Context, app, typ string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisAnswer)
	defer cancel()
	if err := l.Rest(ctx, app, typ); err != nil {
		l.log.Debug("leased permits could not be given back", slog.Any("err", err))
	}
}

// recall gives back what was leased for an app: a hold was set or lifted.
func (l limiter) recall(ctx context.Context, app string) {
	ctx, cancel := context.WithTimeout(ctx, redisAnswer)
	defer cancel()
	if err := l.Recall(ctx, app); err != nil {
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

// hold stops what the verdict stops, for all replicas.
func (r *Replica) hold(ctx context.Context, j *job, v verdict) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisAnswer)
	defer cancel()
	now := time.Now()
	h := ratelimit.Hold{
		App: j.App, Scope: j.scope(v.stops), Reason: v.reason, Code: codeOf(j.err),
		Since: now, Until: now.Add(v.delay), By: "worker " + r.id,
	}
	_, err := r.limiter.Hold(ctx, h)
	r.templates.forget(j.App)
	if err != nil {
		r.log.Warn("a hold could not be set", j.attrs(slog.Any("err", err))...)
	}
	if r.said.first(h) {
		r.log.Log(ctx, holdLevel(j.err, v), "held", j.attrs(slog.String("scope", h.Scope), slog.String("reason", h.Reason),
			slog.Duration("delay", v.delay), slog.Any("err", j.err))...)
	}
}

// holdLevel: a spent quota or a short slow-down is WeChat's normal business, and what is
// wrong with a token was said by package wechat already. The rest is an operator's.
func holdLevel(err error, v verdict) slog.Level {
	var token *wechat.TokenError
	if errors.As(err, &token) || v.stops == stopLane && v.delay <= time.Minute {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

// said remembers which holds were logged: calls under way at the same time all meet
// the same refusal.
type said struct {
	mu    sync.Mutex
	until map[string]time.Time // guarded by mu; by app and scope
}

// first tells whether no hold of this app and scope was logged that is still in force.
func (s *said) first(h ratelimit.Hold) bool {
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
