// Package proxy answers under /wechat/ what api.weixin.qq.com answers, so that a service with any
// SDK gets the shared token, the pace and the holds by changing one base URL.
//
//   - Where WeChat wants the app's secret, a client sends a key of the gateway. In place of an access
//     token it gets a ticket, which only the gateway takes (tickets.go, login.go).
//   - Every other path is a call. A [Caller] makes it like a lane of a worker: hold → token →
//     permit → call → class → feedback (caller.go). The answer comes back byte for byte.
//   - The consent of the receiver of a subscribe message is checked before the call, and the answer
//     counts for it, as in a worker (consent.go).
//   - A message with an Idempotency-Key, or one that is only to be enqueued, is a task of its app
//     (idempotent.go, enqueue.go).
//
// What the gateway itself answers has WeChat's form and a code that SDKs know; its errmsg names
// wxcourier (refusal.go). No query, ticket, key, openid, session key or phone number is logged.
package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/signing"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Config configures a Proxy.
type Config struct {
	Wait time.Duration // for a permit
}

// Keys are the keys of the gateway.
type Keys interface {
	// Authenticate returns the key that a text is, or an error.
	Authenticate(key string) (*apikey.Key, error)
	// Get returns the key with an id, unless it was revoked or has expired.
	Get(id string) (*apikey.Key, bool)
}

// App is the configuration of an app.
type App struct {
	OnlyOpenIDs []string // when set, messages to others are not sent
	Receipts    bool     // WeChat pushes the receipts of messages
	Consent     consent.Mode
}

// Deps are the dependencies of a Proxy. All but Keys, Registry, Tracer and CountOutcome are required.
type Deps struct {
	Redis    redis.UniversalClient
	Tasks    *tasks.Client
	Limiter  *ratelimit.Limiter
	WeChat   *wechat.Client
	Tokens   *wechat.Tokens
	Keys     Keys                                       // nil: there are none, and every client has the key of apikey.Local
	App      func(id string) (app App, configured bool) // the configuration of an app, now
	Policy   ledger.Policy                              // of the records of tasks, as the workers have it
	Registry prometheus.Registerer                      // of the metrics of the calls; nil: recorded, not exported
	Log      *slog.Logger
	Tracer   trace.Tracer // makes spans of the calls; nil: none

	// CountOutcome is called once for each message with an Idempotency-Key whose outcome was recorded.
	CountOutcome func(r tasks.Result)
}

// Proxy serves WeChat's own paths. Create it with New.
type Proxy struct {
	deps    Deps
	keys    Keys
	tickets *tickets
	caller  *Caller
	ledger  *ledger.Ledger

	kinds    *templates.Cache // of message templates
	consents *consent.Checker
}

// New creates a Proxy. It does no I/O.
func New(cfg Config, deps Deps) (*Proxy, error) {
	caller, err := NewCaller(cfg.Wait, CallerDeps{
		Redis: deps.Redis, Limiter: deps.Limiter, WeChat: deps.WeChat, Registry: deps.Registry, Log: deps.Log,
		Tracer: deps.Tracer,
	})
	if err != nil {
		return nil, err
	}
	if deps.CountOutcome == nil {
		deps.CountOutcome = func(tasks.Result) {}
	}
	p := &Proxy{
		deps: deps, keys: deps.Keys, caller: caller,
		tickets: &tickets{secret: signing.New(deps.Redis, ticketKey), now: time.Now}, ledger: ledger.New(deps.Redis, deps.Policy),
	}
	if p.keys == nil {
		p.keys = openKeys{}
	}
	p.kinds = templates.NewCache(deps.Redis, nil)
	p.consents = newChecker(deps, p.kinds, caller.dispatcher.Metrics.CountConsent)
	return p, nil
}

// Run writes the counts of the checks of consent, until ctx ends.
func (p *Proxy) Run(ctx context.Context) { p.consents.Run(ctx) }

// Close ends what runs in the background. All requests must have ended.
func (p *Proxy) Close() {
	p.consents.Counts.Flush(context.Background()) // of requests that ended after Run
	p.kinds.Close()
	p.caller.Close()
}

// openKeys are the keys of a gateway without any, which only this machine can reach.
type openKeys struct{}

func (openKeys) Authenticate(string) (*apikey.Key, error) { return apikey.Local(), nil }
func (openKeys) Get(id string) (*apikey.Key, bool) {
	local := apikey.Local()
	return local, id == local.ID
}

