// Package worker is one replica of the delivery worker. It drains the queues of the
// apps it has credentials for through WeChat's server API, at the pace that WeChat
// allows, and records one outcome for each task. Any number of replicas may share a
// Redis.
//
// A replica has a lane for each (app, type) that has work, with its own queues, concurrency
// and permits, so that no queue holds up another. The lanes share a few asynq servers:
// however many there are, a replica has some connections to Redis. Each task goes through
// one straight pipeline, in deliver.go; what an answer means is in package wechat, what is
// done about it in verdict.go.
//
// What WeChat refuses for longer, or an operator stops, is held for all replicas: held
// lanes close until the hold ends, and asynq's pause keys show it ([Mirror]). [Hours] keep
// an app's tasks out of the night, and the limits that WeChat tells are kept where they
// are lower than those that are configured.
//
//	replica, err := worker.New(cfg, worker.Parts{Redis: rdb, WeChat: client, Apps: apps, …}, worker.Hooks{})
//	…
//	err = replica.Run(ctx) // until ctx ends; then it finishes what is in hand
package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// App is an app that a replica sends for.
type App struct {
	ID          string
	OnlyOpenIDs []string // when set, a message to anybody else ends rejected, reason "staging"
	Hours       Hours    // when its tasks may be sent; at any time where it says nothing
}

// Parts is what a replica is made of. All but Logger and Registry are required.
type Parts struct {
	Redis    redis.UniversalClient // the replica's own: New adds a hook to it; close it after Run, unless that returned ErrShutdownTimeout
	WeChat   *wechat.Client
	Limiter  *ratelimit.Limiter
	Apps     []App
	Results  ResultsConfig
	Attempt  time.Duration         // the bound of one attempt, as WeChat's client has it
	Logger   *slog.Logger          // default: slog.Default()
	Registry prometheus.Registerer // default: metrics are kept, and shown to nobody
}

// Replica is one worker replica. See New.
type Replica struct {
	cfg           Config
	hooks         Hooks
	log           *slog.Logger
	id            string
	apps          map[string]App
	rdb           redis.UniversalClient
	hook          *redisHook
	wechat        *wechat.Client
	mediaClient   *http.Client
	limiter       limiter
	ledger        *ledger.Ledger
	receivers     *receiverLocks
	templateHolds templateHolds
	loggedHolds   loggedHolds
	breakers      breakers
	tokenChecks   sync.Map // app → *tokenCheck
	unlisted      unlistedCodes
	loggedHours   loggedHours
	learner       *learner
	recovery      *paceRecovery
	now           func() time.Time // what hours and expiry go by
	runs          atomic.Int64     // numbers the runs, for newRunner
	metrics       *metrics
	fleet         *fleet
	servers       *laneServers
	sweeper       *sweeper

	background *background // what runs beside the lanes
	pool       workerPool
	closing    sync.WaitGroup // lanes that close while the replica runs
	polled     atomic.Bool    // the queues were looked at once
	draining   atomic.Bool    // no more work is taken
}

// lostLimit is how many runs of one task may die before it ends: a task that kills its
// process must not kill all of them.
const lostLimit = 3

// deadMargin is how much longer than an attempt a runner may be silent before it is
// held to be dead.
const deadMargin = 30 * time.Second

// DeadAfter is how long a run may say nothing before it is held to be dead, where an attempt
// takes up to attempt.
func DeadAfter(attempt time.Duration) time.Duration { return attempt + deadMargin }

