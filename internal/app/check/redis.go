package check

import (
	"context"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/internal/app"
)

// redis checks Redis and reports whether it is usable.
func (c *checker) redis(ctx context.Context) bool {
	if err := app.PingRedis(ctx, c.Config.Redis, c.parts.Redis); err != nil {
		c.fail("redis", "%v", err)
		return false
	}
	failed := c.failed
	c.redisVersion(ctx)
	if err := c.parts.Redis.Eval(ctx, `return redis.call("TIME")[1]`, []string{"wxcourier:check"}).Err(); err != nil {
		c.fail("redis scripts", "%v\nwxcourier needs EVAL and EVALSHA: allow them for its Redis user", err)
	} else {
		c.ok("redis scripts", "run")
	}
	c.redisSettings(ctx)
	return c.failed == failed
}

func (c *checker) redisVersion(ctx context.Context) {
	info, err := c.parts.Redis.Info(ctx, "server").Result()
	version := infoField(info, "redis_version")
	switch {
	case err != nil || version == "":
		c.warn("redis", "%s answers, but does not report its version; 6.2 or later is required", c.Config.Redis.Address())
	case !atLeast62(version):
		c.fail("redis", "%s is Redis %s; 6.2 or later is required", c.Config.Redis.Address(), version)
	default:
		c.ok("redis", "%s is Redis %s", c.Config.Redis.Address(), version)
	}
}

func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func atLeast62(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	return errA == nil && errB == nil && (a > 6 || a == 6 && b >= 2)
}

func (c *checker) redisSettings(ctx context.Context) {
	policy, err := app.RedisSetting(ctx, c.parts.Redis, "maxmemory-policy")
	switch {
	case err != nil:
		c.warn("redis maxmemory-policy", "cannot be read; make sure that it is noeviction")
	case policy == "noeviction":
		c.ok("redis maxmemory-policy", "noeviction")
	case c.Config.Redis.AllowEviction:
		c.warn("redis maxmemory-policy", "%s, allowed by redis.allow_eviction: when its memory is full, Redis evicts tasks", policy)
	default:
		c.fail("redis maxmemory-policy", "%s: when its memory is full, Redis would evict tasks\nset it to noeviction, or allow it with redis.allow_eviction: true", policy)
	}
	switch aof, err := app.RedisSetting(ctx, c.parts.Redis, "appendonly"); {
	case err != nil:
		c.warn("redis appendonly", "cannot be read; when it is on, a crash of Redis loses at most about one second of tasks")
	case aof == "yes":
		c.ok("redis appendonly", "yes")
		c.appendfsync(ctx)
	default:
		c.warn("redis appendonly", "%s: a crash of Redis loses all tasks since its last snapshot; set it to yes", aof)
	}
}

// appendfsync reports how much data a power failure loses.
func (c *checker) appendfsync(ctx context.Context) {
	switch fsync, err := app.RedisSetting(ctx, c.parts.Redis, "appendfsync"); {
	case err != nil:
		c.warn("redis appendfsync", "cannot be read; with always, a power failure loses nothing")
	case fsync == "always":
		c.ok("redis appendfsync", "always: a power failure loses nothing that Redis acknowledged")
	case fsync == "everysec":
		c.ok("redis appendfsync", "everysec: a power failure may lose the last second or two, and messages sent in that time may arrive twice; always loses nothing, but is slower")
	default:
		c.warn("redis appendfsync", "%s: a power failure loses all data not yet written to disk; set it to everysec or always", fsync)
	}
}
