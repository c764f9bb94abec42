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
	Host   []string `placeholder:"NAME" help:"With --listen on the loopback: serve these pages by this host name, too."`
}

func (workerCommand) Help() string {
	return `Delivers what is enqueued, together with any number of other replicas on the same Redis. It needs a configured Redis and at least one app.

SIGTERM or Ctrl-C finishes what is in hand and leaves the rest in Redis, within worker.shutdown_timeout. A second one quits at once, with status 1.

Examples:
    wxcourier worker -c wxcourier.yaml --listen :9090
    WXCOURIER_REDIS_ADDRS=redis:6379 WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=… wxcourier worker`
}

// Run runs until the process is told to stop.
func (c *workerCommand) Run(p *program) error {
	p.verbose = true
	cfg, err := p.needRedis("worker")
	if err != nil {
		return err
	}
	if len(cfg.Apps) == 0 {
		return usageErrorf("worker: no app is configured, so that there is nothing to send for.\nAdd apps with their ids and secrets to %s, or set $WXCOURIER_APPS_<APPID>_SECRET.", p.configName())
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
			parts.log.Warn("only_openids is set: messages to anybody else end as rejected", "app", app.ID, "people", n)
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

// protect keeps other websites from reading the pages of a worker on the loopback. Elsewhere
// Prometheus and orchestrators call it by names that are not known here, and a website that
// read the metrics could change nothing.
func (c *workerCommand) protect(pages http.Handler) http.Handler {
	if !httpguard.Loopback(c.Listen) {
		return pages
	}
	return httpguard.New(c.Listen, c.Host...).Protect(pages)
}

// raiseGCPercent halves how often a replica collects garbage: of the few megabytes that are in
// use, it may then keep three times as many in place of two. That is 5 % less CPU of a busy
// replica, and 10 MB more memory at 3,000 tasks a second. $GOGC, where it is set, decides.
func (p *program) raiseGCPercent() {
	if !slices.ContainsFunc(p.env, func(entry string) bool { return strings.HasPrefix(entry, "GOGC=") }) {
		debug.SetGCPercent(200)
	}
}

// needRedis loads a configuration that must have a Redis.
func (p *program) needRedis(command string) (configs.Config, error) {
	cfg, err := p.configuration()
	if err == nil && !cfg.Redis.Configured() {
		err = usageErrorf("%s: no Redis is configured.\nSet redis.addrs in %s, or $WXCOURIER_REDIS_ADDRS=host:6379.", command, p.configName())
	}
	return cfg, err
}

// checkEviction refuses a Redis that throws keys away when its memory is full: they
// are tasks.
func checkEviction(ctx context.Context, cfg configs.Redis, rdb redis.UniversalClient, log *slog.Logger) error {
	policy, err := redisSetting(ctx, rdb, "maxmemory-policy")
	switch {
	case err != nil:
		log.Warn("this Redis does not tell its settings; see to it that maxmemory-policy is noeviction, or tasks may get lost", "err", err)
	case policy == "noeviction":
	case cfg.AllowEviction:
		log.Warn("this Redis throws keys away when its memory is full, and tasks with them", "maxmemory-policy", policy)
	default:
		return fmt.Errorf("Redis at %s has maxmemory-policy %s: with its memory full it would throw tasks away.\nSet it to noeviction, or allow it with redis.allow_eviction: true", cfg.Address(), policy) //nolint:staticcheck // Redis is a name
	}
	return nil
}

// redisSetting reads one of Redis' settings. Hosted ones often forbid it. Where the masters of
// a cluster differ in it, it is all that they say.
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
		return "", errors.New("it has no setting " + name)
	}
	return value, nil
}
