// Package worker implements one replica of the delivery worker. It sends the tasks of the
// apps it has credentials for through WeChat's server API, at the pace that WeChat allows,
// and records one outcome for each task. Any number of replicas may share a Redis.
//
// A replica has a lane for each (app, type) that has work, with its own queues, concurrency
// and permits, so that no queue blocks another. All lanes share a few asynq servers, so the
// number of connections to Redis does not grow with the number of lanes. Each task goes
// through one straight pipeline, in deliver.go. Package wechat defines what an answer means,
// and internal/dispatch what follows from it.
//
// A hold stops a lane, an app or a template for all replicas, after WeChat refused calls for
// longer or an operator stopped them. Held lanes close until the hold ends, and asynq's
// pause keys show the hold. [Hours] restrict the times of day at which an
// app's tasks are sent. Limits that WeChat reports apply where they are lower than the
// configured ones.
//
//	replica, err := worker.New(cfg, worker.Deps{Redis: rdb, WeChat: client, Apps: apps, …}, worker.Hooks{})
//	…
//	err = replica.Run(ctx) // until ctx ends and the calls in flight have finished
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/templates/refresh"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// App is an app that a replica sends for.
type App struct {
	ID          string
	OnlyOpenIDs []string // when set, a message to another openid ends rejected, reason "staging"
	Hours       Hours    // when tasks may be sent; types without hours at any time
	// Receipts: WeChat pushes the receipts of the app's messages to a gateway, so that their ids are kept.
	Receipts bool
	// Consent says what follows from the consent of the receivers of subscribe messages: ConsentOff
	// (also ""), ConsentObserve or ConsentEnforce. What is known of it comes from WeChat's pushes, which a
	// gateway receives, and from [tasks.Client.ReportConsent]. A message of a template whose kind is not
	// known is never refused: see Templates.Fetch.
	Consent   string
	Templates Templates
}

// Deps are the dependencies of a replica. All but Logger, Registry, Tracer and Clock are required.
type Deps struct {
	Redis    redis.UniversalClient // used by this replica only: New adds a hook to it; close it after Run, unless Run returned ErrShutdownTimeout
	WeChat   *wechat.Client
	Limiter  *ratelimit.Limiter
	Apps     []App // [Replica.SetApps] replaces them
	Results  ResultsConfig
	Attempt  time.Duration         // the timeout of one attempt, as configured in WeChat
	Logger   *slog.Logger          // default: slog.Default()
	Registry prometheus.Registerer // nil: metrics are recorded, not exported
	// Tracer makes spans of the tasks whose producers sent a trace context; see
	// [tasks.TraceParent]. nil: none.
	Tracer trace.Tracer

	// Clock is the clock of hours, not_after, finished_at and consents; nil is time.Now. Tests move it, as
	// package wxcouriertest does. All other waits are by the clock of Redis, or in real time.
	Clock func() time.Time
	// Unlisted keeps the replica off the lists of replicas in `wxcourier status` and in the asynq
	// web UI, and its outcomes out of the counts over time, for a Redis that is not watched. No gateway
	// gets pushes for that Redis either: unless Callbacks is set, a task that one would end ends as unknown
	// at once.
	Unlisted bool
	// Callbacks: this process gets the pushes, although the replica is Unlisted.
	Callbacks bool
}

// Replica is one worker replica. Create it with New.
//
//	fleet       opens and closes the lanes, each with a gate of package gate
//	servers     the asynq servers that the lanes share
//	deliverer   takes each task through the pipeline
//	dispatcher  calls WeChat for the deliverer
//	sweeper     ends tasks that were deleted from asynq
type Replica struct {
	id              string
	shutdownTimeout time.Duration
	unlisted        bool
	rdb             redis.UniversalClient
	log             *slog.Logger
	apps            *appTable
	fleet           *fleet
	servers         *laneServers
	deliverer       *deliverer
	dispatcher      *dispatch.Dispatcher
	sweeper         *sweeper
	background      *background.Group // goroutines besides those of the lanes
	draining        atomic.Bool       // Run's ctx has ended

	recheckCredentials chan struct{} // holds one token after SetApps
	templateApps       chan struct{} // likewise
	beater             *heartbeat.Beater
	series             *series.Recorder // nil: unlisted
	consents           *consent.Checker
}

