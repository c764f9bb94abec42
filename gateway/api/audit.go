package api

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
)

const auditTag = "audit"

func (a *API) registerAudit() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Tags: []string{auditTag},
		Summary: "List changes",
		Description: "Who held, released, canceled, redrove and the like, and by what, the newest first: the changes made by the commands, this API and the console. " +
			"Redis keeps the newest 10,000, of all apps together. A key of some apps sees the changes of these only.",
	}, a.listAudit)
}

// auditAction is a parameter that is an action.
type auditAction string

// Schema implements huma.SchemaProvider.
func (auditAction) Schema(huma.Registry) *huma.Schema { return enumSchema(audit.Actions()) }

type auditInput struct {
	AppsQuery
	Action []auditAction `query:"action,explode" nullable:"false" doc:"Only these actions."`
	By     string        `query:"by" maxLength:"500" doc:"Only what this key (key:ID) or operator (user@host) did."`
	Since  timeParam     `query:"since" doc:"Only changes since then: a duration such as 90m, or a time."`
	Cursor string        `query:"cursor" maxLength:"50" doc:"Goes on after an earlier page, with older changes."`
	Limit  int           `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page."`
}

// matches reports whether an entry passes the filter; the apps are selected before.
func (in *auditInput) matches(e audit.Entry) bool {
	return (len(in.Action) == 0 || slices.Contains(in.Action, auditAction(e.Action))) && (in.By == "" || in.By == e.By)
}

type auditOutput struct {
	Body struct {
		Items  []audit.Entry `json:"items" nullable:"false"`
		Cursor string        `json:"cursor,omitempty" doc:"For the next page; left out: there is none."`
	} `nameHint:"AuditPage"`
}

func (a *API) listAudit(ctx context.Context, in *auditInput) (*auditOutput, error) {
	apps, err := wanted(ctx, in.App)
	if err != nil {
		return nil, err
	}
	if len(in.App) == 0 && len(apikey.FromContext(ctx).Apps) == 0 {
		apps = nil // also changes without an app
	}
	out := new(auditOutput)
	out.Body.Items, out.Body.Cursor, err = audit.List(ctx, a.Redis, audit.Query{
		Apps: apps, Since: in.Since.Time, Before: in.Cursor, Limit: in.Limit, Match: in.matches,
	})
	if errors.Is(err, audit.ErrPosition) {
		return nil, invalid("query.cursor", "is not the cursor of a page")
	}
	return out, err
}

// audit records a change that a request made.
func (a *API) audit(ctx context.Context, e audit.Entry) {
	e.By, e.Via = audit.ByKey(apikey.FromContext(ctx).ID), audit.API
	audit.Record(ctx, a.Redis, a.Log, e)
}
