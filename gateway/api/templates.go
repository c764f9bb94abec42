package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/templates/refresh"
)

const templatesTag = "templates"

func (a *API) registerTemplates() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-templates", Method: http.MethodGet, Path: "/v1/templates/{app}", Tags: []string{templatesTag},
		Summary: "List message templates",
		Description: "The app's templates as WeChat last listed them, with their fields, and what enqueuing does about a message that does not fit. " +
			"Workers read them every six hours where `templates.check` or `templates.fix` of the app is set.",
		Errors: []int{http.StatusNotFound},
	}, a.listTemplates)
	register(a, apikey.Operate, huma.Operation{
		OperationID: "refresh-templates", Method: http.MethodPost, Path: "/v1/templates/{app}/refresh", Tags: []string{templatesTag},
		Summary:     "Read the message templates from WeChat",
		Description: "Asks WeChat for the app's templates now, and answers like the list. WeChat's limit of these calls is low.",
		Errors:      []int{http.StatusNotFound, http.StatusConflict},
	}, a.refreshTemplates)
}

type templatesOutput struct{ Body templateList }

// templateList is what is known of an app's templates.
type templateList struct {
	Items     []listedTemplate `json:"items" nullable:"false"`
	FetchedAt time.Time        `json:"fetched_at,omitzero" doc:"When WeChat last gave a list; left out: never."`
	Check     string           `json:"check" enum:"off,warn,reject" doc:"What enqueuing does about a message that does not fit."`
	Fix       bool             `json:"fix" doc:"Enqueuing cuts a thing that is too long."`
	Errors    []listError      `json:"errors,omitempty" doc:"The lists that WeChat did not give when it was last asked."`
}

// listedTemplate is a template in a list.
type listedTemplate struct {
	ID      string          `json:"id" doc:"The template_id of messages."`
	Source  string          `json:"source" enum:"subscribe,account" doc:"subscribe: for subscribe messages. account: for template messages of official accounts."`
	Title   string          `json:"title"`
	Kind    int             `json:"kind,omitempty" doc:"Of subscribe messages: 2 is one message for each acceptance, 3 any number."`
	Fields  []templateField `json:"fields" nullable:"false"`
	Content string          `json:"content,omitempty" doc:"The text, with a placeholder for each field."`
	Example string          `json:"example,omitempty" doc:"The text with values."`
}

// templateField is a field of a template.
type templateField struct {
	Name   string   `json:"name" doc:"The key in the data of a message, such as thing1."`
	Kind   string   `json:"kind,omitempty" doc:"The kind of its values, such as thing; left out for some fields of template messages."`
	Label  string   `json:"label,omitempty" doc:"The text before it."`
	Values []string `json:"values,omitempty" doc:"The values that WeChat accepts; left out: all of the kind."`
}

// listError says why there is no list, or none newer.
type listError struct {
	Source  string    `json:"source" enum:"subscribe,account"`
	Error   string    `json:"error" doc:"WeChat's answer, or why there is none."`
	Refused int       `json:"refused,omitempty" doc:"WeChat's errcode for an app that does not have this list."`
	AskedAt time.Time `json:"asked_at"`
}

func (a *API) listTemplates(ctx context.Context, in *AppPath) (*templatesOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	if err := a.requireKnown(ctx, in.App); err != nil {
		return nil, err
	}
	known, err := templates.Read(ctx, a.Redis, in.App)
	return outputOf(known), err
}

func (a *API) refreshTemplates(ctx context.Context, in *AppPath) (*templatesOutput, error) {
	if err := require(ctx, apikey.Operate, in.App); err != nil {
		return nil, err
	}
	if err := a.requireKnown(ctx, in.App); err != nil {
		return nil, err
	}
	known, err := a.RefreshTemplates(ctx, in.App)
	if errors.Is(err, refresh.ErrBusy) {
		return nil, problem.New(http.StatusConflict, "another process asks WeChat for the templates right now: repeat in a minute")
	}
	return outputOf(known), err
}

func outputOf(known *templates.Registry) *templatesOutput {
	out := &templatesOutput{Body: templateList{Items: []listedTemplate{}, Check: string(templates.CheckOff)}}
	if known == nil {
		return out
	}
	b := &out.Body
	b.FetchedAt, b.Fix = known.FetchedAt, known.Fix
	if known.Checks() {
		b.Check = string(known.Check)
	}
	for _, source := range templates.Sources() {
		if list := known.Lists[source]; list != nil && list.Error != "" {
			b.Errors = append(b.Errors, listError{string(source), list.Error, list.Refused, list.AskedAt})
		}
	}
	for _, t := range known.Templates {
		item := listedTemplate{
			ID: t.ID, Source: string(t.Source), Title: t.Title, Kind: t.Kind, Content: t.Content, Example: t.Example, Fields: []templateField{},
		}
		for _, f := range t.Fields {
			item.Fields = append(item.Fields, templateField(f))
		}
		b.Items = append(b.Items, item)
	}
	return out
}
