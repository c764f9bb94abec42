// Package api is the gateway's own HTTP API, under /v1. The operations of a group are in one
// file: tasks.go, batch.go, … They translate between HTTP and the packages that do the work, and
// hold no rules of their own. The OpenAPI document at /openapi.json is made from their Go types.
//
// An operation is registered with [register], which checks the scope of the request's key and
// answers errors as problems:
//
//	register(a, apikey.Read, huma.Operation{…}, func(ctx context.Context, in *…) (*…, error) {…})
package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// App is a configured app.
type App struct {
	ID    string
	Hours inspect.Hours // when its tasks may be sent; nil: at any time
	// OnlyOpenIDs: when set, messages to others are not sent.
	OnlyOpenIDs []string
	// Receipts: WeChat pushes the receipts of its messages.
	Receipts bool
	Consent  string // worker.ConsentOff (also ""), worker.ConsentObserve or worker.ConsentEnforce
}

// Deps are the dependencies of an API. All are required.
type Deps struct {
	Redis     redis.UniversalClient
	Tasks     *tasks.Client
	Inspector *tasks.Inspector
	Reader    *inspect.Reader
	Holds     *hold.Store
	Tokens    *wechat.Tokens
	Apps      func() []App // the configured apps, now
	// SyncPauses shows the holds of an app in asynq's pauses, and AskQuotas asks WeChat how much
	// of some quotas of an app is used, and learns the answers.
	SyncPauses func(ctx context.Context, app string) error
	AskQuotas  func(ctx context.Context, app string, types []string) error
	// RefreshTemplates asks WeChat for the message templates of an app. The error is refresh.ErrBusy or
	// one of Redis.
	RefreshTemplates func(ctx context.Context, app string) (*templates.Registry, error)
	Log              *slog.Logger
}

// API serves the operations. Create it with New.
type API struct {
	Deps
	mux  *http.ServeMux
	huma huma.API

	apps      atomic.Pointer[appSet]
	away      awayLog
	submitter *submitter
	followers *followers

	resultReader   *resultlog.Reader
	resultFollower *resultlog.Follower
	streamTimes    streamTimes
	newApps        appList

	background *background.Group
	ending     chan struct{} // closed by EndWaits
	endWaits   func()
}

// New creates an API. It does no I/O. The requests that it serves have their key in the context,
// see package apikey.
func New(deps Deps) *API {
	a := &API{Deps: deps, mux: http.NewServeMux(), background: background.NewGroup(), ending: make(chan struct{})}
	a.endWaits = sync.OnceFunc(func() { close(a.ending) })
	a.submitter = newSubmitter(a.background, deps.Tasks.SubmitMany)
	a.followers = newFollowers(a.background, deps.Redis, deps.Inspector)
	a.resultReader = resultlog.NewReader(deps.Redis, deps.Log)
	a.resultFollower, a.streamTimes = resultlog.NewFollower(deps.Redis, deps.Log), defaultStreamTimes()
	useProblems()
	a.huma = humago.New(a.mux, config())
	for _, register := range []func(){
		a.registerTasks, a.registerBatch, a.registerResults, a.registerResultStream, a.registerBatches,
		a.registerFind, a.registerSeries, a.registerReceiptSeries, a.registerRedrives, a.registerLanes, a.registerHolds, a.registerTemplates, a.registerConsents, a.registerAudit, a.registerToken,
		a.registerDocs,
	} {
		register()
	}
	a.mux.HandleFunc("/", a.unknownPath)
	return a
}

// securityScheme is the name of the key in the OpenAPI document.
const securityScheme = "key"

// config returns huma's configuration.
func config() huma.Config {
	c := huma.DefaultConfig("wxcourier", buildinfo.Version())
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", "" // see registerDocs
	c.CreateHooks = nil                                   // no $schema in the answers
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Enqueues tasks for WeChat's server API, and tells what became of them."
	c.Formats = map[string]huma.Format{"application/json": jsonFormat(), "json": jsonFormat()}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{securityScheme: { //nolint:gosec // the form of a key is none
		Type: "http", Scheme: "bearer", BearerFormat: "wxc_<id>_<secret>",
		Description: "A key of `wxcourier key new`. A gateway without keys serves its own machine only, and needs none.",
	}}
	return c
}

// jsonFormat is JSON as huma writes it, except that a client that has gone is no error: huma
// would panic.
func jsonFormat() huma.Format {
	return huma.Format{
		Marshal: func(w io.Writer, v any) error {
			sink := &answerWriter{w: w}
			encoder := json.NewEncoder(sink)
			encoder.SetEscapeHTML(false)
			return encoder.Encode(v)
		},
		Unmarshal: json.Unmarshal,
	}
}

// answerWriter ignores the errors of a connection.
type answerWriter struct{ w io.Writer }

// Write implements io.Writer.
func (a *answerWriter) Write(p []byte) (int, error) {
	_, _ = a.w.Write(p)
	return len(p), nil
}

// register adds an operation that requires a scope. The handler checks the apps that the request
// names with require. It may return any error, see problemOf.
func register[I, O any](a *API, scope apikey.Scope, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Security = []map[string][]string{{securityScheme: {string(scope)}}}
	op.Middlewares = append(huma.Middlewares{requireScope(scope)}, op.Middlewares...)
	op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests,
		http.StatusServiceUnavailable)
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.problemOf(ctx, err)
		}
		return out, nil
	})
}

// unknownPath answers requests for which there is no operation.
func (a *API) unknownPath(w http.ResponseWriter, r *http.Request) {
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := a.mux.Handler(other); pattern != "/" && method != r.Method {
			w.Header().Add("Allow", method)
		}
	}
	if w.Header().Get("Allow") != "" {
		problem.New(http.StatusMethodNotAllowed, "the path does not take this method; see the header Allow").Write(w)
		return
	}
	problem.New(http.StatusNotFound, "no such path; /openapi.json describes all").Write(w)
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		w.Header().Set("Cache-Control", "no-store")
	}
	a.mux.ServeHTTP(w, r)
}

// EndWaits answers all requests that wait for something, now and from now on, as if their time
// were over. Call it before the server waits for its requests.
func (a *API) EndWaits() { a.endWaits() }

// Close ends what runs in the background. All requests must have ended.
func (a *API) Close() {
	a.endWaits()
	a.resultFollower.Close()
	a.background.Close()
}
