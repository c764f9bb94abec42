// Package gateway serves wxcourier over HTTP, to producers in any language: an API of its own
// under /v1 (package api), and the paths of WeChat's own API under /wechat/ (package proxy). A
// Gateway keeps no state: run as many as needed on one Redis.
package gateway

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Deps are the dependencies of a Gateway. All are required.
type Deps struct {
	Redis     redis.UniversalClient
	Tasks     *tasks.Client
	Inspector *tasks.Inspector
	Holds     *hold.Store
	Limiter   *ratelimit.Limiter
	WeChat    *wechat.Client
	Tokens    *wechat.Tokens
	Apps      func() []api.App // the configured apps, now
	Policy    ledger.Policy    // of the records of tasks, as the workers have it
	Registry  *prometheus.Registry
	Log       *slog.Logger
}

// app returns the configuration of an app for its calls.
func (d Deps) app(id string) (app proxy.App, configured bool) {
	for _, a := range d.Apps() {
		if a.ID == id {
			return proxy.App{OnlyOpenIDs: a.OnlyOpenIDs}, true
		}
	}
	return proxy.App{}, false
}

// Gateway serves the API. Create it with New.
type Gateway struct {
	api   *api.API
	proxy *proxy.Proxy
	mux   *http.ServeMux
}

// New creates a Gateway. It does no I/O.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Redis == nil || deps.Apps == nil {
		return nil, errors.New("gateway: Deps needs Redis and Apps")
	}
	g := &Gateway{mux: http.NewServeMux()}
	g.api = api.New(api.Deps{
		Redis: deps.Redis, Tasks: deps.Tasks, Inspector: deps.Inspector, Holds: deps.Holds, Tokens: deps.Tokens,
		Reader: inspect.NewReader(deps.Redis, deps.Limiter, deps.Holds), Apps: deps.Apps, Log: deps.Log,
	})
	var err error
	g.proxy, err = proxy.New(proxy.Config{Wait: cfg.Wait}, proxy.Deps{
		Redis: deps.Redis, Tasks: deps.Tasks, Limiter: deps.Limiter, WeChat: deps.WeChat, Tokens: deps.Tokens,
		App: deps.app, Policy: deps.Policy, Registry: deps.Registry, Log: deps.Log,
	})
	if err != nil {
		return nil, err
	}
	g.mux.Handle("/v1/", authenticated(g.api))
	g.mux.Handle("/openapi.json", g.api)
	g.mux.Handle("/docs", g.api)
	g.mux.Handle("/docs/", g.api)
	g.mux.Handle("/wechat/", http.StripPrefix("/wechat", g.proxy))
	return g, nil
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }

// Close ends what runs in the background. All requests must have ended.
func (g *Gateway) Close() {
	g.api.Close()
	g.proxy.Close()
}

// authenticated adds the key of a request to its context.
func authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(apikey.NewContext(r.Context(), apikey.Local())))
	})
}