// redisTimeout bounds a call to Redis.
const redisTimeout = 3 * time.Second

// The paths that the gateway answers itself, or with the app's secret.
const (
	pathToken       = string(wechat.EndpointToken)
	pathStableToken = string(wechat.EndpointStableToken)
	pathSession     = "/sns/jscode2session"
)

// ServeHTTP implements http.Handler. The path is WeChat's.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var err error
	switch at := r.URL.Path; {
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		err = errMethod
	case r.URL.RawPath != "" || path.Clean(at) != at || at == "/":
		err = errPath
	case at == pathToken || at == pathStableToken:
		err = p.serveTicket(w, r)
	case at == pathSession:
		err = p.serveSession(w, r)
	default:
		err = p.serveCall(w, r)
	}
	if err == nil {
		return
	}
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		p.deps.Log.Warn("a request to WeChat's paths failed", slog.Any("err", err))
		refusal = errRedis
	}
	refusal.write(w)
}

// serveCall passes a call on to WeChat.
func (p *Proxy) serveCall(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	app, key, err := p.redeem(r.Context(), query.Get("access_token"))
	if err != nil {
		return err
	}
	query.Del("access_token")
	endpoint, err := p.admit(key, r.URL.Path)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, key)
	if err != nil {
		return err
	}
	if !p.mayReceive(app, endpoint, body) {
		return errReceiver
	}
	request := Request{App: app, Path: r.URL.Path, Method: r.Method, Query: query, ContentType: r.Header.Get("Content-Type"), Body: body}
	switch {
	case endpoint.task() && prefersAsync(r.Header):
		return p.enqueue(w, r, endpoint, request)
	case endpoint.message() && r.Header.Get("Idempotency-Key") != "":
		return p.sendOnce(w, r, endpoint, request)
	}
	a := p.send(r.Context(), endpoint, request)
	if a.refusal != nil {
		return a.refusal
	}
	writeAnswer(w, a.answer)
	return nil
}

// mayReceive reports whether the app's configuration allows a request to reach its receiver.
func (p *Proxy) mayReceive(app string, e endpoint, body []byte) bool {
	configured, _ := p.deps.App(app)
	if len(configured.OnlyOpenIDs) == 0 || !e.reachesPerson() {
		return true
	}
	receiver := tasks.Envelope{Type: e.spec.Type, Body: body}.Receiver()
	return slices.Contains(configured.OnlyOpenIDs, receiver)
}

// redeem returns the app and the key of a ticket.
func (p *Proxy) redeem(ctx context.Context, text string) (app string, key *apikey.Key, err error) {
	if text == "" {
		return "", nil, errNoTicket
	}
	t, err := p.tickets.open(ctx, text)
	if err != nil {
		return "", nil, err
	}
	key, ok := p.keys.Get(t.key)
	switch {
	case !ok || key.Fingerprint != t.fingerprint:
		return "", nil, errTicketRevoked
	}
	if _, ok := p.deps.App(t.app); !ok {
		return "", nil, errTicketApp
	}
	return t.app, key, check(key, t.app)
}

// check returns a refusal unless a key may call WeChat for an app.
func check(key *apikey.Key, app string) error {
	switch {
	case !key.Allows(apikey.Call):
		return errScope
	case !key.AllowsApp(app):
		return errApp
	}
	return nil
}

// admit returns the endpoint of a path, if the key may call it now.
func (p *Proxy) admit(key *apikey.Key, at string) (endpoint, error) {
	e := endpointOf(at)
	if !e.listed() && !matches(key.Paths, at) {
		return e, errPathNotAllowed
	}
	if _, ok := key.Admit(); !ok {
		return e, errKeyRate
	}
	return e, nil
}

// matches reports whether a path matches one of the patterns.
func matches(patterns []string, at string) bool {
	for _, pattern := range patterns {
		if ok, err := path.Match(pattern, at); ok && err == nil {
			return true
		}
	}
	return false
}

// writeAnswer writes WeChat's answer as it came.
func writeAnswer(w http.ResponseWriter, answer wechat.RawAnswer) {
	for _, name := range []string{"Content-Type", "Content-Disposition"} {
		if v := answer.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	write(w, answer.Status, answer.Body)
}

// writeJSON writes an answer of the gateway's own.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // of the types of this package: cannot happen
		body, status = []byte(`{"errcode":-1,"errmsg":"system error (wxcourier)"}`), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	write(w, status, body)
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}
