package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/series"
)

// seriesPoints is the number of points that one answer has at most.
const seriesPoints = 100_000

func (a *API) registerSeries() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-series", Method: http.MethodGet, Path: "/v1/series", Tags: []string{resultsTag},
		Summary: "Count outcomes over time",
		Description: "How many tasks ended how, by minute (kept for 48 hours) or by hour (35 days), when the outcome was recorded by the clock of Redis. " +
			"A task that was redriven counts again with its next outcome, and one whose `unknown` was superseded counts in both. Steps without an outcome are left out. " +
			"The counts are for charts: a process that was killed may have lost those of its last second. The errcode -999999 stands for further errcodes of an app that had more than 50 kinds of outcomes in a step.",
		Errors: []int{http.StatusUnprocessableEntity},
	}, a.listSeries)
}

type seriesInput struct {
	AppsQuery
	From    timeParam     `query:"from" doc:"Steps that start then or later: a time, or a duration such as 90m before now. Default: an hour before now, with step=hour a day."`
	To      timeParam     `query:"to" doc:"Steps that start before then. Default: now."`
	Step    string        `query:"step" enum:"minute,hour" default:"minute" doc:"The length of a step."`
	Type    []taskType    `query:"type,explode" nullable:"false" doc:"Only these task types."`
	Outcome []outcomeName `query:"outcome,explode" nullable:"false" doc:"Only these outcomes."`
	ErrCode []int         `query:"errcode,explode" nullable:"false" doc:"Only these error codes of WeChat."`
}

// matches reports whether a point passes the filter.
func (in *seriesInput) matches(p series.Point) bool {
	return (len(in.Type) == 0 || slices.Contains(in.Type, taskType(p.Type))) &&
		(len(in.Outcome) == 0 || slices.Contains(in.Outcome, outcomeName(p.Outcome))) &&
		(len(in.ErrCode) == 0 || slices.Contains(in.ErrCode, p.ErrCode))
}

// query returns the query of the steps.
func (in *seriesInput) query(apps []string, now time.Time) series.Query {
	q := series.Query{Apps: apps, From: in.From.Time, To: in.To.Time, Step: series.Minute, Match: in.matches, Limit: seriesPoints}
	length := time.Hour
	if in.Step == "hour" {
		q.Step, length = series.Hour, 24*time.Hour
	}
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		q.From = q.To.Add(-length)
	}
	return q
}

type seriesOutput struct {
	Body struct {
		Step  string         `json:"step" enum:"minute,hour"`
		Items []series.Point `json:"items" nullable:"false" doc:"By time, app, type, outcome and errcode."`
	} `nameHint:"Series"`
}

func (a *API) listSeries(ctx context.Context, in *seriesInput) (*seriesOutput, error) {
	apps, err := a.selected(ctx, in.App)
	if err != nil {
		return nil, err
	}
	q := in.query(apps, time.Now())
	if !q.From.Before(q.To) {
		return nil, invalid("query.from", "must be before to")
	}
	out := new(seriesOutput)
	out.Body.Step = in.Step
	out.Body.Items, err = series.Read(ctx, a.Redis, q)
	if errors.Is(err, series.ErrTooMany) {
		return nil, errSeriesTooLarge()
	}
	return out, err
}

// errSeriesTooLarge is the problem of a request for too many points.
func errSeriesTooLarge() error {
	return invalid("query.from", "the answer would be too large: ask for a shorter time, for fewer apps or with step=hour")
}
