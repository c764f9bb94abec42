package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/tasks"
)

// redriveTime is how long one request redrives.
const redriveTime = 10 * time.Second

func (a *API) registerRedrives() {
	op := huma.Operation{
		OperationID: "redrive", Method: http.MethodPost, Path: "/v1/redrives", Tags: []string{tasksTag},
		Summary: "Redrive ended tasks",
		Description: "Enqueues ended tasks again under the same ids, as `wxcourier redrive` does, after the cause of their failure was fixed. " +
			"A request works for 10 s at most: repeat it while `more` is true, which is safe, since a task that waits again has no outcome and does not match. " +
			"With `dry_run` nothing is changed, and the counts say what would be; if `more` is true, they are incomplete.",
		Errors: bodyErrors(),
	}
	register(a, apikey.Operate, op, a.redrive)
	describeBody[redriveFilter](a, op.OperationID, true, map[string]any{"outcomes": []any{"failed"}, "errcodes": []any{40001}, "since": "2h", "dry_run": true})
}

// redriveFilter is the body of a redrive.
type redriveFilter struct {
	Apps     []string            `json:"apps,omitempty" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" maxItems:"1000" doc:"Only these apps. Default: all configured apps that the key may use."`
	Outcomes []redrivableOutcome `json:"outcomes" minItems:"1" maxItems:"10" nullable:"false" doc:"The outcomes to redrive. With unknown you accept that a person may get a message twice."`
	Types    []taskType          `json:"types,omitempty" nullable:"false" maxItems:"100" doc:"Only these task types."`
	ErrCodes []int               `json:"errcodes,omitempty" maxItems:"100" doc:"Only these error codes of WeChat."`
	Batch    string              `json:"batch,omitempty" pattern:"^[A-Za-z0-9._~-]{1,64}$" patternDescription:"a batch name" doc:"Only this batch."`
	IDs      []string            `json:"ids,omitempty" pattern:"^[A-Za-z0-9._~-]{1,128}$" patternDescription:"a task id" maxItems:"10000" doc:"Only these tasks, of one app."`
	Since    string              `json:"since,omitempty" maxLength:"40" doc:"Only tasks that ended since then: a duration such as 90m, or a time."`
	Limit    int                 `json:"limit,omitempty" minimum:"0" doc:"Redrive at most so many tasks; 0: all."`
	DryRun   bool                `json:"dry_run,omitempty" doc:"Only count; change nothing."`
}

// redrivableOutcome is an outcome that can be redriven.
type redrivableOutcome string

// Schema implements huma.SchemaProvider.
func (redrivableOutcome) Schema(huma.Registry) *huma.Schema { return enumSchema(tasks.Redrivable()) }

// redriven is the answer to a redrive.
type redriven struct {
	redrive.Counts
	More bool `json:"more" doc:"The time was over before all tasks were looked at: repeat the request."`
}

type redriveInput struct {
	JSON jsonBody
}

type redriveOutput struct{ Body redriven }

func (a *API) redrive(ctx context.Context, in *redriveInput) (*redriveOutput, error) {
	body, err := decodeBody[redriveFilter](a, in.JSON)
	if err != nil {
		return nil, err
	}
	apps, err := a.redriveApps(ctx, body)
	if err != nil {
		return nil, err
	}
	var since timeParam
	if body.Since != "" {
		if err := since.UnmarshalText([]byte(body.Since)); err != nil {
			return nil, invalid("body.since", err.Error())
		}
	}
	filter := tasks.Redrive{ErrCodes: body.ErrCodes, Batch: body.Batch, Since: since.Time, DryRun: body.DryRun}
	for _, outcome := range body.Outcomes {
		filter.Outcomes = append(filter.Outcomes, tasks.Outcome(outcome))
	}
	for _, typ := range body.Types {
		filter.Types = append(filter.Types, string(typ))
	}
	cfg := redrive.Config{Inspector: a.Inspector, Filter: filter, Limit: body.Limit}
	if !body.DryRun {
		cfg.OnRedriven = func(app string, n int) {
			a.audit(ctx, audit.Entry{Action: audit.Redrive, App: app, Target: body.Batch, Count: int64(n), Note: redrive.Note(filter, len(body.IDs) > 0)})
		}
	}
	counts, more, err := redrive.Bounded(ctx, redriveTime, cfg, apps, body.IDs)
	return &redriveOutput{redriven{counts, more}}, err
}

// redriveApps returns the apps of a redrive.
func (a *API) redriveApps(ctx context.Context, body redriveFilter) ([]string, error) {
	apps := body.Apps
	for _, app := range apps {
		if err := require(ctx, apikey.Operate, app); err != nil {
			return nil, err
		}
	}
	if len(apps) == 0 {
		apps = slices.DeleteFunc(a.configured(), func(app string) bool { return !apikey.FromContext(ctx).AllowsApp(app) })
	}
	slices.Sort(apps)
	apps = slices.Compact(apps)
	if len(apps) != 1 && len(body.IDs) > 0 {
		return nil, invalid("body.ids", "an id belongs to one app; name it in apps")
	}
	return apps, nil
}