// New checks and joins the parts. It does no I/O.
func New(cfg Config, parts Parts, hooks Hooks) (*Replica, error) {
	if err := errors.Join(cfg.Validate(), parts.Results.Validate()); err != nil {
		return nil, err
	}
	if parts.Redis == nil || parts.WeChat == nil || parts.Limiter == nil || parts.Attempt <= 0 {
		return nil, errors.New("worker: Parts needs Redis, WeChat, Limiter and Attempt")
	}
	if cfg.ShutdownTimeout <= parts.Attempt {
		return nil, fmt.Errorf("worker.shutdown_timeout: %v must exceed wechat.attempt_timeout (%v), or a shutdown breaks off attempts", cfg.ShutdownTimeout, parts.Attempt)
	}
	for _, app := range parts.Apps {
		if err := app.Hours.Validate(); err != nil {
			return nil, fmt.Errorf("worker: hours of %s: %w", app.ID, err)
		}
	}
	if parts.Logger == nil {
		parts.Logger = slog.Default()
	}
	policy := ledger.Policy{
		Retention: parts.Results.Retention, StreamMax: parts.Results.StreamMaxLen,
		DeadAfter: DeadAfter(parts.Attempt), LostLimit: lostLimit,
	}
	r := &Replica{
		cfg: cfg, hooks: hooks, log: parts.Logger, id: strings.ToLower(rand.Text()[:10]),
		apps: make(map[string]App, len(parts.Apps)),
		rdb:  parts.Redis, hook: newRedisHook(parts.Redis), wechat: parts.WeChat,
		mediaClient: newMediaClient(parts.Attempt), ledger: ledger.New(parts.Redis, policy),
		now: time.Now, background: newBackground(),
	}
	for _, app := range parts.Apps {
		r.apps[app.ID] = app
	}
	r.receivers = newReceiverLocks(r.recallDeferred)
	r.limiter = limiter{Limiter: parts.Limiter, log: r.log}
	r.learner = newLearner(r)
	r.recovery = newPaceRecovery(r)
	r.templateHolds.lookup = r.limiter.HoldFor
	r.servers = &laneServers{replica: r}
	r.fleet = newFleet(r)
	r.sweeper = newSweeper(r, policy.DeadAfter, policy.Retention)
	r.metrics = newMetrics(r)
	if parts.Registry != nil {
		if err := r.metrics.register(parts.Registry); err != nil {
			return nil, err
		}
	}
	r.rdb.AddHook(r.hook)
	return r, nil
}

// Ready tells whether the replica takes work: it has seen the queues, and is not
// shutting down.
func (r *Replica) Ready() bool { return r.polled.Load() && !r.draining.Load() }

// newRunner names a run: no two runs of any replica share a name.
func (r *Replica) newRunner() string {
	return r.id + "-" + strconv.FormatInt(r.runs.Add(1), 10)
}

// ErrShutdownTimeout says that attempts were still under way when the time for a
// shutdown was up. Their tasks come back when their leases expire. End the process then,
// and leave the Redis client open: asynq still uses it.
var ErrShutdownTimeout = errors.New("worker: not everything in hand was finished in time")

// Run takes and delivers tasks until ctx ends. Then it takes no more, finishes what is
// in hand, and returns: nil, or ErrShutdownTimeout.
func (r *Replica) Run(ctx context.Context) error {
	r.log.Info("worker started", slog.String("replica", r.id), slog.Int("apps", len(r.apps)))
	done := make(chan struct{})
	r.background.Go(func(life context.Context) {
		sweep, end := context.WithCancel(life)
		defer end()
		defer context.AfterFunc(ctx, end)()
		r.sweeper.run(sweep)
	})
	go func() {
		defer close(done)
		r.fleet.run(ctx)
		r.closeAll()
	}()
	<-ctx.Done()
	r.draining.Store(true)
	for _, l := range r.fleet.snapshot() {
		l.gate.close() // at once: the fleet may be waiting for a Redis that hangs
	}
	select {
	case <-done:
		r.log.Info("worker stopped", slog.String("replica", r.id))
		return nil
	case <-time.After(r.cfg.ShutdownTimeout):
		return ErrShutdownTimeout
	}
}

func (r *Replica) closeAll() {
	var all sync.WaitGroup
	for _, l := range r.fleet.snapshot() {
		all.Go(l.stop)
	}
	all.Wait() // before any server ends: the tasks of all lanes get to their handlers
	for _, l := range r.fleet.snapshot() {
		all.Go(l.shutdown)
	}
	all.Wait()
	r.closing.Wait()
	r.pool.stop() // before what deliveries begin beside themselves
	r.receivers.close()
	r.background.close()
	r.mediaClient.CloseIdleConnections()
}
