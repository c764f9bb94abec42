package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
)

type sandboxCommand struct {
	Listen   string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Address to serve on (default ${default})."`
	Latency  time.Duration `placeholder:"D" help:"Added to every answer, such as 50ms."`
	Credits  int           `placeholder:"N" help:"Subscribe messages that each person accepts of each template before 43101. Default: endless."`
	NoLimits bool          `help:"Without the documented limits."`
	Host     []string      `placeholder:"NAME" help:"Let the control API under /sandbox/ be called by this host name, too."`
}

func (sandboxCommand) Help() string {
	return `Serves a stand-in for WeChat's server API: tokens, messages, links, codes and content checks, with the documented limits. It takes any app id with any secret, and sends nothing to anybody.

An openid that starts with the name of a fault meets it: "busy-oAbc" -1 once, "unsubscribed-oAbc" 43101, "lost-oAbc" a connection reset after the message was accepted, "busy3-oAbc" the first three times. The faults: ` + strings.Join(sandbox.FaultNames(), ", ") + `.

What it was asked is under /sandbox/counts, /sandbox/calls and /sandbox/duplicates. Other websites cannot command it through a browser: on the loopback, /sandbox/ answers to localhost and loopback addresses, elsewhere to IP addresses and to names without a dot, such as a container's; --host adds a name.

Examples:
    wxcourier sandbox
    wxcourier sandbox --listen :8090 --latency 80ms --credits 1`
}

// Run serves until the process is told to stop.
func (c *sandboxCommand) Run(p *program) error {
	if c.Latency < 0 || c.Credits < 0 {
		return usageErrorf("sandbox: --latency and --credits cannot be negative")
	}
	server := sandbox.New(sandbox.Options{Latency: c.Latency, Credits: c.Credits, NoLimits: c.NoLimits})
	addr, stop, err := p.serveSandbox(c.Listen, server.Handler(c.Listen, c.Host...))
	if err != nil {
		return err
	}
	defer stop()
	url := "http://" + dialAddress(addr)
	p.notef(`A stand-in for WeChat listens on %[1]s
Point wxcourier, or any other client, at it:

    wechat:
      base_url: %[1]s

or set $WXCOURIER_WECHAT_BASE_URL to that address. What it was asked is under
%[1]s/sandbox/counts
Nothing is sent to anybody. Ctrl-C ends it.`, url)
	<-p.ctx.Done()
	return nil
}

// serveSandbox serves a sandbox until stop is called, which lets its hanging calls go.
func (p *program) serveSandbox(address string, server http.Handler) (addr string, stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(p.ctx, "tcp", address)
	if err != nil {
		return "", nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.ctx))
	s := &http.Server{Handler: server, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.logger().Error("the sandbox broke down", "err", err)
		}
	}()
	return listener.Addr().String(), func() {
		cancel()
		_ = s.Close()
		<-done
	}, nil
}

// dialAddress is an address that a client on this machine can call.
func dialAddress(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}
