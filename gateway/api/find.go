package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/resultlog"
)

func (a *API) registerFind() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "find-tasks", Method: http.MethodGet, Path: "/v1/tasks", Tags: []string{tasksTag},
		Summary: "Find tasks",
		Description: "Finds tasks by one of `id`, `rid` (WeChat's id of a request) and `msgid`, the newest first. By `id` it finds also tasks that have not ended; " +
			"by `rid` and `msgid` it searches the results, at most 20,000 in one request: `back` is the time to which it has looked, and the next request with the `cursor` looks further.",
	}, a.findTasks)
	op := huma.Operation{
		OperationID: "find-tasks-by-openid", Method: http.MethodPost, Path: "/v1/tasks:find", Tags: []string{tasksTag},
		Summary: "Find the tasks of a person",
		Description: "Finds the tasks whose receiver has an openid, the newest first, also those that have not ended. The openid is in the body, since proxies log addresses. " +
			"Where `results.index_openids` is false, nothing is found.",
		Errors: bodyErrors(),
	}
	register(a, apikey.Read, op, a.findByOpenID)
	describeBody[openIDQuery](a, op.OperationID, true, map[string]any{"openid": "OPENID", "apps": []any{"wx0123456789abcdef"}})
}

type findInput struct {
	AppsQuery
	ID     string `query:"id" pattern:"^[A-Za-z0-9._~-]{1,128}$" patternDescription:"a task id" doc:"The id of the task."`
	RID    string `query:"rid" pattern:"^[A-Za-z0-9_-]{1,64}$" patternDescription:"a rid" doc:"The rid of WeChat's answer."`
	MsgID  string `query:"msgid" pattern:"^[0-9]{1,20}$" patternDescription:"a msgid" doc:"The msgid of the message."`
	Cursor string `query:"cursor" maxLength:"32768" doc:"Goes on after an earlier page."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page."`
}

type findOutput struct{ Body inspect.FoundTasks }

func (a *API) findTasks(ctx context.Context, in *findInput) (*findOutput, error) {
	given := 0
	for _, text := range []string{in.ID, in.RID, in.MsgID} {
		if text != "" {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("query", "must have one of id, rid and msgid; the tasks of a person are found by POST /v1/tasks:find")
	}
	return a.find(ctx, in.App, inspect.FindQuery{ID: in.ID, RID: in.RID, MsgID: in.MsgID, Limit: in.Limit, Cursor: in.Cursor}, "query.cursor")
}

// openIDQuery is the body of a search by openid.
type openIDQuery struct {
	OpenID string   `json:"openid" pattern:"^[A-Za-z0-9_-]{1,64}$" patternDescription:"an openid" doc:"The openid of the person."`
	Apps   []string `json:"apps,omitempty" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" maxItems:"200" doc:"Only these apps. Default: all that the key may use."`
	Cursor string   `json:"cursor,omitempty" maxLength:"32768" doc:"Goes on after an earlier page."`
	Limit  int      `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"Items of a page. Default 100."`
}

type openIDInput struct {
	JSON jsonBody
}

func (a *API) findByOpenID(ctx context.Context, in *openIDInput) (*findOutput, error) {
	body, err := decodeBody[openIDQuery](a, in.JSON)
	if err != nil {
		return nil, err
	}
	return a.find(ctx, body.Apps, inspect.FindQuery{OpenID: body.OpenID, Limit: body.Limit, Cursor: body.Cursor}, "body.cursor")
}

// find finds tasks of the apps that a request names, or of all that its key may use.
func (a *API) find(ctx context.Context, named []string, q inspect.FindQuery, cursor string) (*findOutput, error) {
	var err error
	if q.Apps, err = a.selected(ctx, named); err != nil {
		return nil, err
	}
	found, err := a.Reader.Find(ctx, q)
	if errors.Is(err, resultlog.ErrCursor) {
		return nil, invalid(cursor, "is not the cursor of a page")
	}
	if err != nil {
		return nil, err
	}
	if found.Items == nil {
		found.Items = []inspect.Found{}
	}
	return &findOutput{found}, nil
}
