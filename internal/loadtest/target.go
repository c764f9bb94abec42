package loadtest

import (
	"context"
	"errors"
	"fmt"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/embedded"
	"github.com/wxcourier/wxcourier/internal/redisserver"
)

// Kind is the origin of a Redis.
type Kind string

// The kinds of target.
const (
	Named      Kind = "named"      // on the command line
	Configured Kind = "configured" // in the configuration
	Started    Kind = "started"    // a redis-server started for the run
	Embedded   Kind = "embedded"   // inside this process
)

// Target is the Redis of a run. Close it at the end.
type Target struct {
	Redis configs.Redis
	Kind  Kind

	close func()
}

// Close stops the Redis that FindRedis started, if any.
func (p *Target) Close() {
	if p.close != nil {
		p.close()
	}
}

// ephemeral reports whether the target holds only this run's data and ends with it.
func (p *Target) ephemeral() bool { return p.Kind == Started || p.Kind == Embedded }

// FindRedis returns the named Redis, else the configured one, else a redis-server that it starts,
// else the embedded one.
func FindRedis(ctx context.Context, named string, configured configs.Redis) (*Target, error) {
	if named != "" {
		r := configs.Redis{Addrs: []string{named}}
		if err := r.Validate(); err != nil {
			return nil, &UsageError{fmt.Errorf("--redis: %q is not host:port, such as 127.0.0.1:6379", named)}
		}
		return &Target{Redis: r, Kind: Named}, nil
	}
	if configured.Configured() {
		if len(configured.Addrs) > 1 && configured.MasterName == "" {
			return nil, &UsageError{errors.New("redis.addrs is a cluster, whose figures are spread over its nodes; give a single Redis with --redis")}
		}
		return &Target{Redis: configured, Kind: Configured}, nil
	}
	server, err := redisserver.Start(ctx, redisserver.Config{})
	if err == nil {
		return &Target{Redis: configs.Redis{Addrs: []string{server.Addr()}}, Kind: Started, close: server.Close}, nil
	}
	if !errors.Is(err, redisserver.ErrNotInstalled) {
		return nil, err
	}
	inside, err := embedded.Start()
	if err != nil {
		return nil, err
	}
	return &Target{Redis: configs.Redis{Addrs: []string{inside.Addr()}}, Kind: Embedded, close: inside.Close}, nil
}
