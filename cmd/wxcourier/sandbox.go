package main

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/sandbox"
)

type sandboxCommand struct {
	Listen   string        `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Address to serve on (default ${default})."`
	Latency  time.Duration `placeholder:"D" help:"Delay of every answer, such as 50ms."`
	Credits  int           `placeholder:"N" help:"Subscribe messages that each person accepts per template before 43101. Default: unlimited."`
	NoLimits bool          `help:"Do not enforce the documented limits."`
	Host     []string      `placeholder:"NAME" help:"Also accept requests to the control API under /sandbox/ for this host name."`

	Callback       map[string]string `placeholder:"APP=URL" mapsep:"none" help:"Push the events of this app to this URL, as WeChat does: receipts, answers of media checks, subscriptions. /callback/APP is added to a URL without a path."`
	CallbackToken  string            `placeholder:"TOKEN" help:"Token that signs the pushes. Default: that of the app's callback in the configuration."`
	CallbackAESKey string            `name:"callback-aes-key" placeholder:"KEY" help:"EncodingAESKey that encrypts the pushes. Default: with --callback-token none, else that of the configuration."`
	CallbackFormat string            `enum:"xml,json" default:"xml" help:"Format of the pushes: xml (default) or json. Official accounts have XML only."`
}

func (sandboxCommand) Help() string {
	return `Serves a stand-in for WeChat's server API: tokens, messages, links, codes and content checks, with the documented limits. It accepts any app id with any secret, and sends no messages. With --callback it pushes receipts and other events.

An openid that starts with the name of a fault triggers it: "busy-oAbc" answers -1 once, "busy3-oAbc" three times, "unsubscribed-oAbc" 43101, "lost-oAbc" resets the connection after the message was accepted. The faults: ` + strings.Join(sandbox.FaultNames(), ", ") + `. Those of pushes: ` + strings.Join(sandbox.PushFaultNames(), ", ") + `.

/sandbox/counts, /sandbox/calls and /sandbox/duplicates report the calls so far, /sandbox/pushes the pushes. Requests to /sandbox/ from other websites are refused. On a loopback address it accepts the host names localhost and loopback addresses; otherwise IP addresses and names without a dot, such as a container's. --host adds a name.

Examples:
    wxcourier sandbox
    wxcourier sandbox --listen :8090 --latency 80ms --credits 1
    wxcourier sandbox --callback wx0123456789abcdef=http://127.0.0.1:8081`
}

// Run serves until ctx ends.
func (c *sandboxCommand) Run(p *program) error {
	if c.Latency < 0 || c.Credits < 0 {
		return usageErrorf("sandbox: --latency and --credits cannot be negative")
	}
	callbacks, err := c.callbacks(p)
	if err != nil {
		return err
	}
	wx := sandbox.New(sandbox.Options{Latency: c.Latency, Credits: c.Credits, NoLimits: c.NoLimits, Callbacks: callbacks})
	defer wx.Close()
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

// callbacks returns the callbacks that the flags and the configuration set.
func (c *sandboxCommand) callbacks(p *program) (map[string]sandbox.Callback, error) {
	if len(c.Callback) == 0 {
		if c.CallbackToken != "" || c.CallbackAESKey != "" {
			return nil, usageErrorf("sandbox: --callback-token and --callback-aes-key need --callback APP=URL")
		}
		return nil, nil
	}
	if c.CallbackToken == "" && c.CallbackAESKey != "" {
		return nil, usageErrorf("sandbox: --callback-aes-key needs --callback-token")
	}
	cfg, err := p.configuration()
	if err != nil {
		return nil, err
	}
	all := make(map[string]sandbox.Callback, len(c.Callback))
	for _, id := range slices.Sorted(maps.Keys(c.Callback)) {
		callback, err := c.callback(id, cfg)
		if err != nil {
			return nil, err
		}
		all[id] = callback
	}
	return all, nil
}

func (c *sandboxCommand) callback(id string, cfg configs.Config) (sandbox.Callback, error) {
	callback := sandbox.Callback{URL: callbackURL(c.Callback[id], id), Token: c.CallbackToken, AESKey: c.CallbackAESKey, Format: c.CallbackFormat}
	for _, a := range cfg.Apps {
		if a.ID == id && callback.Token == "" {
			callback.Token, callback.AESKey = a.Callback.Token.Reveal(), a.Callback.AESKey.Reveal()
		}
	}
	if callback.Token == "" {
		return callback, usageErrorf("sandbox: --callback: no token for %s: configure apps[].callback.token of the app, or use --callback-token", id)
	}
	if err := callback.Validate(); err != nil {
		return callback, usageErrorf("sandbox: --callback: %s: %s", id, strings.TrimPrefix(err.Error(), "sandbox: "))
	}
	return callback, nil
}

// callbackURL returns the address of wxcourier's own receiver at a URL without a path, and any other URL as it is.
func callbackURL(address, id string) string {
	if u, err := url.Parse(address); err == nil && strings.Trim(u.Path, "/") == "" {
		return u.JoinPath("callback", id).String()
	}
	return address
}
