// Package callback receives what WeChat pushes to the callback URLs of apps: /callback/{app}, for the
// one listener that is reachable from outside.
//
//	receiver, err := callback.New(callback.Deps{Redis: rdb, Keys: keys, Handlers: handlers, Registry: registry, Log: log})
//	go receiver.Run(ctx)
//	http.ListenAndServe(":8081", receiver)
//
// A push is verified, decrypted and parsed. If wxcourier handles it (receipts, choices, media checks,
// messages to a service provider) it is stored in a stream of the app in Redis before WeChat gets its
// answer; a repetition is not stored again. Then handlers get the pushes of an app in their order, by one
// gateway at a time, which removes them afterwards: when that gateway dies, another one goes on.
//
// All other pushes have texts of persons: they are not stored, only forwarded to the user's own service
// if there is one, and its passive reply is the answer.
//
// Every request is answered within 5 s, as WeChat demands. A push that could not be stored is answered
// with status 503, and WeChat repeats it.
package callback

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Deps are the dependencies of a Receiver. Redis, Keys, Registry and Log are required.
type Deps struct {
	Redis redis.UniversalClient
	// Keys returns the keys of an app that is named in a path, now; false: there is no such app.
	Keys func(app string) (callback.Keys, bool)
	// Forward returns where the pushes of an app are forwarded to, now; false, or nil: nowhere.
	Forward func(app string) (Forward, bool)
	// Handlers get the pushes that are stored, one after the other.
	Handlers []pushes.Handler
	Registry prometheus.Registerer
	Log      *slog.Logger
	MaxAge   time.Duration // of the timestamps of requests; 0: callback.DefaultMaxAge
}

// Receiver receives pushes. Create it with New. It is a http.Handler.
type Receiver struct {
	deps       Deps
	tuning     tuning
	owner      string // of the leases
	metrics    *metrics
	mux        *http.ServeMux
	background *background.Group
	rounds     *rounds
	forwarder  *forwarder
	slots      chan struct{} // one per push that is read and stored
	forwards   chan struct{} // one per push that is forwarded
	warned     warnings
	woken      chan struct{} // something may be due

	mu     sync.Mutex
	drains map[string]*drain // guarded by mu; by app
}

// tuning is what tests change.
type tuning struct {
	answer  time.Duration // within which a push must be stored, and its forwarding answered
	body    time.Duration // for a client to send its body
	sweep   time.Duration // between two looks for what others have left
	gather  time.Duration // before the pushes of an app are handled
	lease   time.Duration // of an app's stream; exceeds handle
	handle  time.Duration // for the handlers of a batch
	backoff time.Duration // after the first error of a handler; doubles up to maxBackoff
	drop    time.Duration // after which a push that no handler takes is dropped
	keep    time.Duration // for pushes of an app that is not configured
	most    int           // entries of a stream
}

const (
	maxBackoff = 30 * time.Second
	// maxRequests is how many pushes are read and stored at a time.
	maxRequests = 2048
	// maxForwards is how many pushes are forwarded at a time: a user's service that is slow must not take
	// the slots that receipts need.
	maxForwards = 1024
)

func defaultTuning() tuning {
	return tuning{
		answer: 4 * time.Second, body: 3 * time.Second, sweep: 5 * time.Second, gather: 50 * time.Millisecond,
		lease: 20 * time.Second, handle: 15 * time.Second, backoff: time.Second, drop: time.Hour, keep: 24 * time.Hour, most: 200_000,
	}
}

// New creates a Receiver. It does no I/O.
func New(deps Deps) (*Receiver, error) { return newReceiver(deps, defaultTuning()) }

func newReceiver(deps Deps, t tuning) (*Receiver, error) {
	if deps.Redis == nil || deps.Keys == nil || deps.Registry == nil || deps.Log == nil {
		return nil, errors.New("callback: Deps needs Redis, Keys, Registry and Log")
	}
	if deps.Forward == nil {
		deps.Forward = func(string) (Forward, bool) { return Forward{}, false }
	}
	if deps.MaxAge == 0 {
		deps.MaxAge = callback.DefaultMaxAge
	}
	r := &Receiver{
		deps: deps, tuning: t, owner: rand.Text(), metrics: newMetrics(), mux: http.NewServeMux(), background: background.NewGroup(),
		slots: make(chan struct{}, maxRequests), forwards: make(chan struct{}, maxForwards), drains: make(map[string]*drain), woken: make(chan struct{}, 1),
	}
	if err := r.metrics.register(deps.Registry); err != nil {
		return nil, err
	}
	r.rounds = newRounds(r.background, store{rdb: deps.Redis, window: seenFor(deps.MaxAge), most: t.most, cut: r.cut})
	r.forwarder = newForwarder(deps, t.answer, r.metrics)
	r.mux.HandleFunc("GET /callback/{app}", r.observed(r.verifyURL))
	r.mux.HandleFunc("POST /callback/{app}", r.observed(r.receive))
	r.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return r, nil
}

// seenFor returns for how long repetitions of a push are dropped: as long as its request can be valid.
func seenFor(maxAge time.Duration) time.Duration { return 2 * maxAge }

// Run hands the stored pushes to the handlers until ctx ends.
func (r *Receiver) Run(ctx context.Context) {
	var drains sync.WaitGroup
	defer drains.Wait()
	r.run(ctx, &drains)
}

// Close ends what runs in the background. All requests must have ended.
func (r *Receiver) Close() {
	r.background.Close()
	r.forwarder.close()
}

// cut reports that a stream was longer than it may be.
func (r *Receiver) cut(app string, entries int64) {
	r.metrics.handled.WithLabelValues(app, handledCut).Add(float64(entries))
	if r.warned.first(app + " " + handledCut) {
		r.deps.Log.Error("the oldest pushes of an app were removed before they were handled: the handlers do not keep up, or fail",
			"app", app, "most", r.tuning.most)
	}
}

// warnings bounds the lines of the log about one thing to one a minute.
type warnings struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// first reports whether a thing was not logged within the last minute.
func (w *warnings) first(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if now.Sub(w.last[what]) < time.Minute {
		return false
	}
	if w.last == nil {
		w.last = make(map[string]time.Time)
	}
	w.last[what] = now
	return true
}
