package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/app/reload"
	"github.com/wxcourier/wxcourier/internal/httpguard"
)

type workerCommand struct {
	Listen string   `placeholder:"ADDR" help:"Serve /healthz, /readyz and /metrics on this address, such as :9090."`
	Host   []string `placeholder:"NAME" help:"With --listen on a loopback address: also accept requests for this host name."`
}

func (workerCommand) Help() string {
	return `Delivers enqueued tasks, together with any number of other replicas on the same Redis. It requires a configured Redis and at least one app.

It reads the configuration again when one of its files changes, and on SIGHUP: apps may be added, changed and removed while it runs.

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
	if noApps(cfg) {
		return usageErrorf("worker: no app is configured, so there is nothing to send.\nAdd apps with their ids and secrets to %s, or set $WXCOURIER_APPS_<APPID>_SECRET.", p.configName())
	}
	parts, err := app.Open(p.ctx, cfg, p.logger(), nil)
	if err != nil {
		return err
	}
	defer parts.Close()
	if err := app.CheckEviction(p.ctx, cfg.Redis, parts.Redis, parts.Log); err != nil {
		return err
	}
	warnOfOnlyOpenIDs(parts.Log, nil, cfg.Apps)
	replica, err := parts.Replica(app.WorkerApps(parts.Current().Apps), parts.Registry)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		server, err := httpserver.Start(p.ctx, httpserver.Config{
			Address: c.Listen, Handler: c.protect(replica.Handler(parts.Registry)), Log: parts.Log,
		})
		if err != nil {
			return err
		}
		defer server.Shutdown()
		parts.Log.Info("listening", slog.String("addr", server.Addr()))
	}
	p.raiseGCPercent()
	var takingOver sync.Mutex // of the apps
	setApps := func() error {
		takingOver.Lock()
		defer takingOver.Unlock()
		return replica.SetApps(app.WorkerApps(parts.Current().Apps))
	}
	defer p.runInBackground(func(ctx context.Context) {
		parts.FollowAuthorizers(ctx, func() { _ = setApps() }) // added apps have no hours that could be wrong
	})()
	defer p.followConfiguration(reload.Config{
		Started: cfg, Unused: []string{"gateway", "webhooks"}, Log: parts.Log, Report: replica.SetConfiguration,
		Validate: func(next configs.Config) error {
			if noApps(next) {
				return errors.New("no app is left")
			}
			return nil
		},
		Apply: func(ctx context.Context, next configs.Config) error {
			before := parts.Current().Apps
			err := parts.Apply(ctx, next)
			warnOfOnlyOpenIDs(parts.Log, before, next.Apps)
			return errors.Join(err, setApps())
		},
	})()
	return replica.Run(p.ctx)
}

// noApps reports whether there is no app, no folder in which there may be one later, and no service
// provider whose authorizers are added.
func noApps(cfg configs.Config) bool {
	adds := slices.ContainsFunc(cfg.Providers, func(p configs.Provider) bool { return p.AddApps })
	return len(cfg.Apps) == 0 && cfg.AppsDir == "" && !adds
}

// warnOfOnlyOpenIDs warns of apps that send to some people only, and did not do so before.
func warnOfOnlyOpenIDs(log *slog.Logger, before, apps []configs.App) {
	for _, app := range apps {
		already := slices.ContainsFunc(before, func(b configs.App) bool { return b.ID == app.ID && len(b.OnlyOpenIDs) > 0 })
		if n := len(app.OnlyOpenIDs); n > 0 && !already {
			log.Warn("only_openids is set: messages to anyone else end as rejected", "app", app.ID, "people", n)
		}
	}
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
