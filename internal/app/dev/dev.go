// Package dev runs everything in one process: a Redis, a stand-in for WeChat, a worker with its pages,
// the asynq web UI, and sample traffic. No messages are sent.
//
//	d, err := dev.Start(ctx, dev.Config{Settings: cfg, Listen: "127.0.0.1:8080", Rate: 3, Log: log})
//	if err != nil {
//		return err
//	}
//	defer d.Close()
//	fmt.Println(d.Addresses().Pages)
//	err = d.Run(ctx)
package dev

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/traffic"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/worker"
)

// MaxRate is about the rate that the embedded Redis sustains, in tasks per second.
const MaxRate = 200

// Config configures a Dev.
type Config struct {
	// Settings is a valid configuration. Its apps are served beside those of the sample tasks,
	// without their secrets; its WeChat is replaced by the stand-in.
	Settings configs.Config
	// ExternalRedis uses the Redis of Settings, instead of one inside the process.
	ExternalRedis bool
	Listen        string   // address of the pages
	Sandbox       string   // address of the stand-in for WeChat
	Hosts         []string // further host names that clients use, see httpguard.New
	Rate          float64  // sample tasks per second, 0 to MaxRate
	Log           *slog.Logger
}

// Addresses are where the parts of a Dev can be reached from this machine.
type Addresses struct {
	Listen string // of the pages, as host:port of the listener
	Pages  string // URL of the pages, without a final slash
	WeChat string // URL of the stand-in
	Redis  string // host:port
}

// Dev is everything in one process. Start returns it, Run runs it, Close stops what Start started.
type Dev struct {
	cfg     Config
	parts   *app.Parts
	replica *app.Replica
	pages   *httpserver.Server
	closers []func() // called by Close, the last one first
}

// Start starts Redis, the stand-in and the pages. The worker and the traffic start with Run.
func Start(ctx context.Context, cfg Config) (*Dev, error) {
	d := &Dev{cfg: cfg}
	if err := d.start(ctx); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (d *Dev) start(ctx context.Context) (err error) {
	if err := d.startWeChat(ctx); err != nil {
		return err
	}
	if !d.cfg.ExternalRedis {
		stop, err := app.StartRedis(&d.cfg.Settings)
		if err != nil {
			return err
		}
		d.closers = append(d.closers, stop)
	}
	if d.parts, err = app.Open(ctx, d.cfg.Settings, d.cfg.Log, app.SandboxCredentials()); err != nil {
		return err
	}
	d.closers = append(d.closers, d.parts.Close)
	return d.startPages(ctx)
}

// startWeChat starts the stand-in and points the settings at it.
func (d *Dev) startWeChat(ctx context.Context) error {
	server, err := app.ServeSandbox(ctx, sandbox.New(sandbox.Options{}), d.cfg.Sandbox, d.cfg.Hosts, d.cfg.Log)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, server.Shutdown)
	d.cfg.Settings.WeChat.BaseURL = server.URL()
	return nil
}

// startPages makes the replica and serves its pages, the start page and the asynq web UI.
func (d *Dev) startPages(ctx context.Context) (err error) {
	apps := app.WorkerApps(d.cfg.Settings.Apps)
	for _, id := range traffic.Apps() {
		apps = append(apps, worker.App{ID: id})
	}
	if d.replica, err = d.parts.Replica(apps, d.parts.Registry); err != nil {
		return err
	}
	monitor := asynqmon.New(asynqmon.Options{RootPath: "/monitor", RedisConnOpt: asynqRedis{d.cfg.Settings.Redis}})
	d.closers = append(d.closers, func() { _ = monitor.Close() })
	mux := http.NewServeMux()
	mux.Handle("/", d.replica.Handler(d.parts.Registry))
	mux.Handle("/monitor", monitor)
	mux.Handle("/monitor/", monitor)
	mux.Handle("GET /{$}", startPage{Redis: d.cfg.Settings.Redis.Address(), WeChat: d.cfg.Settings.WeChat.BaseURL, Apps: apps})
	d.pages, err = httpserver.Start(ctx, httpserver.Config{
		Address: d.cfg.Listen, Handler: httpguard.New(d.cfg.Listen, d.cfg.Hosts...).Protect(mux), Log: d.cfg.Log,
	})
	if err != nil {
		return err
	}
	d.closers = append(d.closers, d.pages.Shutdown)
	return nil
}

// Addresses returns where the parts can be reached.
func (d *Dev) Addresses() Addresses {
	return Addresses{Listen: d.pages.Addr(), Pages: d.pages.URL(), WeChat: d.cfg.Settings.WeChat.BaseURL, Redis: d.cfg.Settings.Redis.Address()}
}

// Run runs the worker and enqueues the sample tasks until ctx ends. Its error is that of the replica.
func (d *Dev) Run(ctx context.Context) error {
	var sender sync.WaitGroup
	defer sender.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sender.Go(func() { d.sendSamples(ctx) })
	return d.replica.Run(ctx)
}

// Close stops the pages, the stand-in and Redis. Requests under way are answered, within seconds.
func (d *Dev) Close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		d.closers[i]()
	}
	d.closers = nil
}

// sendSamples enqueues Rate sample tasks per second until ctx ends.
func (d *Dev) sendSamples(ctx context.Context) {
	if d.cfg.Rate == 0 {
		return
	}
	t := time.NewTicker(time.Duration(float64(time.Second) / d.cfg.Rate))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if _, err := d.parts.Tasks.Submit(ctx, traffic.Task(n)); err != nil && ctx.Err() == nil {
			d.cfg.Log.Warn("a sample task was not enqueued", "err", err)
		}
	}
}

// asynqRedis makes a Redis client for each of asynq's tools, since each closes its client.
type asynqRedis struct{ configs.Redis }

// MakeRedisClient implements asynq.RedisConnOpt.
func (r asynqRedis) MakeRedisClient() any { return redis.UniversalClient(r.NewClient()) }
