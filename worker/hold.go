package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// redisAnswer bounds what is said to Redis beside the pipeline.
const redisAnswer = 3 * time.Second

// limiter is the shared limiter as the worker uses it.
type limiter struct {
	*ratelimit.Limiter
	log *slog.Logger
}

// release gives back a permit that was not used. One that cannot be given back is lost
// until its window has passed; that costs pace, not correctness.
func (l limiter) release(p *ratelimit.Permit) {
	ctx, cancel := context.WithTimeout(context.Background(), redisAnswer)
	defer cancel()
	if err := l.Release(ctx, p); err != nil {
		l.log.Debug("a permit could not be given back", slog.Any("err", err))
	}
}

// scope is the name of what a verdict stops, as hold records have it.
func (j *job) scope(s stop) string {
	switch s {
	case stopApp:
		return ratelimit.WholeApp
	case stopTemplate:
		return ratelimit.TemplateScope(j.TemplateID())
	case stopLane, stopNothing:
	}
	return j.Type
}

// hold stops what the verdict stops, for all replicas, and returns how long from now. A
// hold that was set meanwhile by another run is said once, and counted once.
func (r *Replica) hold(ctx context.Context, j *job, v verdict) time.Duration {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisAnswer)
	defer cancel()
	now := time.Now()
	h := ratelimit.Hold{
		App: j.App, Scope: j.scope(v.stops), Reason: v.reason, Code: codeOf(j.err),
		Since: now, Until: now.Add(v.delay), By: "worker " + r.id,
	}
	set, err := r.limiter.Hold(ctx, h)
	switch {
	case err != nil:
		r.log.Warn("a hold could not be set", j.attrs(slog.Any("err", err))...)
	case set:
		r.log.Log(ctx, holdLevel(v), "held", j.attrs(slog.String("scope", h.Scope), slog.String("reason", h.Reason),
			slog.Duration("delay", v.delay), slog.Any("err", j.err))...)
	}
	return v.delay
}

// holdLevel: a spent quota or a short slow-down is WeChat's normal business, a refused
// secret is an operator's.
func holdLevel(v verdict) slog.Level {
	if v.stops == stopLane && v.delay <= time.Minute {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}
