// Package gateway serves wxcourier over HTTP, to producers in any language: an API of its own
// under /v1 (package api), and the paths of WeChat's own API under /wechat/ (package proxy). A
// Gateway keeps no state: run as many as needed on one Redis.
//
// A request passes through observed (metrics, log, panics), limited (its size, and the time that
// it may stand still) and, except for WeChat's own paths, authenticated (its key).
package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/gateway/console"
	"github.com/wxcourier/wxcourier/gateway/monitor"
	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Deps are the dependencies of a Gateway. All but Tracer are required.
type Deps struct {
	Redis     redis.UniversalClient
	NewRedis  func() redis.UniversalClient // makes clients that the gateway closes
	Tasks     *tasks.Client
	Inspector *tasks.Inspector
	Holds     *hold.Store
	Limiter   *ratelimit.Limiter
	WeChat    *wechat.Client
	Tokens    *wechat.Tokens
	Apps      func() []api.App // the configured apps, now
	Keys      *apikey.Set      // of Config.KeysFile, loaded; open if there is no file
	Policy    ledger.Policy    // of the records of tasks, as the workers have it
	Margin    float64          // pace.margin of the configuration
	// SyncPauses and AskQuotas are those of api.Deps.
	SyncPauses func(ctx context.Context, app string) error
	AskQuotas  func(ctx context.Context, app string, types []string) error
	// RefreshTemplates is that of api.Deps.
	RefreshTemplates func(ctx context.Context, app string) (*templates.Registry, error)
	Webhooks         func() []webhook.Endpoint // the configured endpoints, now; nil: none
	Registry         *prometheus.Registry
	Log              *slog.Logger
	Tracer           trace.Tracer // makes spans of the requests; nil: none

	// Unprotected lets the gateway serve other machines without keys: nothing behind it is real.
	Unprotected bool
	// Start is the path of a page with the first steps, for a link of the console; "": there is none.
	Start string
}

// app returns the configuration of an app for its calls.
func (d Deps) app(id string) (app proxy.App, configured bool) {
	for _, a := range d.Apps() {
		if a.ID == id {
			return proxy.App{OnlyOpenIDs: a.OnlyOpenIDs, Receipts: a.Receipts, Consent: consent.Mode(a.Consent)}, true
		}
	}
	return proxy.App{}, false
}

// consoleApps returns the configured apps as the console takes them.
func (d Deps) consoleApps() []console.App {
	var all []console.App
	for _, a := range d.Apps() {
		all = append(all, console.App{ID: a.ID, Hours: a.Hours, Receipts: a.Receipts, Consent: consent.Mode(a.Consent)})
	}
	return all
}

// Gateway serves the API. Create it with New.
type Gateway struct {
	cfg      Config
	deps     Deps
	api      *api.API
	console  *console.Console
	proxy    *proxy.Proxy
	monitor  *monitor.Monitor // nil: off
	metrics  *metrics
	mux      *http.ServeMux
	handler  http.Handler // mux, observed and limited
	series   *series.Recorder
	outcomes *prometheus.CounterVec
	beater   *heartbeat.Beater
	draining atomic.Bool
	stopping chan struct{} // closed by Drain
}

// New creates a Gateway. It does no I/O.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Redis == nil || deps.NewRedis == nil || deps.Apps == nil || deps.Keys == nil || deps.Registry == nil {
		return nil, errors.New("gateway: Deps needs Redis, NewRedis, Apps, Keys and Registry")
	}
	if !deps.Unprotected {
		if err := checkListen(cfg, deps.Keys); err != nil {
			return nil, err
		}
	}
	g := &Gateway{cfg: cfg, deps: deps, mux: http.NewServeMux(), metrics: newMetrics(deps.Apps), stopping: make(chan struct{})}
	g.series = series.NewRecorder(deps.Redis, deps.Log)
	g.beater = heartbeat.NewBeater(deps.Redis, heartbeat.Gateway, heartbeat.NewID(), g.load, deps.Log)
	if err := g.metrics.register(deps.Registry); err != nil {
		return nil, err
	}
	g.metrics.expectReceipts(deps.Apps())
	var err error
	if g.outcomes, err = dispatch.Outcomes(deps.Registry); err != nil {
		return nil, err
	}
	g.api = api.New(api.Deps{
		Redis: deps.Redis, Tasks: deps.Tasks, Inspector: deps.Inspector, Holds: deps.Holds, Tokens: deps.Tokens,
		Reader: inspect.NewReader(deps.Redis, deps.Limiter, deps.Holds), Apps: deps.Apps, Log: deps.Log,
		SyncPauses: deps.SyncPauses, AskQuotas: deps.AskQuotas, RefreshTemplates: deps.RefreshTemplates,
	})
	g.proxy, err = proxy.New(proxy.Config{Wait: cfg.Wait}, proxy.Deps{
		Redis: deps.Redis, Tasks: deps.Tasks, Limiter: deps.Limiter, WeChat: deps.WeChat, Tokens: deps.Tokens,
		Keys: deps.Keys, App: deps.app, Policy: deps.Policy, Registry: deps.Registry, Log: deps.Log, Tracer: deps.Tracer,
		CountOutcome: g.CountOutcome,
	})
	if err != nil {
		return nil, err
	}
	g.console, err = console.New(console.Deps{
		Redis: deps.Redis, Tasks: deps.Tasks, Inspector: deps.Inspector, Limiter: deps.Limiter, Holds: deps.Holds, Tokens: deps.Tokens,
		Reader: inspect.NewReader(deps.Redis, deps.Limiter, deps.Holds), Apps: deps.consoleApps, Keys: deps.Keys,
		SyncPauses: deps.SyncPauses, AskQuotas: deps.AskQuotas, Webhooks: deps.Webhooks, Secure: cfg.TLS.Configured(), Log: deps.Log,
		Margin: deps.Margin, Retention: deps.Policy.Retention,
		Monitor: monitorPath(cfg), Start: deps.Start,
		Signed: func(r *http.Request, key *apikey.Key) { exchangeOf(r.Context()).key = key.ID },
	})
	if err != nil {
		return nil, err
	}
	g.handler = g.observed(limited(g.mux))
	g.routes()
	return g, nil
}

