// Package dev runs everything in one process: a Redis, a stand-in for WeChat, a worker with its pages,
// the gateway, the asynq web UI, and sample traffic. No messages are sent.
//
//	e, err := dev.Start(ctx, dev.Config{Settings: cfg, Listen: "127.0.0.1:8080", Rate: 3, Log: log})
//	if err != nil {
//		return err
//	}
//	defer e.Close()
//	fmt.Println(e.Addresses().Pages)
//	err = e.Run(ctx)
package dev

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/traffic"
	"github.com/wxcourier/wxcourier/sandbox"
)

// MaxRate is about the rate that the embedded Redis sustains, in tasks per second.
const MaxRate = 200

// asynqRetention is how long completed tasks stay in the asynq web UI where no other time is
// configured. At MaxRate they take some 160 MB.
const asynqRetention = 10 * time.Minute

// Config configures an Environment.
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
	Command       string   // the command by which the user starts this program, for the start page
	Log           *slog.Logger
}

// Addresses are where the parts of an Environment can be reached from this machine.
type Addresses struct {
	Listen string // of the pages, as host:port of the listener
	Pages  string // URL of the pages, without a final slash
	WeChat string // URL of the stand-in
	Pushes string // URL of the receiver of WeChat's pushes, without /callback/APPID
	Redis  string // host:port
}

// Environment is everything in one process. Start returns it, Run runs it, Close stops what Start started.
type Environment struct {
	cfg     Config
	parts   *app.Parts
	replica *app.Replica
	gateway *gateway.Gateway
	hooks   *webhook.Sender
	pushes  *app.CallbackServer
	pages   *httpserver.Server
	served  []string // ids of the apps
	closers []func() // called by Close, the last one first
}

