package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	app    = "wx0123456789abcdef"
	secret = "s3cr3t-0123456789abcdef"
)

// A rig has a WeChat sandbox, a Redis and a producer. Its methods start replicas.
type rig struct {
	t         *testing.T
	addr      string // of Redis
	url       string // of WeChat
	wx        *sandbox.Server
	client    *tasks.Client
	inspector *tasks.Inspector
	rdb       redis.UniversalClient
	log       *lockedBuffer
	config    worker.Config
	results   worker.ResultsConfig
	wechat    wechat.Config
	pace      ratelimit.Config
	only      []string
	consent   string  // of app
	reserve   float64 // the share of a day's limit for urgent tasks
	hours     worker.Hours
	clock     func() time.Time                  // of hours and expiry; nil is time.Now
	others    []worker.App                      // apps of the replicas besides app
	limits    func() map[string]ratelimit.Limit // of all apps, where they change; else nil
	hooks     worker.Hooks
	dials     http.RoundTripper // the transport to WeChat; nil is the client's own
	tracer    trace.Tracer      // nil: no spans
	templates worker.Templates
}

// lockedBuffer collects log lines from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// onEach runs a test against miniredis and against a real Redis.
func onEach(t *testing.T, opts sandbox.Options, fn func(t *testing.T, r *rig)) {
	t.Parallel()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		m, _ := redistest.Mini(t)
		fn(t, newRig(t, m.Addr(), opts))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		fn(t, newRig(t, redistest.Start(t).Addr(), opts))
	})
}

func newRig(t *testing.T, addr string, opts sandbox.Options) *rig {
	if opts.Apps == nil {
		opts.Apps = map[string]string{app: secret}
	}
	wx := sandbox.New(opts)
	url, stop := wx.Start()
	t.Cleanup(stop)
	r := &rig{
		t: t, addr: addr, url: url, wx: wx, log: &lockedBuffer{},
		config: worker.DefaultConfig(), results: worker.DefaultResultsConfig(), wechat: wechat.DefaultConfig(), pace: ratelimit.DefaultConfig(),
	}
	r.wechat.BaseURL = url
	r.wechat.Timeout, r.wechat.AttemptTimeout = time.Second, 2*time.Second
	r.config.ShutdownTimeout = 10 * time.Second
	r.rdb = r.newRedis()
	r.client, r.inspector = tasks.NewClient(r.rdb), tasks.NewInspector(r.rdb)
	return r
}

func (r *rig) newRedis() redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{Addr: r.addr, PoolSize: 100, MaxRetries: 1})
	r.t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// A running replica.
type running struct {
	*worker.Replica
	registry *prometheus.Registry
	cancel   context.CancelFunc
	done     chan error
}

// replica starts a replica, which is stopped at the end of the test.
func (r *rig) replica(limits map[string]ratelimit.Limit) *running {
	r.t.Helper()
	return r.replicaOn(r.newRedis(), limits)
}

// replicaOn starts a replica on a Redis client.
func (r *rig) replicaOn(rdb redis.UniversalClient, limits map[string]ratelimit.Limit) *running {
	r.t.Helper()
	p, closeParts := r.unstarted(rdb, limits)
	r.start(p, closeParts)
	return p
}

// start runs a replica, which is stopped at the end of the test.
func (r *rig) start(p *running, closeParts func()) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.done <- p.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err, ok := <-p.done; ok && err != nil {
			r.t.Errorf("the replica did not stop cleanly: %v", err)
		}
		closeParts()
	})
}

// unstarted returns a replica that does not run, and a function that closes its parts.
func (r *rig) unstarted(rdb redis.UniversalClient, limits map[string]ratelimit.Limit) (*running, func()) {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	tokens := wechat.NewTokens(r.wechat, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: wechat.Secret(secret)}, true
	}, wechat.WithLogger(log))
	var opts []wechat.ClientOption
	if r.dials != nil {
		opts = append(opts, wechat.WithTransport(r.dials))
	}
	client := wechat.NewClient(r.wechat, tokens, opts...)
	limiter := ratelimit.NewLimiter(rdb, r.pace, func(string) map[string]ratelimit.Limit {
		if r.limits != nil {
			return r.limits()
		}
		return limits
	},
		ratelimit.WithReserve(func(string) float64 { return r.reserve }))
	p := &running{registry: prometheus.NewRegistry(), done: make(chan error, 1)}
	replica, err := worker.New(r.config, worker.Deps{
		Redis: rdb, WeChat: client, Attempt: r.wechat.AttemptTimeout,
		Limiter: limiter,
		Apps:    append([]worker.App{{ID: app, OnlyOpenIDs: r.only, Hours: r.hours, Templates: r.templates, Consent: r.consent}}, r.others...),
		Results: r.results, Logger: log, Registry: p.registry, Tracer: r.tracer,
	}, r.hooks)
	if err != nil {
		r.t.Fatal(err)
	}
	p.Replica = replica
	if r.clock != nil {
		worker.SetClockForTest(replica, r.clock)
	}
	return p, func() {
		_ = limiter.Close(context.Background()) // Redis may be gone
		tokens.Close()
		client.CloseIdle()
	}
}

// stop stops the replica and waits for it.
func (p *running) stop() error {
	p.cancel()
	err := <-p.done
	close(p.done)
	return err
}

// submit enqueues a task, for app where it names none.
func (r *rig) submit(e tasks.Envelope) tasks.Receipt {
	r.t.Helper()
	if e.App == "" {
		e.App = app
	}
	receipt, err := r.client.Submit(r.t.Context(), e)
	if err != nil {
		r.t.Fatalf("enqueue %s: %v", e.ID, err)
	}
	return receipt
}

// message returns a subscribe message to an openid, with the id as its text.
func message(id, openid string) tasks.Envelope {
	return tasks.Envelope{
		Type: tasks.TypeSubscribe, ID: id,
		Body: fmt.Appendf(nil, `{"touser":%q,"template_id":"T1","data":{"character_string1":{"value":%q}}}`, openid, id),
	}
}

// outcome waits for the outcome of a task.
func (r *rig) outcome(id string) tasks.Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	result, err := r.client.Wait(ctx, app, id)
	if err != nil {
		r.t.Fatalf("%s: %v (it is %s)\n%s", id, err, result.State, r.log)
	}
	return result
}
