package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// Credentials returns the credentials of an app; ok is false for an app that has none.
type Credentials func(app string) (credential wechat.Credential, ok bool)

// Parts is everything between Redis and WeChat, made from one configuration.
type Parts struct {
	Config configs.Config // as it was at the start; see Current
	Log    *slog.Logger

	Redis      redis.UniversalClient
	Tasks      *tasks.Client
	Inspector  *tasks.Inspector
	Registry   *prometheus.Registry // of the metrics of this process
	Tokens     *wechat.Tokens
	WeChat     *wechat.Client
	Limiter    *ratelimit.Limiter
	Holds      *hold.Store
	live       *live
	providers  pushes.Handler // of the pushes to service providers
	Hooks      worker.Hooks   // of the replicas that are made from now on
	Unlisted   bool           // likewise; see worker.Deps
	GetsPushes bool           // likewise, as Callbacks

	receipts   *pushes.Receipts
	gateway    atomic.Pointer[gateway.Gateway] // that Gateway made last; nil: none
	tracesOnce sync.Once                       // of traces
	traces     *tracing.Traces
}

// New makes the parts. It does no I/O. With nil credentials it uses the configured ones.
func New(cfg configs.Config, log *slog.Logger, credentials Credentials) (*Parts, error) {
	p := &Parts{Config: cfg, Log: log, Redis: cfg.Redis.NewClient(), Registry: prometheus.NewRegistry(), live: newLive(cfg)}
	if credentials == nil {
		credentials = p.live.credential
	}
	p.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	onRefresh, err := worker.RegisterTokenRefreshes(p.Registry)
	if err != nil {
		_ = p.Redis.Close()
		return nil, err
	}
	p.Tasks, p.Inspector = newClient(cfg, p.Redis, p.live), tasks.NewInspector(p.Redis)
	p.Tokens = wechat.NewTokens(cfg.WeChat, p.Redis, credentials, wechat.WithLogger(log), wechat.WithOnRefresh(onRefresh))
	p.WeChat = wechat.NewClient(cfg.WeChat, p.Tokens, wechat.WithSecurity(p.live.security, func(app string) {
		log.Warn("WeChat replaces the platform certificate of the API security mode: download the new one from its console and add it to security.certificates",
			slog.String("app", app))
	}))
	p.providers = pushes.NewProvider(pushes.ProviderDeps{
		Redis: p.Redis, Tokens: p.Tokens, Holds: hold.NewStore(p.Redis), Apps: p.live.authorizersOf, Uses: p.live.uses, Log: log,
	})
	p.Limiter = ratelimit.NewLimiter(p.Redis, cfg.Pace, p.live.limits, ratelimit.WithReserve(p.live.reserve))
	p.Holds = hold.NewStore(p.Redis)
	p.receipts = p.newReceipts()
	return p, nil
}

// NewClient returns a client that enqueues tasks as the configuration says. It does no I/O.
func NewClient(cfg configs.Config, rdb redis.UniversalClient) *tasks.Client {
	return newClient(cfg, rdb, newLive(cfg))
}

func newClient(cfg configs.Config, rdb redis.UniversalClient, l *live) *tasks.Client {
	return tasks.NewClient(rdb, tasks.WithRetention(cfg.Results.Retention), tasks.WithOpenIDIndex(cfg.Results.IndexOpenIDs), tasks.WithCallbacks(l.callback))
}

// Open makes the parts and checks that Redis answers; the error of a Redis that does not is that of
// [PingRedis].
func Open(ctx context.Context, cfg configs.Config, log *slog.Logger, credentials Credentials) (*Parts, error) {
	p, err := New(cfg, log, credentials)
	if err != nil {
		return nil, err
	}
	if err := PingRedis(ctx, cfg.Redis, p.Redis); err != nil {
		p.Close() //nolint:contextcheck // the clean-up does not end with ctx
		return nil, err
	}
	if err := p.readAuthorizers(ctx); err != nil {
		p.Close() //nolint:contextcheck // the clean-up does not end with ctx
		return nil, err
	}
	return p, nil
}

// Tracer returns the tracer that the environment configures, nil for none. Replicas and gateways use
// it; commands that make none do not read the environment.
func (p *Parts) Tracer() trace.Tracer {
	p.tracesOnce.Do(func() {
		var err error
		if p.traces, err = tracing.FromEnvironment(os.Getenv, p.Log); err != nil {
			p.Log.Warn("no traces are recorded", slog.Any("err", err)) // the variables may be meant for other programs
		}
	})
	return p.traces.Tracer()
}