// redisTimeout bounds a call to Redis outside of the delivery pipeline.
const redisTimeout = 3 * time.Second

// lostLimit is how many runs of one task may die before the task ends: a task that crashes
// its process must not crash all replicas.
const lostLimit = 3

// deadMargin is how much longer than an attempt a run may be silent before it counts as dead.
const deadMargin = 30 * time.Second

// DeadAfter returns how long a run may be silent before it counts as dead, where attempt is
// the timeout of one attempt.
func DeadAfter(attempt time.Duration) time.Duration { return attempt + deadMargin }

// RecordPolicy returns the policy of the records of tasks, where attempt is the timeout of one
// attempt. Everything that sends tasks has the same.
func RecordPolicy(results ResultsConfig, attempt time.Duration) ledger.Policy {
	return ledger.Policy{
		Retention: results.Retention, StreamMax: results.StreamMaxLen,
		StreamRetention: results.StreamRetention, DeadAfter: DeadAfter(attempt), LostLimit: lostLimit,
		IndexOpenIDs: results.IndexOpenIDs,
	}
}

// New creates a replica, and reports invalid configuration and missing dependencies. It does no I/O.
func New(cfg Config, deps Deps, hooks Hooks) (*Replica, error) {
	if err := errors.Join(cfg.Validate(), deps.Results.Validate()); err != nil {
		return nil, err
	}
	if deps.Redis == nil || deps.WeChat == nil || deps.Limiter == nil || deps.Attempt <= 0 {
		return nil, errors.New("worker: Parts needs Redis, WeChat, Limiter and Attempt")
	}
	if cfg.ShutdownTimeout <= deps.Attempt {
		return nil, fmt.Errorf("worker.shutdown_timeout: %v must exceed wechat.attempt_timeout (%v), or a shutdown breaks off attempts", cfg.ShutdownTimeout, deps.Attempt)
	}
	if err := validateApps(deps.Apps); err != nil {
		return nil, err
	}
	if deps.Logger == nil {
		deps.Logger = slog.Default()
	}
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	policy := RecordPolicy(deps.Results, deps.Attempt)
	apps := newAppTable(deps.Apps)
	r := &Replica{
		apps: apps, recheckCredentials: make(chan struct{}, 1), templateApps: make(chan struct{}, 1),
		id: heartbeat.NewID(), shutdownTimeout: cfg.ShutdownTimeout, unlisted: deps.Unlisted,
		rdb: deps.Redis, log: deps.Logger, background: background.NewGroup(),
	}
	r.beater = heartbeat.NewBeater(r.rdb, heartbeat.Worker, r.id, r.load, r.log)
	if !r.unlisted {
		r.series = series.NewRecorder(r.rdb, r.log)
	}
	outcomes, err := dispatch.Outcomes(deps.Registry)
	if err != nil {
		return nil, err
	}
	hook, metrics := gate.NewHook(deps.Redis, gate.WithRetention(deps.Results.AsynqRetention)), newMetrics(outcomes)
	book := ledger.New(deps.Redis, policy)
	kinds := templates.NewCache(deps.Redis, nil)
	r.dispatcher = dispatch.New(dispatch.Deps{
		Redis: deps.Redis, WeChat: deps.WeChat, Limiter: deps.Limiter, Logger: deps.Logger, Replica: r.id, Tracer: deps.Tracer,
	})
	r.consents = consent.NewChecker(consent.CheckerDeps{
		Store: consent.NewStore(deps.Redis, deps.Clock), Counts: consent.NewRecorder(deps.Redis, deps.Logger, nil), KindOf: kinds.Kind,
		Hold: policy.DeadAfter, PushDelay: consent.PushDelay, OnCheck: r.dispatcher.Metrics.CountConsent, Log: deps.Logger, Now: deps.Clock,
	})
	r.deliverer = newDeliverer(delivererDeps{
		replica: r.id, apps: apps, attempts: cfg.Attempts, results: deps.Results,
		rdb: deps.Redis, ledger: book, dispatcher: r.dispatcher, media: newMediaFetcher(cfg.MediaHosts, deps.Attempt),
		templates: kinds,
		hooks:     hooks, tracer: deps.Tracer, metrics: metrics, series: r.series, background: r.background,
		consents: r.consents, log: deps.Logger, now: deps.Clock, callbackTimeout: tasks.CallbackTimeout,
	})
	if deps.Unlisted && !deps.Callbacks {
		r.deliverer.callbackTimeout = 0
	}
	r.servers = &laneServers{rdb: deps.Redis, hook: hook, shutdownTimeout: cfg.ShutdownTimeout, log: deps.Logger}
	r.fleet = newFleet(fleetDeps{
		apps: apps, rdb: deps.Redis, limiter: deps.Limiter, holdStore: hold.NewStore(deps.Redis), dispatcher: r.dispatcher,
		servers: r.servers, deliverer: r.deliverer, log: deps.Logger,
	})
	r.sweeper = newSweeper(sweeperDeps{
		replica: r.id, rdb: deps.Redis, ledger: book, log: deps.Logger, onEnded: r.deliverer.ended,
		deadAfter: policy.DeadAfter, retention: policy.Retention,
	})
	if deps.Registry != nil {
		if err := register(deps.Registry, append(metrics.collectors(), newStateCollector(r.fleet))...); err != nil {
			return nil, err
		}
		if err := r.dispatcher.Metrics.Register(deps.Registry); err != nil {
			return nil, fmt.Errorf("register the metrics: %w", err)
		}
	}
	r.rdb.AddHook(hook)
	return r, nil
}

