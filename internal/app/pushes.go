package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	receiver "github.com/wxcourier/wxcourier/gateway/callback"
	"github.com/wxcourier/wxcourier/internal/app/httpserver"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Callbacks makes the receiver of WeChat's pushes. It does no I/O.
func (p *Parts) Callbacks() (*receiver.Receiver, error) {
	return receiver.New(receiver.Deps{
		Redis: p.Redis, Keys: p.callbackKeys, Forward: p.callbackForward, Handlers: p.pushHandlers(),
		Registry: p.Registry, Log: p.Log, MaxAge: p.Config.Gateway.CallbackMaxAge,
	})
}

// pushHandlers returns what handles WeChat's pushes, in the order in which they get them.
func (p *Parts) pushHandlers() []pushes.Handler {
	return []pushes.Handler{
		p.receipts,
		pushes.NewChoices(consent.NewStore(p.Redis, nil), p.countsConsents),
		p.mediaChecks(),
		p.providers,
	}
}

// countsConsents reports whether the consents of an app are counted, now.
func (p *Parts) countsConsents(app string) bool {
	found, ok := p.live.app(app)
	return ok && found.CountsConsents()
}

// callbackKeys returns the keys of the pushes to an app, now.
func (p *Parts) callbackKeys(app string) (callback.Keys, bool) {
	if provider, ok := p.live.config.Load().Provider(app); ok {
		return provider.Callback.Keys(app), true
	}
	found, ok := p.live.app(app)
	switch {
	case !ok || !found.Callback.Configured():
		return callback.Keys{}, false
	case found.Token.Mode == wechat.ModeComponent: // its callback is that of the provider, see package configs
		return found.Callback.Keys(found.Token.Provider), true
	}
	return found.Callback.Keys(app), true
}

// callbackForward returns where the pushes to an app are forwarded to, now.
func (p *Parts) callbackForward(app string) (receiver.Forward, bool) {
	if provider, ok := p.live.config.Load().Provider(app); ok && provider.Callback.ForwardURL != "" {
		return receiver.Forward{Target: provider.Callback.Target(), All: provider.Callback.Forward == configs.ForwardAll}, true
	}
	found, ok := p.live.app(app)
	if !ok || found.Callback.ForwardURL == "" {
		return receiver.Forward{}, false
	}
	return receiver.Forward{Target: found.Callback.Target(), All: found.Callback.Forward == configs.ForwardAll}, true
}

// A CallbackServer serves the receiver of WeChat's pushes. StartCallbacks returns it.
type CallbackServer struct {
	receiver *receiver.Receiver
	server   *httpserver.Server
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// StartCallbacks listens on gateway.callback_listen, and begins to receive pushes and to handle them.
// Host names and origins are not checked as on the gateway's other listener: a request counts by its
// signature alone, which no browser has.
func (p *Parts) StartCallbacks(ctx context.Context) (*CallbackServer, error) {
	cfg := p.Config.Gateway
	certificate, err := p.certificate("gateway.callback_tls", cfg.CallbackTLS)
	if err != nil {
		return nil, err
	}
	s := &CallbackServer{}
	if s.receiver, err = p.Callbacks(); err != nil {
		return nil, err
	}
	if err := s.start(ctx, httpserver.Config{Address: cfg.CallbackListen, TLS: certificate, Log: p.Log}, p.receipts.Run); err != nil {
		return nil, err
	}
	p.Log.Info("listening for WeChat's pushes", slog.String("addr", s.server.Addr()))
	return s, nil
}

// StartMediaPushes receives the pushes of a stand-in for WeChat in this process, to any app, and ends
// the tasks of media checks with them. The app of keys does not matter.
func (p *Parts) StartMediaPushes(ctx context.Context, keys callback.Keys) (*CallbackServer, error) {
	s := &CallbackServer{}
	var err error
	s.receiver, err = receiver.New(receiver.Deps{
		Redis: p.Redis, Handlers: []pushes.Handler{p.mediaChecks()}, Registry: p.Registry, Log: p.Log,
		Keys: func(app string) (callback.Keys, bool) {
			of := keys
			of.App = app
			return of, true
		},
	})
	if err != nil {
		return nil, err
	}
	return s, s.start(ctx, httpserver.Config{Address: "127.0.0.1:0", Log: p.Log})
}

// start listens, and begins to receive pushes and to handle them, and to run others until the server
// is closed. After an error the server is closed.
func (s *CallbackServer) start(ctx context.Context, listener httpserver.Config, others ...func(context.Context)) (err error) {
	listener.Handler, listener.ShutdownTimeout = s.receiver, callbackShutdown
	if s.server, err = httpserver.Start(ctx, listener); err != nil {
		s.receiver.Close()
		return err
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	for _, run := range append(others, s.receiver.Run) {
		s.running.Go(func() { run(ctx) })
	}
	return nil
}

// callbackShutdown is how long a shutdown waits for pushes under way: all are answered within 5 s.
const callbackShutdown = 6 * time.Second

// URL returns the server's URL, without a final slash, for clients on this machine.
func (s *CallbackServer) URL() string { return s.server.URL() }

// Close lets the pushes under way be answered, and stops handling. What is stored stays for the next
// gateway. A nil server is closed.
func (s *CallbackServer) Close() {
	if s == nil {
		return
	}
	s.server.Shutdown()
	s.cancel()
	s.running.Wait()
	s.receiver.Close()
}
