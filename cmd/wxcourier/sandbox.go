package main

import (
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/sandbox"
)

type sandboxCommand struct {
	Listen   string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Address to serve on (default ${default})."`
	Latency  time.Duration `placeholder:"D" help:"Delay of every answer, such as 50ms."`
	Credits  int           `placeholder:"N" help:"Subscribe messages that each person accepts per template before 43101. Default: unlimited."`
	NoLimits bool          `help:"Do not enforce the documented limits."`
	Host     []string      `placeholder:"NAME" help:"Also accept requests to the control API under /sandbox/ for this host name."`
}

func (sandboxCommand) Help() string {
	return `Serves a stand-in for WeChat's server API: tokens, messages, links, codes and content checks, with the documented limits. It accepts any app id with any secret, and sends no messages.

An openid that starts with the name of a fault triggers it: "busy-oAbc" answers -1 once, "busy3-oAbc" three times, "unsubscribed-oAbc" 43101, "lost-oAbc" resets the connection after the message was accepted. The faults: ` + strings.Join(sandbox.FaultNames(), ", ") + `.

/sandbox/counts, /sandbox/calls and /sandbox/duplicates report the calls so far. Requests to /sandbox/ from other websites are refused. On a loopback address it accepts the host names localhost and loopback addresses; otherwise IP addresses and names without a dot, such as a container's. --host adds a name.

Examples:
    wxcourier sandbox
    wxcourier sandbox --listen :8090 --latency 80ms --credits 1`
}

// Run serves until ctx ends.
func (c *sandboxCommand) Run(p *program) error {
	if c.Latency < 0 || c.Credits < 0 {
		return usageErrorf("sandbox: --latency and --credits cannot be negative")
	}
	wx := sandbox.New(sandbox.Options{Latency: c.Latency, Credits: c.Credits, NoLimits: c.NoLimits})
	server, err := app.ServeSandbox(p.ctx, wx, c.Listen, c.Host, p.logger())
	if err != nil {
		return err
	}
	defer server.Shutdown()
	p.notef(`A stand-in for WeChat listens on %[1]s
Point wxcourier, or any other client, at it:

    wechat:
      base_url: %[1]s

or set $WXCOURIER_WECHAT_BASE_URL to that address. The calls so far:
%[1]s/sandbox/counts
No messages are sent. Press Ctrl-C to stop.`, server.URL())
	<-p.ctx.Done()
	return nil
}
