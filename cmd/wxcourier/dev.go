package main

import (
	"net"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app/dev"
)

type devCommand struct {
	Listen  string   `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address to serve the pages on (default ${default})."`
	Sandbox string   `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of the stand-in for WeChat (default: a free port)."`
	Redis   string   `placeholder:"ADDR" help:"Use the Redis at this address instead of one inside the process. All tasks that wait there for a configured app are sent to the sandbox: never use a production Redis."`
	Host    []string `placeholder:"NAME" help:"Also accept requests for this host name."`
	Rate    float64  `default:"3" placeholder:"N" help:"Sample tasks per second; 0 disables them (default ${default})."`
}

func (devCommand) Help() string {
	return `Runs Redis, a stand-in for WeChat, a worker, the gateway and the asynq web UI in one process, and enqueues sample tasks. No messages are sent, and nothing is kept after exit. Tasks of the configured apps are delivered too, without using their secrets, so that a service under development can enqueue here.

Requests from other websites are refused. On a loopback address the pages accept the host names localhost and loopback addresses; otherwise IP addresses and names without a dot. --host adds a name.

The API needs no key, unless gateway.keys_file is configured.

Examples:
    wxcourier dev
    wxcourier dev --rate 0 --listen 127.0.0.1:9000`
}

// Run runs until ctx ends.
func (c *devCommand) Run(p *program) error {
	p.verbose = true
	if c.Rate < 0 || c.Rate > dev.MaxRate {
		return usageErrorf("dev: --rate %v is not between 0 and %d", c.Rate, dev.MaxRate)
	}
	cfg, err := p.configuration()
	if err != nil {
		return err
	}
	if c.Redis != "" {
		cfg.Redis = configs.Redis{Addrs: []string{c.Redis}}
		if err := cfg.Redis.Validate(); err != nil {
			return usageErrorf("dev: --redis: %v", err)
		}
	}
	e, err := dev.Start(p.ctx, dev.Config{
		Settings: cfg, ExternalRedis: c.Redis != "", Listen: c.Listen, Sandbox: c.Sandbox, Hosts: c.Host, Rate: c.Rate, Command: p.command, Log: p.logger(),
	})
	if err != nil {
		return err
	}
	defer e.Close()
	p.announce(e.Addresses())
	return e.Run(p.ctx)
}

// announce prints the addresses of the pages, WeChat and Redis.
func (p *program) announce(at dev.Addresses) {
	p.notef(`Console     %[1]s/
First steps %[1]s/start
API         %[1]s/v1/tasks    (%[1]s/docs describes it)
Queues      %[1]s/monitor     (the asynq web UI)
Metrics     %[1]s/metrics
WeChat      %[2]s   (a stand-in; %[2]s/sandbox/counts lists its calls)
Redis       %[3]s
In another terminal: WXCOURIER_REDIS_ADDRS=%[3]s %[4]s results --follow
No messages are sent. Press Ctrl-C to stop.`, at.Pages, at.WeChat, at.Redis, p.command)
	if host, _, err := net.SplitHostPort(at.Listen); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsLoopback() {
			p.notef("Warning: the pages at %s need no password; anyone who can reach them can change the queues.", at.Listen)
		}
	}
}
