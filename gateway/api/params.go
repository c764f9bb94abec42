package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/tasks"
)

// taskType is a parameter that is a task type, outcomeName one that is an outcome, and receiptName one
// that is a receipt.
type (
	taskType    string
	outcomeName string
	receiptName string
)

// Schema implements huma.SchemaProvider.
func (taskType) Schema(huma.Registry) *huma.Schema { return enumSchema(tasks.Types()) }

// Schema implements huma.SchemaProvider.
func (outcomeName) Schema(huma.Registry) *huma.Schema { return enumSchema(tasks.Outcomes()) }

// Schema implements huma.SchemaProvider.
func (receiptName) Schema(huma.Registry) *huma.Schema { return enumSchema(tasks.DeliveryReceipts()) }

// enumSchema returns the schema of a string out of a list.
func enumSchema[T ~string](values []T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	s.PrecomputeMessages()
	return s
}

// timeParam is a time, or how long ago it was.
type timeParam struct{ time.Time }

// UnmarshalText implements encoding.TextUnmarshaler. The error does not contain the text.
func (t *timeParam) UnmarshalText(text []byte) (err error) {
	if ago, failed := time.ParseDuration(string(text)); failed == nil && ago >= 0 {
		t.Time = time.Now().Add(-ago)
		return nil
	}
	if t.Time, err = time.Parse(time.RFC3339, string(text)); err != nil {
		return errors.New(ownFault + "a duration such as 90m, or a time such as 2026-12-01T08:00:00+08:00 (in a query + is written %2B)")
	}
	return nil
}

// Schema implements huma.SchemaProvider.
func (timeParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"90m", "2026-12-01T00:00:00Z"}}
}

// AppPath is the part of an input that names an app. It is exported since huma looks at embedded
// structs only if they are.
type AppPath struct {
	App string `path:"app" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" doc:"The app id." example:"wx0123456789abcdef"`
}

// AppsQuery is the part of an input that selects apps.
type AppsQuery struct {
	App []string `query:"app,explode" nullable:"false" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" maxItems:"200" doc:"Only these apps. Default: all that the key may use."`
}

// selected returns the apps that a request selects, sorted: those that it names, or all that
// its key may use. A named app that the key may not use is a problem.
func (a *API) selected(ctx context.Context, named []string) ([]string, error) {
	for _, app := range named {
		if err := require(ctx, apikey.Read, app); err != nil {
			return nil, err
		}
	}
	apps := slices.Clone(named)
	if key := apikey.FromContext(ctx); len(apps) == 0 && len(key.Apps) > 0 {
		apps = slices.Clone(key.Apps)
	}
	if len(apps) == 0 {
		known, err := a.knownApps(ctx)
		if err != nil {
			return nil, err
		}
		apps = slices.Collect(maps.Keys(known))
	}
	slices.Sort(apps)
	return slices.Compact(apps), nil
}

// knownApps returns the apps that are configured or had a task enqueued.
func (a *API) knownApps(ctx context.Context) (map[string]bool, error) {
	enqueued, err := a.Inspector.Apps(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, app := range enqueued {
		known[app] = true
	}
	for _, app := range a.Apps() {
		known[app.ID] = true
	}
	return known, nil
}

// requireKnown returns a problem for an app that is not configured and never had a task: probably
// a typo.
func (a *API) requireKnown(ctx context.Context, app string) error {
	known, err := a.knownApps(ctx)
	if err == nil && !known[app] {
		err = problem.New(http.StatusNotFound, "the app is not configured, and nothing was ever enqueued for it")
	}
	return err
}

// wanted returns a filter of apps for inspect: those that a request names and its key may use.
func wanted(ctx context.Context, named []string) (func(app string) bool, error) {
	for _, app := range named {
		if err := require(ctx, apikey.Read, app); err != nil {
			return nil, err
		}
	}
	key := apikey.FromContext(ctx)
	return func(app string) bool {
		return key.AllowsApp(app) && (len(named) == 0 || slices.Contains(named, app))
	}, nil
}

// configured returns the ids of the configured apps.
func (a *API) configured() (ids []string) {
	for _, app := range a.Apps() {
		ids = append(ids, app.ID)
	}
	return ids
}

// invalid returns a problem with one fault.
func invalid(location, message string) error {
	return problem.New(http.StatusUnprocessableEntity, "validation failed", problem.Fault{Location: location, Message: message})
}