// Ready reports whether the replica takes work: it has polled the queues, and is not
// shutting down.
func (r *Replica) Ready() bool { return r.fleet.polled.Load() && !r.draining.Load() }

// ErrShutdownTimeout means that attempts were still under way after Config.ShutdownTimeout.
// Their tasks are retried when their leases expire. The process should exit then, without
// closing the Redis client, which asynq still uses.
var ErrShutdownTimeout = errors.New("worker: shutdown timed out")

// Run delivers tasks until ctx ends. Then it dequeues no more, and returns nil when the calls
// in flight have finished, or ErrShutdownTimeout.
func (r *Replica) Run(ctx context.Context) error {
	r.log.Info("worker started", slog.String("replica", r.id), slog.Int("apps", len(r.apps.all())))
	done := make(chan struct{})
	r.background.Go(func(lifetime context.Context) {
		sweep, end := context.WithCancel(lifetime)
		defer end()
		defer context.AfterFunc(ctx, end)()
		r.sweeper.run(sweep)
	})
	r.background.Go(r.deliverer.rejected.run)
	defer r.deliverer.rejected.flush() // the deliveries have ended, or are given up
	r.background.Go(r.recheckHeldApps)
	r.background.Go(func(lifetime context.Context) {
		refresh.New(r.rdb, r.fetchTemplates, r.log, nil).Run(lifetime, r.apps.templateApps, r.templateApps)
	})
	r.background.Go(r.consents.Run)
	if !r.unlisted {
		r.background.Go(func(lifetime context.Context) { r.beater.Run(lifetime, ctx.Done()) })
		r.background.Go(r.series.Run)
	}
	go func() {
		defer close(done)
		if !r.unlisted {
			r.servers.register()
		}
		r.fleet.run(ctx)
		r.closeAll()
	}()
	<-ctx.Done()
	r.draining.Store(true)
	for _, l := range r.fleet.snapshot() {
		l.gate.Close() // do not wait for the fleet, which may wait for a Redis that hangs
	}
	select {
	case <-done:
		r.log.Info("worker stopped", slog.String("replica", r.id))
		return nil
	case <-time.After(r.shutdownTimeout):
		r.series.Flush(context.WithoutCancel(ctx))
		return ErrShutdownTimeout
	}
}

// closeAll closes all lanes, waits for their handlers, and then stops the goroutines.
func (r *Replica) closeAll() {
	var all sync.WaitGroup
	for _, l := range r.fleet.snapshot() {
		all.Go(l.stop)
	}
	all.Wait() // before any server stops: the prefetched tasks of all lanes need handlers
	for _, l := range r.fleet.snapshot() {
		all.Go(l.shutdown)
	}
	all.Wait()
	r.fleet.closing.Wait()
	r.servers.unregister()
	r.servers.pool.Stop() // before background: deliveries start goroutines there
	r.deliverer.close()
	r.background.Close()
	r.deliverer.templates.Close()
	r.dispatcher.Close()
}
