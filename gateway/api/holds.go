package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/tasks"
)

const holdsTag = "holds"

func (a *API) registerHolds() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-holds", Method: http.MethodGet, Path: "/v1/holds", Tags: []string{holdsTag},
		Summary: "List holds",
		Description: "What stands still, why and until when: the holds in force, and the limits that are spent by our own count (`by` is `our count`; " +
			"their scope may be the bulk tasks of a type, and they end with the day or the limit).",
	}, a.listHolds)
	put := huma.Operation{
		OperationID: "set-hold", Method: http.MethodPut, Path: "/v1/holds/{app}/{scope}", Tags: []string{holdsTag},
		Summary: "Set a hold",
		Description: "Stops an app, one of its task types or one of its templates on all replicas at once, as `wxcourier hold` does. Calls in flight are finished. " +
			"Tasks of a held app or type wait; tasks of a held template end as rejected, with the reason template_held. A hold in force is never shortened.",
		Errors: bodyErrors(http.StatusNotFound, http.StatusConflict),
	}
	register(a, apikey.Operate, put, a.setHold)
	describeBody[holdRequest](a, put.OperationID, false, map[string]any{"reason": "campaign stopped by legal", "until": "2026-12-01T00:00:00Z"})
	register(a, apikey.Operate, huma.Operation{
		OperationID: "release-hold", Method: http.MethodDelete, Path: "/v1/holds/{app}/{scope}", Tags: []string{holdsTag},
		Summary: "Release a hold",
		Description: "Ends a hold of an operator or a worker, as `wxcourier release` does; where nothing was held, `released` is false. Where a quota was the cause, or is spent " +
			"by our own count, WeChat is asked for its count, and one that went down is believed. `spent` has the limits that stay spent.",
		Errors: []int{http.StatusNotFound},
	}, a.releaseHold)
}

// HoldPath is the part of an input that names what is held.
type HoldPath struct {
	AppPath
	Scope string `path:"scope" maxLength:"220" doc:"* is the whole app; else a task type, or template:ID." example:"send:subscribe"`
}

// check returns a problem for a path that names nothing that can be held.
func (p *HoldPath) check(ctx context.Context, a *API) error {
	if err := require(ctx, apikey.Operate, p.App); err != nil {
		return err
	}
	_, isType := tasks.Lookup(p.Scope)
	id, isTemplate := strings.CutPrefix(p.Scope, hold.TemplateScope(""))
	isTemplate = isTemplate && id != "" && len(id) <= maxHoldText &&
		!strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	if p.Scope != hold.WholeApp && !isType && !isTemplate {
		return invalid("path.scope", "must be *, a task type, or template: and a template id")
	}
	return a.requireKnown(ctx, p.App)
}

// maxHoldText is the maximum length of a template id and of a reason, in bytes.
const maxHoldText = 200

type holdsOutput struct {
	Body struct {
		Items []hold.Hold `json:"items" nullable:"false"`
	} `nameHint:"Holds"`
}

func (a *API) listHolds(ctx context.Context, in *AppsQuery) (*holdsOutput, error) {
	state, err := a.state(ctx, in)
	if err != nil {
		return nil, err
	}
	out := new(holdsOutput)
	out.Body.Items = state.Holds
	return out, nil
}

// holdRequest is the body of a hold.
type holdRequest struct {
	Until  time.Time `json:"until,omitzero" doc:"When the hold ends. Default: when it is released."`
	Reason string    `json:"reason,omitempty" maxLength:"200" doc:"One line, shown in status. Default operator."`
}

type setHoldInput struct {
	HoldPath
	JSON jsonBody
}

// heldAnswer is the answer to a hold.
type heldAnswer struct {
	Set bool `json:"set" doc:"false: a hold that ends no earlier was in force."`
	hold.Hold
}

type setHoldOutput struct{ Body heldAnswer }

func (a *API) setHold(ctx context.Context, in *setHoldInput) (*setHoldOutput, error) {
	if err := in.check(ctx, a); err != nil {
		return nil, err
	}
	var body holdRequest
	if len(in.JSON.text) > 0 {
		var err error
		if body, err = decodeBody[holdRequest](a, in.JSON); err != nil {
			return nil, err
		}
	}
	if len(body.Reason) > maxHoldText || strings.ContainsFunc(body.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return nil, invalid("body.reason", "must be one line of at most 200 bytes, without control characters")
	}
	if !body.Until.IsZero() && !body.Until.After(time.Now()) {
		return nil, invalid("body.until", "has passed")
	}
	set, err := a.Holds.Set(ctx, hold.Hold{
		App: in.App, Scope: in.Scope, Reason: cmp.Or(body.Reason, "operator"), Until: body.Until, By: apikey.FromContext(ctx).ID,
	})
	if err != nil && !set { // with set only the wake-up failed
		return nil, err
	}
	if set {
		a.audit(ctx, audit.Entry{Action: audit.Hold, App: in.App, Target: in.Scope, Note: audit.HoldNote(cmp.Or(body.Reason, "operator"), body.Until)})
	}
	h, held, err := a.Holds.Get(ctx, in.App, in.Scope)
	switch {
	case err != nil:
		return nil, err
	case !held && !set:
		return nil, invalid("body.until", "has passed by the clock of Redis; compare the clocks of the gateway and of Redis")
	case !held:
		return nil, problem.New(http.StatusConflict, "the hold has already ended, or was released by another operator")
	}
	a.syncPauses(ctx, in.App)
	return &setHoldOutput{heldAnswer{set, h}}, nil
}

