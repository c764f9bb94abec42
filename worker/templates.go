package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/templates/refresh"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Templates says what is done with the message templates of an app. A replica asks WeChat for them only
// where something is.
type Templates struct {
	Check string // what enqueuing does about a message that does not fit its template: "off" (or ""), "warn" or "reject"
	Fix   bool   // enqueuing cuts a "thing" that is too long
	Fetch bool   // the kinds of the templates are needed
}

func (t Templates) mode() templates.Mode {
	return templates.Mode{Check: templates.Check(t.Check), Fix: t.Fix}.Normal()
}

// templateApps returns the apps as the refresher takes them.
func (t *appTable) templateApps() map[string]refresh.App {
	all := make(map[string]refresh.App)
	for id, app := range t.all() {
		all[id] = refresh.App{Mode: app.Templates.mode(), Fetch: app.Templates.Fetch}
	}
	return all
}

// fetchTemplates calls an endpoint with a list of templates, under the app's holds.
func (r *Replica) fetchTemplates(ctx context.Context, app string, endpoint wechat.Endpoint) (wechat.RawAnswer, error) {
	call := dispatch.Call{App: app, Endpoint: endpoint, Log: func(more ...any) []any {
		return append([]any{slog.String("app", app), slog.String("api", string(endpoint))}, more...)
	}}
	if r.dispatcher.Held(ctx, &call) {
		return wechat.RawAnswer{}, refresh.ErrHeld
	}
	if err := r.dispatcher.FetchToken(ctx, &call); err != nil {
		return wechat.RawAnswer{}, err
	}
	answer, err := r.dispatcher.SendRaw(ctx, ctx, &call, wechat.RawRequest{Path: endpoint, Method: http.MethodGet})
	var refused *wechat.APIError
	if err != nil && ctx.Err() != nil {
		return answer, fmt.Errorf("%s: %w", endpoint, err) // the replica stops
	}
	if !errors.As(err, &refused) || refused.Class() != wechat.ClassAccount { // an app has no need of both lists
		r.dispatcher.Judge(ctx, &call, dispatch.Attempt{Err: err, Repeat: tasks.Always, Budget: templateBudget, Unchecked: true})
	}
	return answer, err
}

// templateBudget is never used up: the next fetch is hours later.
const templateBudget = 1 << 30

// misfit asks for the templates of an app again after WeChat refused a message for its template or its
// data: they may have changed.
func (d *deliverer) misfit(ctx context.Context, j *job, result tasks.Result) {
	const badTemplate, badData = 40037, 47003
	if j.template == "" || result.ErrCode != badTemplate && result.ErrCode != badData {
		return
	}
	if app, ok := d.apps.get(j.App); ok && app.Templates.mode().Active() {
		d.templates.Want(ctx, j.App)
	}
}