// checkListen returns an error if other machines can reach the gateway and it has no keys.
func checkListen(cfg Config, keys *apikey.Set) error {
	if httpguard.Loopback(cfg.Listen) || keys.Len() > 0 {
		return nil
	}
	reach := fmt.Sprintf("gateway.listen: other machines can reach %s, so that requests need a key", cfg.Listen)
	if keys.Open() {
		return fmt.Errorf("%s, and there are none: set gateway.keys_file (such as /etc/wxcourier/keys), "+
			"make a key with `wxcourier key new --id ID`, and start again; or listen on 127.0.0.1", reach)
	}
	return fmt.Errorf("%s, and gateway.keys_file (%s) has none: make one with `wxcourier key new --id ID`, and start again", reach, cfg.KeysFile)
}

// routes registers all paths. Their patterns, with those of the API, are the label route.
func (g *Gateway) routes() {
	operations := routedByNext(g.api)
	g.handle("/v1/", g.traced(g.authenticated(operations)))
	for _, path := range DocumentPaths() {
		g.handle(path, operations)
	}
	g.handle("/wechat/", g.traced(http.StripPrefix("/wechat", g.proxy)))
	g.handle("GET /healthz", http.HandlerFunc(g.serveHealth))
	g.handle("GET /readyz", http.HandlerFunc(g.serveReadiness))
	g.handle("GET /metrics", promhttp.HandlerFor(g.deps.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	g.handle("/", routedByNext(g.console))
	if g.cfg.Monitor != MonitorOff {
		g.monitor = monitor.New(monitor.Config{Full: g.cfg.Monitor == MonitorFull}, monitor.Deps{
			Redis: g.deps.Redis, NewRedis: g.deps.NewRedis, Log: g.deps.Log,
		})
		pages := g.console.Authenticated(g.monitor)
		g.handle(monitor.Root, pages)
		g.handle(monitor.Root+"/", pages)
	}
}

// monitorPath is the path of the asynq web UI, "" if it is off.
func monitorPath(cfg Config) string {
	if cfg.Monitor == MonitorOff {
		return ""
	}
	return monitor.Root
}

// DocumentPaths are the paths of the API's description, which need no key.
func DocumentPaths() []string { return []string{"/openapi.json", "/docs", "/docs/"} }

// handle registers a handler, whose requests have the pattern as their route.
func (g *Gateway) handle(pattern string, next http.Handler) {
	g.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if pattern != "/" { // that of unknown paths too
			exchangeOf(r.Context()).route = pattern
		}
		next.ServeHTTP(w, r)
	})
}

// traced adds the trace of a request to its context, and with a tracer a span.
func (g *Gateway) traced(next http.Handler) http.Handler {
	return tracing.Middleware(g.deps.Tracer, func(r *http.Request) string { return exchangeOf(r.Context()).route }, next)
}

// routedByNext takes the pattern of a handler that routes by a http.ServeMux as the route.
func routedByNext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(r.Context()) // a copy, whose pattern is that of next
		r.Pattern = ""
		e := exchangeOf(r.Context())
		defer func() {
			if r.Pattern != "/" { // that of unknown paths
				e.route = cmp.Or(r.Pattern, e.route)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.handler.ServeHTTP(w, r) }

// Run keeps the gateway in the list of replicas, writes the counts of outcomes, and reads the keys
// again when their file changes, until ctx ends.
func (g *Gateway) Run(ctx context.Context) {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { g.beater.Run(ctx, g.stopping) })
	others.Go(func() { g.series.Run(ctx) })
	others.Go(func() { g.proxy.Run(ctx) })
	g.deps.Keys.Run(ctx)
}

// SetConfiguration sets what `wxcourier status` shows about the configuration of the gateway. It may be
// called at any time, from any goroutine.
func (g *Gateway) SetConfiguration(c heartbeat.Configuration) {
	g.beater.SetConfiguration(c)
	g.AppsChanged()
}

// AppsChanged tells the gateway that Deps.Apps may return other apps. It may be called at any time, from any
// goroutine.
func (g *Gateway) AppsChanged() { g.metrics.expectReceipts(g.deps.Apps()) }

// load sets in the entry of the gateway in the list of replicas what changes while it runs.
func (g *Gateway) load(entry *heartbeat.Replica) { entry.Apps = len(g.deps.Apps()) }

// Drain makes the gateway not ready, and answers the requests that only wait for something, now and
// from now on. Call it before the server waits for its requests.
func (g *Gateway) Drain() {
	if !g.draining.Swap(true) {
		close(g.stopping)
	}
	g.api.EndWaits()
	g.console.Drain()
}

// Close ends what runs in the background. All requests must have ended.
func (g *Gateway) Close() {
	g.api.Close()
	g.console.Close()
	g.proxy.Close()
	g.series.Flush(context.Background()) // of requests that ended after Run
	if g.monitor != nil {
		g.monitor.Close()
	}
}
