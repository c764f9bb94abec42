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
	"github.com/wxcourier/wxcourier/tasks"
)

func (a *API) registerReceiptSeries() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-receipt-series", Method: http.MethodGet, Path: "/v1/series/receipts", Tags: []string{resultsTag},
		Summary: "Count receipts over time",
		Description: "What became of the messages that WeChat accepted, by hour (kept for 35 days) or by minute (48 hours): how many were delivered, blocked or failed, " +
			"and how many have no receipt. A receipt counts in the step in which its message was accepted, however late it comes; of the last minutes, many have not come yet. " +
			"Only types of messages that have receipts are counted. An app without a callback has none, so that all its messages are `without`.",
		Errors: []int{http.StatusUnprocessableEntity},
	}, a.listReceiptSeries)
}

type receiptSeriesInput struct {
	AppsQuery
	From timeParam  `query:"from" doc:"Steps that start then or later: a time, or a duration such as 90m before now. Default: a day before now, with step=minute an hour."`
	To   timeParam  `query:"to" doc:"Steps that start before then. Default: now."`
	Step string     `query:"step" enum:"minute,hour" default:"hour" doc:"The length of a step."`
	Type []taskType `query:"type,explode" nullable:"false" doc:"Only these task types."`
}

type receiptSeriesOutput struct {
	Body struct {
		Step  string                `json:"step" enum:"minute,hour"`
		Items []series.ReceiptPoint `json:"items" nullable:"false" doc:"By time, app and type. Steps without an accepted message are left out."`
	} `nameHint:"ReceiptSeries"`
}

func (a *API) listReceiptSeries(ctx context.Context, in *receiptSeriesInput) (*receiptSeriesOutput, error) {
	apps, err := a.selected(ctx, in.App)
	if err != nil {
		return nil, err
	}
	q := (&seriesInput{From: in.From, To: in.To, Step: in.Step}).query(apps, time.Now())
	if !q.From.Before(q.To) {
		return nil, invalid("query.from", "must be before to")
	}
	types := slices.DeleteFunc(tasks.TypesWithReceipts(), func(typ string) bool {
		return len(in.Type) > 0 && !slices.Contains(in.Type, taskType(typ))
	})
	out := new(receiptSeriesOutput)
	out.Body.Step = in.Step
	out.Body.Items, err = series.ReadReceipts(ctx, a.Redis, q, types)
	if errors.Is(err, series.ErrTooMany) {
		return nil, errSeriesTooLarge()
	}
	return out, err
}