// Start starts Redis, the stand-in and the pages. The worker and the traffic start with Run.
func Start(ctx context.Context, cfg Config) (*Environment, error) {
	e := &Environment{cfg: cfg}
	if err := e.start(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

func (e *Environment) start(ctx context.Context) (err error) {
	if e.cfg.Settings.Results.AsynqRetention == 0 {
		e.cfg.Settings.Results.AsynqRetention = min(asynqRetention, e.cfg.Settings.Results.Retention)
	}
	if err := e.startWeChat(ctx); err != nil {
		return err
	}
	if !e.cfg.ExternalRedis {
		stop, err := app.StartRedis(&e.cfg.Settings)
		if err != nil {
			return err
		}
		e.closers = append(e.closers, stop)
	}
	for _, a := range storyApps() {
		if !app.Known(e.cfg.Settings.Apps, a.ID) {
			e.cfg.Settings.Apps = append(e.cfg.Settings.Apps, a)
		}
	}
	e.cfg.Settings.Gateway.Listen, e.cfg.Settings.Gateway.Monitor = e.cfg.Listen, gateway.MonitorFull // nothing here is real
	if e.cfg.Settings.Gateway.CallbackListen == "" {
		e.cfg.Settings.Gateway.CallbackListen = "127.0.0.1:0"
	}
	e.cfg.Settings.Webhooks = e.privateWebhooks()
	for i := range e.cfg.Settings.Apps {
		e.privateForward(&e.cfg.Settings.Apps[i])
	}
	if e.parts, err = app.Open(ctx, e.cfg.Settings, e.cfg.Log, app.SandboxCredentials()); err != nil {
		return err
	}
	e.closers = append(e.closers, e.parts.Close)
	if e.hooks, err = e.parts.Webhooks(); err != nil {
		return err
	}
	return e.startPages(ctx)
}

// privateWebhooks returns the configured webhooks that are inside the user's own network. The others
// may be in production, where the results of this stand-in are wrong.
func (e *Environment) privateWebhooks() []webhook.Endpoint {
	var all []webhook.Endpoint
	for _, w := range e.cfg.Settings.Webhooks {
		if len(w.AllowPrivate) == 0 {
			e.cfg.Log.Warn("dev does not send to a webhook without allow_private", "webhook", w.Name)
			continue
		}
		all = append(all, w)
	}
	return all
}

// privateForward ends the forwarding of an app's pushes, unless it goes into the user's own network: a
// service in production must not get those of this stand-in.
func (e *Environment) privateForward(a *configs.App) {
	if c := &a.Callback; c.ForwardURL != "" && len(c.ForwardAllowPrivate) == 0 {
		e.cfg.Log.Warn("dev does not forward to a forward_url without forward_allow_private", "app", a.ID)
		c.ForwardURL = ""
	}
}

// startWeChat starts the stand-in and points the settings at it.
func (e *Environment) startWeChat(ctx context.Context) error {
	server, err := app.ServeSandbox(ctx, sandbox.New(sandbox.Options{}), e.cfg.Sandbox, e.cfg.Hosts, e.cfg.Log)
	if err != nil {
		return err
	}
	e.closers = append(e.closers, server.Shutdown)
	e.cfg.Settings.WeChat.BaseURL = server.URL()
	return nil
}

// startPages makes the replica and the gateway, and serves their pages and the start page.
func (e *Environment) startPages(ctx context.Context) (err error) {
	apps := app.WorkerApps(e.cfg.Settings.Apps)
	for _, a := range apps {
		e.served = append(e.served, a.ID)
	}
	if e.replica, err = e.parts.Replica(apps, e.parts.Registry); err != nil {
		return err
	}
	if e.gateway, err = e.parts.Gateway(true, startPath); err != nil {
		return err
	}
	e.closers = append(e.closers, e.gateway.Close)
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		mux.Handle(path, e.replica.Handler(e.parts.Registry))
	}
	mux.Handle("/", e.gateway)
	mux.Handle("GET "+startPath, startPage{
		Command: e.cfg.Command, Redis: e.cfg.Settings.Redis.Address(), WeChat: e.cfg.Settings.WeChat.BaseURL, Apps: e.served,
	})
	e.pages, err = httpserver.Start(ctx, httpserver.Config{
		Address: e.cfg.Listen, Handler: httpguard.New(e.cfg.Listen, e.cfg.Hosts...).Protect(mux), Log: e.cfg.Log,
	})
	if err != nil {
		return err
	}
	e.closers = append(e.closers, e.pages.Shutdown, e.gateway.Drain)
	return e.startPushes(ctx)
}

// startPushes receives the pushes of the stand-in, on the configured address or on a free port.
func (e *Environment) startPushes(ctx context.Context) (err error) {
	if e.pushes, err = e.parts.StartCallbacks(ctx); err != nil {
		return err
	}
	e.closers = append(e.closers, e.pushes.Close)
	return nil
}

// Addresses returns where the parts can be reached.
func (e *Environment) Addresses() Addresses {
	return Addresses{
		Listen: e.pages.Addr(), Pages: e.pages.URL(), WeChat: e.cfg.Settings.WeChat.BaseURL, Pushes: e.pushes.URL(),
		Redis: e.cfg.Settings.Redis.Address(),
	}
}

// Run runs the worker and enqueues the sample tasks until ctx ends. Its error is that of the replica.
func (e *Environment) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	others.Go(func() { e.sendSamples(ctx) })
	others.Go(func() { e.keepServed(ctx) })
	others.Go(func() { e.gateway.Run(ctx) })
	others.Go(func() { _ = e.hooks.Run(ctx) }) // has no error
	return e.replica.Run(ctx)
}

// Close stops the pages, the stand-in and Redis. Requests under way are answered, within seconds.
func (e *Environment) Close() {
	for i := len(e.closers) - 1; i >= 0; i-- {
		e.closers[i]()
	}
	e.closers = nil
}

// sendSamples enqueues Rate sample tasks per second until ctx ends.
func (e *Environment) sendSamples(ctx context.Context) {
	if e.cfg.Rate == 0 {
		return
	}
	if err := e.tellStory(ctx); err != nil && ctx.Err() == nil {
		e.cfg.Log.Warn("the sample tasks were not enqueued", "err", err)
	}
	t := time.NewTicker(time.Duration(float64(time.Second) / e.cfg.Rate))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if _, err := e.parts.Tasks.Submit(ctx, traffic.Task(n)); err != nil && ctx.Err() == nil {
			e.cfg.Log.Warn("a sample task was not enqueued", "err", err)
		}
	}
}
