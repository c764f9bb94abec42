package redistest

import (
	"context"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Counter counts the commands and round trips of a client, without those that open a connection.
type Counter struct{ commands, trips atomic.Int64 }

// Count counts what a client sends from now on.
func Count(rdb redis.UniversalClient) *Counter {
	c := &Counter{}
	rdb.AddHook(c)
	return c
}

// Commands returns the number of commands.
func (c *Counter) Commands() int64 { return c.commands.Load() }

// Trips returns the number of round trips.
func (c *Counter) Trips() int64 { return c.trips.Load() }

// During returns how many commands and round trips were sent while a function ran.
func (c *Counter) During(do func()) (commands, trips int64) {
	commands, trips = c.Commands(), c.Trips()
	do()
	return c.Commands() - commands, c.Trips() - trips
}

func (c *Counter) sent(cmds ...redis.Cmder) {
	if name := cmds[0].Name(); name == "hello" || name == "client" {
		return
	}
	c.commands.Add(int64(len(cmds)))
	c.trips.Add(1)
}

// DialHook implements redis.Hook.
func (c *Counter) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (c *Counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.sent(cmd)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook implements redis.Hook.
func (c *Counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.sent(cmds...)
		return next(ctx, cmds)
	}
}
