package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/tasks"
)

const batchesTag = "batches"

func (a *API) registerBatches() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-batches", Method: http.MethodGet, Path: "/v1/batches", Tags: []string{batchesTag},
		Summary: "List batches",
		Description: "The progress of the batches into which tasks were enqueued last, the newest first, page by page; their `rate` and `seconds_left` are not known here. " +
			"With `batch`, of all batches of that name, in any app.",
	}, a.listBatches)
	register(a, apikey.Read, huma.Operation{
		OperationID: "get-batch", Method: http.MethodGet, Path: "/v1/batches/{app}/{batch}", Tags: []string{batchesTag},
		Summary:     "Get a batch",
		Description: "Its tasks by outcome, how many end in a second, and how long the open ones will take at this rate.",
		Errors:      []int{http.StatusNotFound},
	}, a.getBatch)
	register(a, apikey.Enqueue, huma.Operation{
		OperationID: "cancel-batch", Method: http.MethodDelete, Path: "/v1/batches/{app}/{batch}", Tags: []string{batchesTag},
		Summary: "Cancel a batch",
		Description: "Takes back all tasks of the batch that have not been sent; they end as canceled when a worker reaches them. " +
			"Tasks that join the batch while others are open are canceled, too.",
		Errors: []int{http.StatusNotFound},
	}, a.cancelBatch)
}

// BatchPath is the part of an input that names a batch.
type BatchPath struct {
	AppPath
	Batch string `path:"batch" pattern:"^[A-Za-z0-9._~-]{1,64}$" patternDescription:"a batch name" doc:"The name of the batch." example:"spring-sale"`
}

type batchesInput struct {
	AppsQuery
	Batch  string `query:"batch" pattern:"^[A-Za-z0-9._~-]{1,64}$" patternDescription:"a batch name" doc:"Only the batches of this name."`
	Cursor string `query:"cursor" maxLength:"50" doc:"Goes on after an earlier page, with older batches. Not with batch."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Items of a page. Not with batch."`
}

// listedBatch is a batch in a list.
type listedBatch struct {
	inspect.Batch
	LastEnqueued time.Time `json:"last_enqueued,omitzero" doc:"When a task was last enqueued in it. Left out with the parameter batch."`
}

type batchesOutput struct {
	Body struct {
		Items  []listedBatch `json:"items" nullable:"false"`
		Cursor string        `json:"cursor,omitempty" doc:"For the next page; left out: there is none."`
	} `nameHint:"Batches"`
}

func (a *API) listBatches(ctx context.Context, in *batchesInput) (*batchesOutput, error) {
	if in.Batch == "" {
		return a.recentBatches(ctx, in)
	}
	apps, err := wanted(ctx, in.App)
	if err != nil {
		return nil, err
	}
	batches, err := a.Reader.Batches(ctx, append(a.configured(), in.App...), apps, in.Batch)
	if err != nil {
		return nil, err
	}
	out := new(batchesOutput)
	out.Body.Items = []listedBatch{}
	for _, b := range batches {
		out.Body.Items = append(out.Body.Items, listedBatch{Batch: b})
	}
	return out, nil
}

// recentBatches lists the batches into which tasks were enqueued last.
func (a *API) recentBatches(ctx context.Context, in *batchesInput) (*batchesOutput, error) {
	apps, err := a.selected(ctx, in.App)
	if err != nil {
		return nil, err
	}
	var before time.Time
	if in.Cursor != "" {
		if before, err = time.Parse(time.RFC3339Nano, in.Cursor); err != nil {
			return nil, invalid("query.cursor", "is not the cursor of a page")
		}
	}
	batches, err := a.Reader.RecentBatches(ctx, apps, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := new(batchesOutput)
	out.Body.Items = []listedBatch{}
	if len(batches) > in.Limit {
		batches = batches[:in.Limit]
		out.Body.Cursor = batches[in.Limit-1].LastEnqueued.UTC().Format(time.RFC3339Nano)
	}
	for _, b := range batches {
		out.Body.Items = append(out.Body.Items, listedBatch{b.Batch, b.LastEnqueued})
	}
	return out, nil
}

type batchOutput struct{ Body inspect.Batch }

func (a *API) getBatch(ctx context.Context, in *BatchPath) (*batchOutput, error) {
	if err := require(ctx, apikey.Read, in.App); err != nil {
		return nil, err
	}
	b, err := a.Reader.Batch(ctx, in.App, in.Batch)
	return &batchOutput{b}, noBatch(err)
}

// canceledBatch is the answer to the cancellation of a batch.
type canceledBatch struct {
	App   string `json:"app"`
	Batch string `json:"batch"`
	Open  int64  `json:"open" doc:"Tasks that had no outcome: those that are not being sent now end as canceled."`
}

type cancelBatchOutput struct{ Body canceledBatch }

func (a *API) cancelBatch(ctx context.Context, in *BatchPath) (*cancelBatchOutput, error) {
	if err := require(ctx, apikey.Enqueue, in.App); err != nil {
		return nil, err
	}
	open, err := a.Tasks.CancelBatch(ctx, in.App, in.Batch)
	if err == nil {
		a.audit(ctx, audit.Entry{Action: audit.CancelBatch, App: in.App, Target: in.Batch, Count: open})
	}
	return &cancelBatchOutput{canceledBatch{in.App, in.Batch, open}}, noBatch(err)
}

func noBatch(err error) error {
	if errors.Is(err, tasks.ErrNotFound) {
		return problem.New(http.StatusNotFound, "no such batch: nothing was ever enqueued in it, or its results are no longer kept")
	}
	return err
}
