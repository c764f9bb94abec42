package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/httpguard"
)

type workerCommand struct {
	Listen string   `placeholder:"ADDR" help:"Serve /healthz, /readyz and /metrics on this address, such as :9090."`
	Host   []string `placeholder:"NAME" help:"With --listen on a loopback address: also accept requests for this host name."`
}

func (workerCommand) Help() string {
	return `Delivers enqueued tasks, together with any number of other replicas on the same Redis. It requires a configured Redis and at least one app.

On SIGTERM or Ctrl-C it finishes the tasks in flight within worker.shutdown_timeout and leaves the rest in Redis. A second signal ends it at once, with status 1.

Examples:
    wxcourier worker -c wxcourier.yaml --listen :9090
    WXCOURIER_REDIS_ADDRS=redis:6379 WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=… wxcourier worker`
}

// Run runs until ctx ends.
func (c *workerCommand) Run(p *program) error {
	p.verbose = true
	cfg, err := p.needRedis("worker")
	if err != nil {
		return err
	}
	if len(cfg.Apps) == 0 {
		return usageErrorf("worker: no app is configured, so there is nothing to send.\nAdd apps with their ids and secrets to %s, or set $WXCOURIER_APPS_<APPID>_SECRET.", p.configName())
	}
	parts, err := newParts(cfg, p.logger(), credentialsOf(cfg.Apps))
	if err != nil {
		return err
	}
	defer parts.close()
	if err := pingRedis(p.ctx, cfg.Redis, parts.rdb); err != nil {
		return err
	}
	if err := checkEviction(p.ctx, cfg.Redis, parts.rdb, parts.log); err != nil {
		return err
	}
	for _, app := range cfg.Apps {
		if n := len(app.OnlyOpenIDs); n > 0 {
			parts.log.Warn("only_openids is set: messages to anyone else end as rejected", "app", app.ID, "people", n)
		}
	}
	replica, err := parts.replica(workerApps(cfg.Apps), parts.registry)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		addr, stop, err := p.serve(c.Listen, c.protect(replica.Handler(parts.registry)))
		if err != nil {
			return err
		}
		defer stop()
		parts.log.Info("listening", slog.String("addr", addr))
	}
	p.raiseGCPercent()
	return replica.Run(p.ctx)
}

// protect refuses requests from other websites to a worker on a loopback address. On other
// addresses it refuses none: Prometheus and orchestrators use host names that are not known here,
// and the pages only show metrics and health.
func (c *workerCommand) protect(pages http.Handler) http.Handler {
	if !httpguard.Loopback(c.Listen) {
		return pages
	}
	return httpguard.New(c.Listen, c.Host...).Protect(pages)
}

// raiseGCPercent sets GOGC to 200, so that a replica collects garbage half as often: it saves 5 %
// of the CPU of a busy replica, and costs 10 MB more memory at 3,000 tasks a second. A $GOGC that
// is set takes precedence.
func (p *program) raiseGCPercent() {
	if !slices.ContainsFunc(p.env, func(entry string) bool { return strings.HasPrefix(entry, "GOGC=") }) {
		debug.SetGCPercent(200)
	}
}

// needRedis loads the configuration, and returns a usage error when it has no Redis.
func (p *program) needRedis(command string) (configs.Config, error) {
	cfg, err := p.configuration()
	if err == nil && !cfg.Redis.Configured() {
		err = usageErrorf("%s: no Redis is configured.\nSet redis.addrs in %s, or $WXCOURIER_REDIS_ADDRS=host:6379.", command, p.configName())
	}
	return cfg, err
}

// checkEviction returns an error when Redis evicts keys, which include tasks, when its memory is
// full.
func checkEviction(ctx context.Context, cfg configs.Redis, rdb redis.UniversalClient, log *slog.Logger) error {
	policy, err := redisSetting(ctx, rdb, "maxmemory-policy")
	switch {
	case err != nil:
		log.Warn("the settings of this Redis cannot be read; make sure that maxmemory-policy is noeviction, or tasks may be lost", "err", err)
	case policy == "noeviction":
	case cfg.AllowEviction:
		log.Warn("this Redis evicts keys, including tasks, when its memory is full", "maxmemory-policy", policy)
	default:
		return fmt.Errorf("Redis at %s has maxmemory-policy %s: when its memory is full it would evict tasks.\nSet it to noeviction, or allow it with redis.allow_eviction: true", cfg.Address(), policy) //nolint:staticcheck // Redis is a name
	}
	return nil
}

// redisSetting reads one setting of Redis. Hosted servers often forbid it. When the masters of a
// cluster differ, it returns all values, joined with " and ".
func redisSetting(ctx context.Context, rdb redis.UniversalClient, name string) (string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return nodeSetting(ctx, rdb, name)
	}
	var mu sync.Mutex
	var values []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		value, err := nodeSetting(ctx, node, name)
		mu.Lock()
		defer mu.Unlock()
		values = append(values, value)
		return err
	})
	slices.Sort(values)
	return strings.Join(slices.Compact(values), " and "), err
}

func nodeSetting(ctx context.Context, rdb redis.Cmdable, name string) (string, error) {
	values, err := rdb.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", err
	}
	value, ok := values[name]
	if !ok {
		return "", errors.New("Redis has no setting " + name)
	}
	return value, nil
}
