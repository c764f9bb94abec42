// Package api is the gateway's own HTTP API, under /v1. The operations of a group are in one
// file: tasks.go, … They translate between HTTP and the packages that do the work, and hold no
// rules of their own. The OpenAPI document at /openapi.json is made from their Go types.
package api

import (
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// App is a configured app.
type App struct {
	ID    string
	Hours inspect.Hours // when its tasks may be sent; nil: at any time
	// OnlyOpenIDs: when set, messages to others are not sent.
	OnlyOpenIDs []string
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
	Log       *slog.Logger
}

// API serves the operations. Create it with New.
type API struct {
	Deps
	mux  *http.ServeMux
	huma huma.API
}

// New creates an API. It does no I/O. The requests that it serves have their key in the context,
// see package apikey.
func New(deps Deps) *API {
	a := &API{Deps: deps, mux: http.NewServeMux()}
	config := huma.DefaultConfig("wxcourier", buildinfo.Version())
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "/openapi", "", ""
	config.CreateHooks = nil // no $schema in the answers
	config.RejectUnknownQueryParameters = true
	useProblems()
	a.huma = humago.New(a.mux, config)
	for _, register := range []func(){a.registerTasks} {
		register()
	}
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.mux.ServeHTTP(w, r) }

// Close ends what runs in the background. All requests must have ended.
func (a *API) Close() {}
