package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// lowerPace lowers the pace of a type for all replicas, as its documented pace was too fast
// for WeChat: another system shares the app. It climbs back by itself.
func (r *Replica) lowerPace(ctx context.Context, j *job, span ratelimit.Span) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	factor, err := r.limiter.Feedback(ctx, j.App, j.Type, span)
	if err != nil {
		r.log.Warn("the pace could not be lowered", j.attrs(slog.Any("err", err))...)
		return
	}
	r.log.Info("too fast for WeChat", j.attrs(slog.String("window", string(span)), slog.Float64("factor", factor))...)
	if factor < 1 {
		r.recovery.watch(laneKey{j.App, j.Type})
	}
}

// recoveryStep is how often a pace that was lowered grows.
const recoveryStep = 10 * time.Second

// paceRecovery watches the paces that this replica lowered, to say when they are back: no call
// and no answer tells of that.
type paceRecovery struct {
	replica *Replica
	mu      sync.Mutex
	watched map[laneKey]int // guarded by mu; how often the pace was lowered meanwhile
}

func newPaceRecovery(r *Replica) *paceRecovery {
	return &paceRecovery{replica: r, watched: make(map[laneKey]int)}
}

// watch says when the pace of a lane is back at its limit, once however often it was
// lowered until then.
func (c *paceRecovery) watch(key laneKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched[key]++
	if c.watched[key] > 1 {
		return
	}
	c.replica.background.Go(func(ctx context.Context) {
		for sleep(ctx, recoveryStep) {
			if c.recovered(ctx, key) {
				c.replica.log.Info("back at full pace", slog.String("app", key.app), slog.String("type", key.typ))
				return
			}
		}
	})
}

// recovered tells whether the pace of a lane is back, and ends its watch then.
func (c *paceRecovery) recovered(ctx context.Context, key laneKey) bool {
	c.mu.Lock()
	lowered := c.watched[key]
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	usage, err := c.replica.limiter.Usage(ctx, key.app, key.typ)
	if err != nil || paceFactor(usage) < 1 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watched[key] != lowered {
		return false // lowered again since it was asked
	}
	delete(c.watched, key)
	return true
}

// paceFactor is the part of its pace that a type keeps: the least of its windows'.
func paceFactor(usage []ratelimit.Usage) float64 {
	factor := 1.0
	for _, u := range usage {
		factor = min(factor, u.Factor)
	}
	return factor
}
