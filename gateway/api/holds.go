package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/operate"
	"github.com/wxcourier/wxcourier/internal/problem"
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
	if !operate.ValidScope(p.Scope) {
		return invalid("path.scope", "must be *, a task type, or template: and a template id")
	}
	return a.requireKnown(ctx, p.App)
}

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
	if !operate.ValidReason(body.Reason) {
		return nil, invalid("body.reason", "must be one line of at most 200 bytes, without control characters")
	}
	if !body.Until.IsZero() && !body.Until.After(time.Now()) {
		return nil, invalid("body.until", "has passed")
	}
	h, set, err := a.holds().Set(ctx, hold.Hold{
		App: in.App, Scope: in.Scope, Reason: body.Reason, Until: body.Until, By: apikey.FromContext(ctx).ID,
	})
	switch {
	case errors.Is(err, operate.ErrPassed):
		return nil, invalid("body.until", "has passed by the clock of Redis; compare the clocks of the gateway and of Redis")
	case errors.Is(err, operate.ErrEnded):
		return nil, problem.New(http.StatusConflict, "the hold has already ended, or was released by another operator")
	case err != nil:
		return nil, err
	}
	return &setHoldOutput{heldAnswer{set, h}}, nil
}

// holds returns what sets and releases holds.
func (a *API) holds() *operate.Holds {
	return &operate.Holds{
		Store: a.Holds, Tokens: a.Tokens, Reader: a.Reader, SyncPauses: a.SyncPauses, AskQuotas: a.AskQuotas, Audit: a.audit, Log: a.Log,
		Configured: func(app string) bool { _, ok := a.app(app); return ok },
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
	r, err := a.holds().Release(ctx, in.App, in.Scope)
	return &releaseHoldOutput{releasedHold{Released: r.Released, App: in.App, Scope: in.Scope, Hold: r.Hold, Spent: r.Spent}}, err
}
