package main

import (
	"log/slog"

	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/httpguard"
)

type gatewayCommand struct {
	Listen string `placeholder:"ADDR" help:"Address to serve on. Default: gateway.listen."`
}

func (gatewayCommand) Help() string {
	return `Serves the HTTP API, for producers in any language. It keeps no state: run any number on the same Redis.

Examples:
    wxcourier gateway -c wxcourier.yaml
    curl -d '{"type":"send:custom","app":"wx0123456789abcdef","body":{"touser":"oMe","msgtype":"text","text":{"content":"Hello"}}}' http://127.0.0.1:8080/v1/tasks`
}

// Run runs until ctx ends.
func (c *gatewayCommand) Run(p *program) error {
	p.verbose = true
	parts, err := p.connect("gateway")
	if err != nil {
		return err
	}
	defer parts.Close()
	if c.Listen != "" {
		parts.Config.Gateway.Listen = c.Listen
	}
	g, err := parts.Gateway()
	if err != nil {
		return usageErrorf("%v", err)
	}
	defer g.Close()
	webhooks, err := parts.Webhooks()
	if err != nil {
		return err
	}
	cfg := parts.Config.Gateway
	server, err := httpserver.Start(p.ctx, httpserver.Config{
		Address: cfg.Listen, Handler: httpguard.New(cfg.Listen, cfg.Hosts...).Protect(g), Log: parts.Log,
	})
	if err != nil {
		return err
	}
	defer server.Shutdown()
	parts.Log.Info("listening", slog.String("addr", server.Addr()))
	return webhooks.Run(p.ctx)
}