// Caller makes what calls WeChat outside of tasks. The caller closes it. It does no I/O.
func (p *Parts) Caller() (*proxy.Caller, error) {
	return proxy.NewCaller(p.Config.Gateway.Wait, proxy.CallerDeps{
		Redis: p.Redis, Limiter: p.Limiter, WeChat: p.WeChat, Registry: p.Registry, Log: p.Log, Tracer: p.Tracer(),
	})
}

// Webhooks makes the sender of the configured webhooks. It does no I/O.
func (p *Parts) Webhooks() (*webhook.Sender, error) {
	most := p.Config.Results.StreamLagMaxLen
	if most > 0 {
		most = max(most, p.Config.Results.StreamMaxLen)
	}
	return webhook.New(p.Config.Webhooks, webhook.Deps{Redis: p.Redis, Registry: p.Registry, Log: p.Log, StreamMaxLen: most})
}

// Close returns leased permits, within seconds, and closes all connections.
func (p *Parts) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	if err := p.Limiter.Close(ctx); err != nil {
		p.Log.Debug("leased permits could not be returned", "err", err)
	}
	p.traces.Close()
	p.Tasks.Close()
	p.Tokens.Close()
	p.WeChat.CloseIdle()
	_ = p.Redis.Close()
}

// SyncPauses pauses asynq's queues of an app according to its holds and spent limits, so that the asynq web UI shows
// them. It takes at most some seconds. Workers do the same by themselves, later.
func (p *Parts) SyncPauses(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	holds, err := p.Holds.List(ctx, app)
	if err != nil {
		return err
	}
	if Known(p.Current().Apps, app) { // the limits of others are not known here
		spent, err := inspect.ReadSpent(ctx, p.Limiter, []string{app})
		if err != nil {
			return err
		}
		holds = append(holds, inspect.HoldsOf(spent)...)
	}
	return hold.NewPauses(p.Redis, tasks.Types(), tasks.QueueNames).Sync(ctx, []string{app}, holds)
}

// Replica is a worker replica with a client of Redis of its own.
type Replica struct {
	*worker.Replica
	rdb redis.UniversalClient
}

// Replica makes a replica for apps. It does no I/O. Only one replica of a process may register its
// metrics; registry is nil for the others.
func (p *Parts) Replica(apps []worker.App, registry prometheus.Registerer) (*Replica, error) {
	rdb := p.Config.Redis.NewClient()
	r, err := worker.New(p.Config.Worker, worker.Deps{
		Redis: rdb, WeChat: p.WeChat, Limiter: p.Limiter, Apps: apps,
		Results: p.Config.Results, Attempt: p.Config.WeChat.AttemptTimeout,
		Logger: p.Log, Registry: registry, Unlisted: p.Unlisted, Callbacks: p.GetsPushes, Tracer: p.Tracer(),
	}, p.Hooks)
	if err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return &Replica{Replica: r, rdb: rdb}, nil
}

// Run runs the replica until ctx ends and then closes its client of Redis. After a shutdown timeout
// the client stays open: tasks are still in flight, and asynq does not survive a closed client.
func (r *Replica) Run(ctx context.Context) error {
	err := r.Replica.Run(ctx)
	if !errors.Is(err, worker.ErrShutdownTimeout) {
		_ = r.rdb.Close()
	}
	return err
}

// WorkerApps returns the configured apps as a replica takes them.
func WorkerApps(apps []configs.App) []worker.App {
	var all []worker.App
	for _, app := range apps {
		all = append(all, worker.App{
			ID: app.ID, OnlyOpenIDs: app.OnlyOpenIDs, Hours: app.Hours, Receipts: app.Callback.Configured(), Consent: app.Consent,
			Templates: worker.Templates{Check: app.Templates.Check, Fix: app.Templates.Fix, Fetch: app.Consent != "" && app.Consent != "off"},
		})
	}
	return all
}

// Known reports whether an app is among the configured ones.
func Known(apps []configs.App, id string) bool {
	return slices.ContainsFunc(apps, func(app configs.App) bool { return app.ID == id })
}