// syncPauses pauses asynq's queues according to the app's holds. If it fails, workers do it later.
func (a *API) syncPauses(ctx context.Context, app string) {
	if err := a.SyncPauses(ctx, app); err != nil {
		a.Log.Warn("the asynq web UI does not show a change of holds before a worker runs", slog.String("app", app), slog.Any("err", err))
	}
}

// releasedHold is the answer to a release.
type releasedHold struct {
	Released bool        `json:"released" doc:"false: nothing was held."`
	App      string      `json:"app"`
	Scope    string      `json:"scope"`
	Hold     *hold.Hold  `json:"hold,omitempty" doc:"The released hold."`
	Spent    []hold.Hold `json:"spent,omitempty" doc:"Limits that stay spent by our own count."`
}

type releaseHoldOutput struct{ Body releasedHold }

func (a *API) releaseHold(ctx context.Context, in *HoldPath) (*releaseHoldOutput, error) {
	if err := in.check(ctx, a); err != nil {
		return nil, err
	}
	h, held, err := a.Holds.Get(ctx, in.App, in.Scope)
	if err != nil {
		return nil, err
	}
	if in.Scope == hold.WholeApp { // or else the next call fails with the last error, and holds the app again
		if err := a.Tokens.EndBackoff(ctx, in.App); err != nil {
			return nil, err
		}
	}
	released, err := a.Holds.Lift(ctx, in.App, in.Scope)
	if err != nil && !released { // with released only the wake-up failed
		return nil, err
	}
	if released {
		a.audit(ctx, audit.Entry{Action: audit.Release, App: in.App, Target: in.Scope, Note: h.Reason})
	}
	a.syncPauses(ctx, in.App)
	answer := releasedHold{Released: released, App: in.App, Scope: in.Scope}
	if held && released {
		answer.Hold = &h
	}
	answer.Spent, err = a.refreshSpent(ctx, answer)
	return &releaseHoldOutput{answer}, err
}

// quotaTime bounds how long a release waits for WeChat's answers.
const quotaTime = 10 * time.Second

// refreshSpent asks WeChat for the counts of the types that were held for their quota, or whose
// limit is spent by our own count, and returns the limits that stay spent.
func (a *API) refreshSpent(ctx context.Context, r releasedHold) ([]hold.Hold, error) {
	if _, ok := a.app(r.App); !ok || hold.IsTemplate(r.Scope) { // the limits of other apps are not known here
		return nil, nil
	}
	spent, err := a.spentWithin(ctx, r.App, r.Scope)
	if err != nil {
		return nil, err
	}
	var types []string
	if r.Hold != nil && r.Hold.Reason == inspect.ReasonQuotaDay && r.Scope != hold.WholeApp {
		types = append(types, r.Scope)
	}
	for _, h := range spent {
		if typ := typeOf(h.Scope); !slices.Contains(types, typ) {
			types = append(types, typ)
		}
	}
	if len(types) == 0 {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(ctx, quotaTime)
	defer cancel()
	if err := a.AskQuotas(bounded, r.App, types); err != nil {
		a.Log.Warn("cannot learn WeChat's count of a quota", slog.String("app", r.App), slog.Any("err", err))
		return spent, nil
	}
	a.syncPauses(ctx, r.App)
	return a.spentWithin(ctx, r.App, r.Scope)
}

// spentWithin returns the limits of an app, or of one of its types, that are spent by our count.
func (a *API) spentWithin(ctx context.Context, app, scope string) (spent []hold.Hold, err error) {
	state, err := a.Reader.Read(ctx, []string{app}, func(other string) bool { return other == app })
	for _, s := range state.Spent() {
		if (hold.Hold{App: app, Scope: scope}).Stops(app, typeOf(s.Scope)) {
			spent = append(spent, s.Hold)
		}
	}
	return spent, err
}

// typeOf returns the task type of the scope of a spent limit.
func typeOf(scope string) string {
	if typ, ok := hold.ParseBulk(scope); ok {
		return typ
	}
	return scope
}
