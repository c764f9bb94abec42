package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"

	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/worker"
)

// Gateway makes the gateway. It reads the file of the keys. unprotected lets it serve other
// machines without keys, and start is the path of a page with the first steps, see gateway.Deps.
func (p *Parts) Gateway(unprotected bool, start string) (*gateway.Gateway, error) {
	keys := apikey.NewSet(p.Config.Gateway.KeysFile, p.Log)
	if err := keys.Load(); err != nil {
		return nil, fmt.Errorf("gateway.keys_file: %w", err)
	}
	g, err := gateway.New(p.Config.Gateway, gateway.Deps{
		Redis: p.Redis, NewRedis: p.Config.Redis.NewClient, Tasks: p.Tasks, Inspector: p.Inspector, Holds: p.Holds,
		Limiter: p.Limiter, WeChat: p.WeChat, Tokens: p.Tokens, Apps: p.gatewayApps, Keys: keys,
		Policy: worker.RecordPolicy(p.Config.Results, p.Config.WeChat.AttemptTimeout), Margin: p.Config.Pace.Margin,
		SyncPauses: p.SyncPauses,
		AskQuotas: func(ctx context.Context, app string, types []string) error {
			_, err := p.AskQuotas(ctx, app, types)
			return err
		},
		RefreshTemplates: p.RefreshTemplates,
		Webhooks:         func() []webhook.Endpoint { return p.Current().Webhooks },
		Registry:         p.Registry, Log: p.Log, Tracer: p.Tracer(), Unprotected: unprotected, Start: start,
	})
	if err != nil {
		return nil, err
	}
	p.gateway.Store(g)
	return g, nil
}

// gatewayApps returns the configured apps as the gateway takes them.
func (p *Parts) gatewayApps() []api.App {
	var all []api.App
	for _, app := range p.Current().Apps {
		all = append(all, api.App{
			ID: app.ID, Hours: app.Hours, OnlyOpenIDs: app.OnlyOpenIDs, Receipts: app.Callback.Configured(), Consent: app.Consent,
		})
	}
	return all
}

// A GatewayServer serves a gateway. StartGateway returns it.
type GatewayServer struct {
	gateway  *gateway.Gateway
	webhooks *webhook.Sender
	server   *httpserver.Server
	pushes   *CallbackServer // nil: none
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// StartGateway listens on the configured address and begins to serve.
func (p *Parts) StartGateway(ctx context.Context) (*GatewayServer, error) {
	cfg := p.Config.Gateway
	certificate, err := p.certificate("gateway.tls", cfg.TLS)
	if err != nil {
		return nil, err
	}
	g, err := p.Gateway(false, "")
	if err != nil {
		return nil, err
	}
	webhooks, err := p.Webhooks()
	if err != nil {
		g.Close()
		return nil, err
	}
	guard := httpguard.New(cfg.Listen, cfg.Hosts...)
	guard.Remedy = "add it to gateway.hosts, if it is a name of this gateway"
	server, err := httpserver.Start(ctx, httpserver.Config{
		Address: cfg.Listen, Handler: guard.Protect(g), TLS: certificate, ShutdownTimeout: cfg.ShutdownTimeout, Log: p.Log,
	})
	if err != nil {
		g.Close()
		return nil, err
	}
	s := &GatewayServer{gateway: g, webhooks: webhooks, server: server}
	if cfg.CallbackListen != "" {
		if s.pushes, err = p.StartCallbacks(ctx); err != nil {
			server.Shutdown()
			g.Close()
			return nil, err
		}
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() { g.Run(ctx) })
	s.running.Go(func() { p.FollowAuthorizers(ctx, g.AppsChanged) })
	s.running.Go(func() { _ = webhooks.Run(ctx) }) // has no error
	p.Log.Info("listening", slog.String("addr", server.Addr()))
	return s, nil
}

// certificate returns the certificate of a listener, which is read again when its files change; nil: it
// serves HTTP.
func (p *Parts) certificate(key string, files gateway.TLS) (*tls.Config, error) {
	if !files.Configured() {
		return nil, nil
	}
	c, err := httpserver.LoadCertificate(files.CertFile, files.KeyFile, p.Log)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return c.Config(), nil
}

// SetConfiguration sets what `wxcourier status` shows about the configuration of the gateway.
func (s *GatewayServer) SetConfiguration(c worker.Configuration) { s.gateway.SetConfiguration(c) }

// SetWebhooks replaces the endpoints that get results.
func (s *GatewayServer) SetWebhooks(endpoints []webhook.Endpoint) error {
	return s.webhooks.SetEndpoints(endpoints)
}

// Close lets the requests under way finish, within gateway.shutdown_timeout. Those that only wait
// for something are answered at once.
func (s *GatewayServer) Close() {
	s.gateway.Drain()
	s.pushes.Close()
	s.server.Shutdown()
	s.cancel()
	s.running.Wait()
	s.gateway.Close()
}
