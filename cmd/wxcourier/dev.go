package main

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/traffic"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/worker"
)

type devCommand struct {
	Listen  string   `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to serve the pages on (default ${default})."`
	Sandbox string   `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of the stand-in for WeChat (default: a free port)."`
	Redis   string   `placeholder:"ADDR" help:"Use the Redis at this address instead of one inside the process. All tasks that wait there for a configured app are sent to the sandbox: never use a production Redis."`
	Host    []string `placeholder:"NAME" help:"Also accept requests for this host name."`
	Rate    float64  `default:"3" placeholder:"N" help:"Sample tasks per second; 0 disables them (default ${default})."`
}

func (devCommand) Help() string {
	return `Runs Redis, a stand-in for WeChat, a worker and the asynq web UI in one process, and enqueues sample tasks. No messages are sent, and nothing is kept after exit. Tasks of the configured apps are delivered too, without using their secrets, so that a service under development can enqueue here.

Requests from other websites are refused. On a loopback address the pages accept the host names localhost and loopback addresses; otherwise IP addresses and names without a dot. --host adds a name.

Examples:
    wxcourier dev
    wxcourier dev --rate 0 --listen 127.0.0.1:9000`
}

// maxSampleRate is about the rate that the embedded Redis sustains, in tasks per second.
const maxSampleRate = 200

// Run runs until ctx ends.
func (c *devCommand) Run(p *program) error {
	p.verbose = true
	if c.Rate < 0 || c.Rate > maxSampleRate {
		return usageErrorf("dev: --rate %v is not between 0 and %d", c.Rate, maxSampleRate)
	}
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	wx := sandbox.New(sandbox.Options{})
	wxAddr, stopWeChat, err := p.serveSandbox(c.Sandbox, wx.Handler(c.Sandbox, c.Host...))
	if err != nil {
		return err
	}
	defer stopWeChat()
	cfg.WeChat.BaseURL = "http://" + dialAddress(wxAddr)
	stopRedis, err := c.redis(&cfg)
	if err != nil {
		return err
	}
	defer stopRedis()
	parts, err := newParts(cfg, p.logger(), sandboxCredential)
	if err != nil {
		return err
	}
	defer parts.close()
	if err := pingRedis(p.ctx, cfg.Redis, parts.rdb); err != nil {
		return err
	}
	return c.serve(p, parts)
}

// redis points the configuration at the Redis of --redis, or at a new one in the process.
func (c *devCommand) redis(cfg *configs.Config) (stop func(), err error) {
	if c.Redis == "" {
		return startEmbedded(cfg)
	}
	cfg.Redis = configs.Redis{Addrs: []string{c.Redis}}
	if err := cfg.Redis.Validate(); err != nil {
		return nil, usageErrorf("dev: --redis: %v", err)
	}
	return func() {}, nil
}

// serve runs the worker, the pages and the sample traffic.
func (c *devCommand) serve(p *program, parts *parts) error {
	apps := workerApps(parts.cfg.Apps)
	for _, app := range traffic.Apps() {
		apps = append(apps, worker.App{ID: app})
	}
	replica, err := parts.replica(apps, parts.registry)
	if err != nil {
		return err
	}
	monitor := asynqmon.New(asynqmon.Options{RootPath: "/monitor", RedisConnOpt: asynqRedis{parts.cfg.Redis}})
	defer func() { _ = monitor.Close() }()
	mux := http.NewServeMux()
	mux.Handle("/", replica.Handler(parts.registry))
	mux.Handle("/monitor", monitor)
	mux.Handle("/monitor/", monitor)
	page := welcome{Redis: parts.cfg.Redis.Address(), WeChat: parts.cfg.WeChat.BaseURL, Apps: apps}
	mux.Handle("GET /{$}", page)
	addr, stop, err := p.serve(c.Listen, httpguard.New(c.Listen, c.Host...).Protect(mux))
	if err != nil {
		return err
	}
	defer stop()
	p.announce(addr, page)

	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() { c.sendSamples(ctx, parts) })
	return replica.Run(ctx)
}

// announce prints the addresses of the pages, WeChat and Redis.
func (p *program) announce(addr string, page welcome) {
	url := "http://" + dialAddress(addr)
	p.notef(`Start page  %[1]s/
Queues      %[1]s/monitor     (the asynq web UI)
Metrics     %[1]s/metrics
WeChat      %[2]s   (a stand-in; %[2]s/sandbox/counts lists its calls)
Redis       %[3]s
No messages are sent. Press Ctrl-C to stop.`, url, page.WeChat, page.Redis)
	if host, _, err := net.SplitHostPort(addr); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
			p.notef("Warning: the pages at %s need no password; anyone who can reach them can change the queues.", addr)
		}
	}
}

// sendSamples enqueues c.Rate sample tasks per second until ctx ends.
func (c *devCommand) sendSamples(ctx context.Context, parts *parts) {
	if c.Rate == 0 {
		return
	}
	t := time.NewTicker(time.Duration(float64(time.Second) / c.Rate))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if _, err := parts.client.Submit(ctx, traffic.Task(n)); err != nil && ctx.Err() == nil {
			parts.log.Warn("a sample task was not enqueued", "err", err)
		}
	}
}

// asynqRedis makes a Redis client for each of asynq's tools, since each closes its client.
type asynqRedis struct{ configs.Redis }

// MakeRedisClient implements asynq.RedisConnOpt.
func (r asynqRedis) MakeRedisClient() any { return redis.UniversalClient(r.NewClient()) }
