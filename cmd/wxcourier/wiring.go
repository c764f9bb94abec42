package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// parts is everything between Redis and WeChat, made from one configuration.
type parts struct {
	cfg         configs.Config
	log         *slog.Logger
	credentials func(app string) (wechat.Credential, bool)

	rdb       redis.UniversalClient
	client    *tasks.Client
	inspector *tasks.Inspector
	registry  *prometheus.Registry
	tokens    *wechat.Tokens
	wechat    *wechat.Client
	limiter   *ratelimit.Limiter
	holds     *hold.Store
	hooks     worker.Hooks // of the replicas
}

// newParts makes the parts. It does no I/O. With nil credentials it uses the configured ones.
func newParts(cfg configs.Config, log *slog.Logger, credentials func(app string) (wechat.Credential, bool)) (*parts, error) {
	p := &parts{cfg: cfg, log: log, credentials: credentials, rdb: cfg.Redis.NewClient()}
	if p.credentials == nil {
		p.credentials = credentialsOf(cfg.Apps)
	}
	p.client, p.inspector = tasks.NewClient(p.rdb), tasks.NewInspector(p.rdb)
	p.registry = prometheus.NewRegistry()
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	refreshed, err := worker.RegisterTokenRefreshes(p.registry)
	if err != nil {
		return nil, err
	}
	p.tokens = wechat.NewTokens(cfg.WeChat, p.rdb, p.credentials, wechat.WithLogger(log), wechat.WithOnRefresh(refreshed))
	p.wechat = wechat.NewClient(cfg.WeChat, p.tokens)
	p.holds = hold.NewStore(p.rdb)
	p.limiter = ratelimit.NewLimiter(p.rdb, cfg.Pace, limitsOf(cfg.Apps), ratelimit.WithReserve(reserveOf(cfg.Apps)))
	return p, nil
}

// close returns leased permits and closes all connections.
func (p *parts) close() {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	if err := p.limiter.Close(ctx); err != nil {
		p.log.Debug("leased permits could not be returned", "err", err)
	}
	p.tokens.Close()
	p.wechat.CloseIdle()
	_ = p.rdb.Close()
}

func credentialsOf(apps []configs.App) func(string) (wechat.Credential, bool) {
	byID := make(map[string]wechat.Credential, len(apps))
	for _, app := range apps {
		byID[app.ID] = app.Credential()
	}
	return func(app string) (wechat.Credential, bool) {
		credential, ok := byID[app]
		return credential, ok
	}
}

func limitsOf(apps []configs.App) func(string) map[string]ratelimit.Limit {
	byID := make(map[string]map[string]ratelimit.Limit, len(apps))
	for _, app := range apps {
		byID[app.ID] = app.Limits
	}
	return func(app string) map[string]ratelimit.Limit { return byID[app] }
}

func reserveOf(apps []configs.App) func(string) float64 {
	byID := make(map[string]float64, len(apps))
	for _, app := range apps {
		byID[app.ID] = app.ReserveUrgent
	}
	return func(app string) float64 { return byID[app] }
}

func workerApps(apps []configs.App) []worker.App {
	var all []worker.App
	for _, app := range apps {
		all = append(all, worker.App{ID: app.ID, OnlyOpenIDs: app.OnlyOpenIDs, Hours: app.Hours})
	}
	return all
}

// replica is a worker replica with a Redis client of its own.
type replica struct {
	*worker.Replica
	rdb redis.UniversalClient
}

// replica makes a replica. Only one replica per process may register its metrics.
func (p *parts) replica(apps []worker.App, registry prometheus.Registerer) (*replica, error) {
	rdb := p.cfg.Redis.NewClient()
	r, err := worker.New(p.cfg.Worker, worker.Deps{
		Redis: rdb, WeChat: p.wechat, Limiter: p.limiter, Apps: apps,
		Results: p.cfg.Results, Attempt: p.cfg.WeChat.AttemptTimeout,
		Logger: p.log, Registry: registry,
	}, p.hooks)
	if err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return &replica{Replica: r, rdb: rdb}, nil
}

// Run runs the replica until ctx ends and then closes its Redis client. After a shutdown timeout
// the client stays open: tasks are still in flight, and asynq does not survive a closed client.
func (r *replica) Run(ctx context.Context) error {
	err := r.Replica.Run(ctx)
	if !errors.Is(err, worker.ErrShutdownTimeout) {
		_ = r.rdb.Close()
	}
	return err
}

// redisTimeout bounds the first ping of Redis, and the clean-up at the end.
const redisTimeout = 3 * time.Second

// pingRedis checks that Redis answers; its error includes advice.
func pingRedis(ctx context.Context, cfg configs.Redis, rdb redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- rdb.Ping(ctx).Err() }() // may outlast ctx while it dials
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("Redis at %s cannot be used: %w\n%s", cfg.Address(), err, redisAdvice(err)) //nolint:staticcheck // Redis is a name
}

func redisAdvice(err error) string {
	var dns *net.DNSError
	var network net.Error
	switch {
	case redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "ERR invalid password"):
		return "set redis.username and redis.password (or redis.password_file) as that Redis requires"
	case redis.HasErrorPrefix(err, "LOADING"):
		return "it is loading its data after a start: try again when it has finished"
	case redis.HasErrorPrefix(err, "NOPERM"):
		return "give the user of redis.username all commands and keys"
	case errors.As(err, &dns):
		return "the host name in redis.addrs cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer: compare redis.addrs with the address of Redis, check the firewall, and set redis.tls if it requires TLS"
	}
	return "start it, or set redis.addrs to its address"
}

// serve serves a handler in the background until stop is called. With port 0 in address, addr
// has the port that was chosen.
func (p *program) serve(address string, handler http.Handler) (addr string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(p.ctx, "tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.ctx))
	var server sync.WaitGroup
	server.Go(func() {
		if err := worker.Serve(ctx, listener, handler); err != nil {
			p.logger().Error("the listener failed", "err", err)
		}
	})
	return listener.Addr().String(), func() { cancel(); server.Wait() }, nil
}
