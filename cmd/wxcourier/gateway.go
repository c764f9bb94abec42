package main

import (
	"context"
	"errors"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app/reload"
	"github.com/wxcourier/wxcourier/internal/httpguard"
)

type gatewayCommand struct {
	Listen string   `placeholder:"ADDR" help:"Address to serve on. Default: gateway.listen."`
	Host   []string `placeholder:"NAME" help:"Also accept requests for this host name, as with gateway.hosts."`
}

func (gatewayCommand) Help() string {
	return `Serves the HTTP API, for producers in any language, with /docs, /healthz, /readyz, /metrics and the asynq web UI at /monitor. It keeps no state: run any number on the same Redis.

With gateway.callback_listen it also receives WeChat's pushes, at /callback/APPID on that address alone; see docs/callbacks.md.

Requests need a key, except on a loopback address without gateway.keys_file. wxcourier key makes keys. On SIGTERM or Ctrl-C the requests under way are finished, within gateway.shutdown_timeout.

Examples:
    wxcourier gateway -c wxcourier.yaml
    curl -d '{"type":"send:custom","app":"wx0123456789abcdef","body":{"touser":"oMe","msgtype":"text","text":{"content":"Hello"}}}' http://127.0.0.1:8080/v1/tasks
    curl -H "Authorization: Bearer $KEY" http://gateway:8080/v1/tasks/wx0123456789abcdef/order-42`
}

// Run runs until ctx ends.
func (c *gatewayCommand) Run(p *program) error {
	p.verbose = true
	parts, err := p.connect("gateway")
	if err != nil {
		return err
	}
	defer parts.Close()
	started, cfg := parts.Config, &parts.Config.Gateway
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	cfg.Hosts = append(cfg.Hosts, c.Host...)
	server, err := parts.StartGateway(p.ctx)
	if err != nil {
		return usageErrorf("gateway: %v", err)
	}
	defer server.Close()
	defer p.followConfiguration(reload.Config{
		Started: started, Unused: []string{"worker"}, Log: parts.Log, Report: server.SetConfiguration,
		Apply: func(ctx context.Context, next configs.Config) error {
			err := parts.Apply(ctx, next)
			return errors.Join(err, server.SetWebhooks(parts.Current().Webhooks))
		},
	})()
	if cfg.KeysFile == "" && httpguard.Loopback(cfg.Listen) {
		parts.Log.Warn("there is no gateway.keys_file: every program on this machine may use the API, without a key")
	}
	<-p.ctx.Done()
	return nil
}
