package wxcouriertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/embedded"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// App is the app id of a kit whose Options name no app.
const App = "wx0123456789abcdef"

// Options configures a kit. The zero value is one app, [App], with WeChat's documented limits.
type Options struct {
	// Apps are the apps that the worker sends for; nil is App alone, at any hour. For an app with
	// Receipts the kit also receives WeChat's pushes, as a gateway does: receipts, what people chose, and
	// the verdicts of media checks. With Consent it counts the consents.
	Apps []worker.App
	// Templates are the message templates that WeChat has of an app, by app id. Messages must fit them
	// then. An app that is not named has made-up ones, and messages may use any.
	Templates map[string][]sandbox.Template
	// Limits replaces the worker's limits of each app, by task type ("send:subscribe") or group
	// ("links", "qrcode"), as `limits` does in the configuration.
	Limits map[string]ratelimit.Limit
	// Sandbox configures WeChat. Its Apps and Clock are set by the kit.
	Sandbox sandbox.Options
	// Attempts is how many attempts may fail before a task ends as failed; 0 is the default of
	// the configuration, 8.
	Attempts int
	// CallTimeout bounds a call to WeChat, in real time; 0 is 3 s. A call that gets no answer
	// takes that long.
	CallTimeout time.Duration
	// WaitTimeout bounds each wait for a result or a state, in real time; 0 is 30 s. A wait that
	// takes longer ends the test.
	WaitTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Apps == nil {
		o.Apps = []worker.App{{ID: App}}
	}
	o.Apps = slices.Clone(o.Apps)
	for i := range o.Apps {
		if app := &o.Apps[i]; countsConsents(*app) {
			app.Templates.Fetch = true // as from a configuration
		}
	}
	if o.Attempts == 0 {
		o.Attempts = worker.DefaultConfig().Attempts
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = 3 * time.Second
	}
	if o.WaitTimeout == 0 {
		o.WaitTimeout = 30 * time.Second
	}
	return o
}

// Kit is a running Redis, WeChat and worker. Its methods fail the test in place of returning an
// error, so they must be called from the test's goroutine; Now, Redis, Client and Inspector may
// be called from any.
type Kit struct {
	// WeChat is the stand-in for WeChat's server API.
	WeChat *sandbox.Server

	t         testing.TB
	opts      Options
	wechatURL string
	server    *embedded.Redis
	rdb       *redis.Client
	client    *tasks.Client
	inspector *tasks.Inspector
	ahead     atomic.Int64 // how far the clock is ahead of real time, in nanoseconds
	results   *resultList
	log       *logBuffer
	callbacks *callbacks // nil: no app has receipts

	mu      sync.Mutex
	running *replica // guarded by mu; nil while the worker is stopped
}

// Start starts a kit, which stops when the test ends. Where Options.Apps use message templates, it returns
// after the worker has read them.
func Start(t testing.TB, opts Options) *Kit {
	t.Helper()
	k := &Kit{t: t, opts: opts.withDefaults(), results: newResultList(), log: &logBuffer{}}
	if err := ratelimit.ValidateLimits(k.opts.Limits); err != nil {
		t.Fatalf("wxcouriertest: Options.Limits: %v", err)
	}
	server, err := embedded.Start()
	if err != nil {
		t.Fatalf("wxcouriertest: %v", err)
	}
	k.server = server
	k.rdb = k.newRedis()
	k.client, k.inspector = tasks.NewClient(k.rdb), tasks.NewInspector(k.rdb)

	wx := k.opts.Sandbox
	wx.Clock, wx.Apps = k.Now, make(map[string]string, len(k.opts.Apps))
	for _, app := range k.opts.Apps {
		wx.Apps[app.ID] = appSecret
	}
	k.WeChat = sandbox.New(wx)
	var stopWeChat func()
	k.wechatURL, stopWeChat = k.WeChat.Start()
	k.callbacks, err = k.startCallbacks(slog.New(slog.NewTextHandler(k.log, nil)))
	err = errors.Join(err, k.setTemplates())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(k.report())
		}
		stopWeChat() // first, since it ends calls that hang
		if err := k.stopWorker(); err != nil {
			t.Errorf("wxcouriertest: stop the worker: %v", err)
		}
		k.callbacks.stop()
		k.client.Close()
		_ = k.rdb.Close()
		k.server.Close()
	})
	if err != nil {
		t.Fatalf("wxcouriertest: %v", err)
	}
	k.StartWorker()
	if err := k.awaitTemplates(); err != nil {
		t.Fatalf("wxcouriertest: %v", err)
	}
	return k
}

func (k *Kit) newRedis() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: k.server.Addr()})
}

// RedisAddr returns the address of the Redis, as host:port, for a service that makes its own
// client.
func (k *Kit) RedisAddr() string { return k.server.Addr() }

// Redis returns a client of the Redis, which the kit closes.
func (k *Kit) Redis() redis.UniversalClient { return k.rdb }

// Client returns the client for the service under test.
func (k *Kit) Client() *tasks.Client { return k.client }

// Inspector returns an inspector, for a test that redrives or lists.
func (k *Kit) Inspector() *tasks.Inspector { return k.inspector }

// WeChatURL returns the base URL of WeChat, for a service that also calls WeChat itself, and for
// its control API under /sandbox/. The apps' secret is "secret".
func (k *Kit) WeChatURL() string { return k.wechatURL }

// StopWorker stops the worker, as a deployment does: it finishes the calls in flight, and all
// other tasks wait. It does nothing while the worker is stopped.
func (k *Kit) StopWorker() {
	k.t.Helper()
	if err := k.stopWorker(); err != nil {
		k.t.Fatalf("wxcouriertest: stop the worker: %v", err)
	}
}

// StartWorker starts the worker after [Kit.StopWorker]. It does nothing while the worker runs.
func (k *Kit) StartWorker() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running != nil {
		return
	}
	r, err := k.newReplica()
	if err != nil {
		k.t.Fatalf("wxcouriertest: %v", err)
	}
	k.running = r
}

func (k *Kit) stopWorker() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running == nil {
		return nil
	}
	err := k.running.stop()
	k.running = nil
	return err
}

// WaitState waits until a task has a state: until its first attempt has failed
// (tasks.StateRetrying), for example. It fails the test after Options.WaitTimeout.
func (k *Kit) WaitState(app, id string, state tasks.State) {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), k.opts.WaitTimeout)
	defer cancel()
	last := "it is not known"
	for {
		r, err := k.client.Result(ctx, app, id)
		switch {
		case err == nil && r.State == state:
			return
		case err == nil && r.State == tasks.StateDone:
			k.t.Fatalf("wxcouriertest: %s is done (%s), and will not be %s", id, r.Outcome, state)
		case err == nil:
			last = fmt.Sprintf("it is %s", r.State)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			k.t.Fatalf("wxcouriertest: %s was not %s within %v: %s", id, state, k.opts.WaitTimeout, last)
		}
	}
}
