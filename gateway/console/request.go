package console

import (
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// request is a request of a page.
type request struct {
	*http.Request
	console *Console
	key     *apikey.Key
	lang    language
	now     time.Time
}

func (c *Console) newRequest(r *http.Request) *request {
	return &request{Request: r, console: c, key: apikey.FromContext(r.Context()), lang: languageOf(r), now: time.Now()}
}

// require returns a fault unless the key of the session has a scope and may use an app; an empty
// app is not checked.
func (r *request) require(scope apikey.Scope, app string) error {
	switch {
	case !r.key.Allows(scope):
		return faultf(http.StatusForbidden, "fault.scope", string(scope))
	case app != "" && !r.key.AllowsApp(app):
		return faultf(http.StatusForbidden, "fault.app", app)
	}
	return nil
}

// apps returns the ids of the configured apps that the key may use.
func (r *request) apps() []string {
	var ids []string
	for _, app := range r.console.Apps() {
		if r.key.AllowsApp(app.ID) {
			ids = append(ids, app.ID)
		}
	}
	return ids
}

func apikeyScope(scope string) apikey.Scope { return apikey.Scope(scope) }
