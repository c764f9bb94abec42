package dev

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// servedKey is a list of the apps that an Environment on this Redis serves. Commands in
	// other terminals read it, since their configuration need not have these apps.
	servedKey = "wxcourier:dev"
	// servedTTL is how long the list outlives an Environment that was killed.
	servedTTL = 15 * time.Second
)

// ServedApps returns the apps that an Environment on a Redis serves; none if there is no
// Environment or Redis does not answer.
func ServedApps(ctx context.Context, rdb redis.UniversalClient) []string {
	return rdb.LRange(ctx, servedKey, 0, -1).Val()
}

// keepServed keeps the list of the served apps in Redis until ctx ends.
func (e *Environment) keepServed(ctx context.Context) {
	t := time.NewTicker(servedTTL / 3)
	defer t.Stop()
	for {
		if err := e.writeServed(ctx); err != nil && ctx.Err() == nil {
			e.cfg.Log.Debug("the list of the served apps was not written", "err", err)
		}
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = e.parts.Redis.Del(ctx, servedKey).Err() // else it expires
			return
		case <-t.C:
		}
	}
}

func (e *Environment) writeServed(ctx context.Context) error {
	_, err := e.parts.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Del(ctx, servedKey)
		p.RPush(ctx, servedKey, e.served)
		p.PExpire(ctx, servedKey, servedTTL)
		return nil
	})
	return err
}
