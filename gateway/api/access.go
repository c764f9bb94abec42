package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// require returns a problem unless the key of the request has a scope and may use an app; an
// empty app is not checked.
func require(ctx context.Context, scope apikey.Scope, app string) error {
	if p := missing(apikey.FromContext(ctx), scope, app); p != nil {
		return p
	}
	return nil
}

func missing(key *apikey.Key, scope apikey.Scope, app string) *problem.Problem {
	switch {
	case key == nil:
		return problem.New(http.StatusUnauthorized, "a key is required")
	case !key.Allows(scope):
		return problem.New(http.StatusForbidden, "the key does not have the scope "+string(scope))
	case app != "" && !key.AllowsApp(app):
		return problem.New(http.StatusForbidden, "the key may not use this app")
	}
	return nil
}

// requireScope refuses requests whose key does not have a scope, before anything of them is read.
func requireScope(scope apikey.Scope) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		if p := missing(apikey.FromContext(ctx.Context()), scope, ""); p != nil {
			writeProblem(ctx, p)
			return
		}
		next(ctx)
	}
}

// appsFresh is how long the configured apps are remembered: Deps.Apps may copy a thousand of them.
const appsFresh = time.Second

// appSet is the configured apps at one time.
type appSet struct {
	byID map[string]App
	at   time.Time
}

// app returns a configured app; ok is false if there is none of this id.
func (a *API) app(id string) (_ App, ok bool) {
	set := a.apps.Load()
	if set == nil || time.Since(set.at) >= appsFresh {
		set = &appSet{byID: make(map[string]App), at: time.Now()}
		for _, app := range a.Apps() {
			set.byID[app.ID] = app
		}
		a.apps.Store(set)
	}
	app, ok := set.byID[id]
	return app, ok
}

// admit returns a problem if tasks may not be enqueued for an app: the key may not use it, or no
// worker has its credentials, so that the tasks would wait for ever.
func (a *API) admit(ctx context.Context, app string) error {
	if err := require(ctx, apikey.Enqueue, app); err != nil {
		return err
	}
	if _, ok := a.app(app); !ok {
		return problem.New(http.StatusUnprocessableEntity, "the app is not configured",
			problem.Fault{Location: "app", Message: "not a configured app; add it under apps in the configuration of the gateway and the workers"})
	}
	return nil
}
