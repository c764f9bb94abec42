package api

import (
	"context"
	"net/http"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// require returns a problem unless the key of the request has a scope and may use an app; an
// empty app is not checked.
func require(ctx context.Context, scope apikey.Scope, app string) error {
	key := apikey.FromContext(ctx)
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
