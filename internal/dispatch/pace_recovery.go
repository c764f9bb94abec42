package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// lowerPace lowers the pace of a type for all replicas, after WeChat refused a call for its
// pace: another system may use the same app. The limiter raises the pace again by itself.
func (d *Dispatcher) lowerPace(ctx context.Context, c *Call, span ratelimit.Span) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	factor, err := d.limiter.Feedback(ctx, c.App, c.Type, span)
	if err != nil {
		d.log.Warn("the pace could not be lowered", c.Log(slog.Any("err", err))...)
		return
	}
	d.log.Info("too fast for WeChat", c.Log(slog.String("window", string(span)), slog.Float64("factor", factor))...)
	if factor < 1 {
		d.recovery.watch(c.lane())
	}
}

// recoveryStep is the interval in which the limiter raises a lowered pace.
const recoveryStep = 10 * time.Second

// paceRecovery logs when the paces that this replica lowered have recovered. It polls the
// limiter, since no call reports that.
type paceRecovery struct {
	limiter    *ratelimit.Limiter
	log        *slog.Logger
	background *background.Group

	mu      sync.Mutex
	watched map[lane]int // guarded by mu; how often the pace was lowered since it was full
}

// watch logs when the pace of a lane is full again. It logs once, even where the pace is
// lowered several times until then.
func (c *paceRecovery) watch(key lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[key]++
	if c.watched[key] > 1 {
		return
	}
	c.background.Go(func(ctx context.Context) {
		for background.Sleep(ctx, recoveryStep) {
			if c.recovered(ctx, key) {
				c.log.Info("back at full pace", slog.String("app", key.app), slog.String("type", key.typ))
				return
			}
		}
	})
}

// recovered reports whether the pace of a lane is full again, and if so, ends the watch.
func (c *paceRecovery) recovered(ctx context.Context, key lane) bool {
	c.mu.Lock()
	lowered := c.watched[key]
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	usage, err := c.limiter.Usage(ctx, key.app, key.typ)
	if err != nil || PaceFactor(usage) < 1 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched[key] != lowered {
		return false // lowered again since the query
	}
	delete(c.watched, key)
	return true
}

// PaceFactor returns the factor by which a type's pace is lowered, from 0 to 1: the least of
// its windows.
func PaceFactor(usage []ratelimit.Usage) float64 {
	factor := 1.0
	for _, u := range usage {
		factor = min(factor, u.Factor)
	}
	return factor
}
