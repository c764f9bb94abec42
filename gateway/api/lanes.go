package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
)

const lanesTag = "lanes"

func (a *API) registerLanes() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-lanes", Method: http.MethodGet, Path: "/v1/lanes", Tags: []string{lanesTag},
		Summary: "List lanes",
		Description: "What waits, by app and task type: the lanes that have tasks or have used part of a limit; as `orphans` those of apps that are not configured, " +
			"which no worker with this configuration delivers; and the workers and gateways that run.",
	}, a.listLanes)
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-quotas", Method: http.MethodGet, Path: "/v1/quotas", Tags: []string{lanesTag},
		Summary:     "List quotas",
		Description: "How much of each limit is used, by our own count, for lanes that have tasks or have used part of a limit. A limit that several types share is listed once.",
	}, a.listQuotas)
}

type lanesOutput struct {
	Body struct {
		Lanes   []inspect.Lane `json:"lanes" nullable:"false"`
		Orphans []inspect.Lane `json:"orphans" nullable:"false"`
		// Replicas and Gateways serve all apps: keys of some apps do not see them.
		Replicas []heartbeat.Replica `json:"replicas,omitempty" doc:"Running workers and those lost in the last minutes. Only for keys of all apps."`
		Gateways []heartbeat.Replica `json:"gateways,omitempty" doc:"Running gateways and those lost in the last minutes. Only for keys of all apps."`
	} `nameHint:"Lanes"`
}

func (a *API) listLanes(ctx context.Context, in *AppsQuery) (*lanesOutput, error) {
	state, err := a.state(ctx, in)
	if err != nil {
		return nil, err
	}
	out := new(lanesOutput)
	out.Body.Lanes, out.Body.Orphans = []inspect.Lane{}, state.Orphans
	for _, l := range state.Lanes {
		out.Body.Lanes = append(out.Body.Lanes, l.Lane)
	}
	if len(apikey.FromContext(ctx).Apps) == 0 {
		out.Body.Replicas, out.Body.Gateways = state.Replicas, state.Gateways
	}
	return out, nil
}

// quota is one window of a limit of an app.
type quota struct {
	App string `json:"app"`
	ratelimit.Usage
	Effective int64 `json:"effective" doc:"The limit in force: the lower of limit and learned."`
}

type quotasOutput struct {
	Body struct {
		Items []quota `json:"items" nullable:"false"`
	} `nameHint:"Quotas"`
}

func (a *API) listQuotas(ctx context.Context, in *AppsQuery) (*quotasOutput, error) {
	state, err := a.state(ctx, in)
	if err != nil {
		return nil, err
	}
	out := new(quotasOutput)
	out.Body.Items = []quota{}
	type window struct {
		app, name string
		span      ratelimit.Span
	}
	listed := make(map[window]bool)
	for _, l := range state.Lanes {
		for _, u := range l.Windows {
			if w := (window{l.App, u.Name, u.Window}); !listed[w] {
				listed[w] = true
				out.Body.Items = append(out.Body.Items, quota{l.App, u, u.Effective()})
			}
		}
	}
	return out, nil
}

// state reads the state of the apps that a request selects.
func (a *API) state(ctx context.Context, in *AppsQuery) (inspect.State, error) {
	apps, err := wanted(ctx, in.App)
	if err != nil {
		return inspect.State{}, err
	}
	return a.Reader.Read(ctx, a.configured(), apps)
}
