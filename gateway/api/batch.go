package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// linesType is the media type of JSON Lines.
const linesType = "application/x-ndjson"

// answerTimeout is how long a client may take to read the answer to a batch.
const answerTimeout = 2 * time.Minute

func (a *API) registerBatch() {
	register(a, apikey.Enqueue, huma.Operation{
		OperationID: "enqueue-tasks", Method: http.MethodPost, Path: "/v1/tasks:batch", Tags: []string{tasksTag},
		Summary: "Enqueue many tasks",
		Description: "The body is JSON Lines of any length, one task a line; Content-Encoding may be gzip. It is enqueued while it is read. " +
			"After the end of the body the answer has one line for each line that is not blank, in their order, and then a summary. " +
			"A line at fault does not stop the others. A line without an id gets one that is derived from its text, " +
			"so that the same body can be repeated safely.",
		Errors: []int{http.StatusUnsupportedMediaType},
	}, a.enqueueBatch)
	a.describeBatch()
}

type batchInput struct {
	Results string `query:"results" enum:"all,faults" default:"all" doc:"faults: only the lines that were not enqueued, or whose id has another body."`
	Stream  batchStream
}

// batchStream is the part of an input that keeps the request, for a body that is read later.
type batchStream struct {
	ctx huma.Context
}

// Resolve implements huma.Resolver.
func (s *batchStream) Resolve(ctx huma.Context) []error {
	s.ctx = ctx
	return nil
}

// enqueueBatch answers 200 when each line has been decided. With 503 Redis did not answer in the
// middle, and with 4xx the body could not be read to its end; what the lines say holds then, too.
func (a *API) enqueueBatch(ctx context.Context, in *batchInput) (*huma.StreamResponse, error) {
	body := openBody(in.Stream.ctx)
	defer body.release()
	b := batch{api: a, answers: newAnswers(in.Results == "faults")}
	status := b.run(ctx, body)
	if sum := b.answers.summary; ctx.Err() != nil || body.readErr != nil {
		a.Log.Info("a batch broke off", slog.Int("lines", sum.Lines), slog.Int("enqueued", sum.Enqueued), slog.Int("already", sum.Already))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", linesType)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAway)
		}
		w.WriteHeader(status)
		_ = body.control.SetWriteDeadline(time.Now().Add(answerTimeout)) // that of the server may be over
		b.answers.writeTo(w)
		_ = body.control.SetWriteDeadline(time.Time{})
	}}, nil
}

// batch is one request with many tasks.
type batch struct {
	api     *API
	answers *answers
}

// run enqueues the lines of a body and returns the status of the answer.
func (b *batch) run(ctx context.Context, body *bodyStream) int {
	source := taskfile.New(body)
	source.Unbounded = true
	_, err := ingest.Enqueue(ctx, source, ingest.Options{
		Client:      b.api.Tasks,
		Admit:       b.api.admit,
		Known:       ledger.New(b.api.Redis, ledger.Policy{}).Exist,
		OnBadLine:   func(int, error) {},
		OnEnqueued:  func(int, tasks.Receipt) {},
		OnDuplicate: func(int, tasks.Envelope) {},
		OnAnswers:   b.answers.add,
	})
	switch {
	case err == nil:
		return http.StatusOK
	case body.readErr != nil:
		p := bodyProblem(body.readErr)
		b.answers.summary.Error = p.Detail + "; lines from there on were not read"
		return p.Status
	}
	return b.refuseRest(err, source, body)
}

// refuseRest reads the rest of a body of which no more is enqueued, since Redis does not answer,
// so that each line has an answer.
func (b *batch) refuseRest(err error, source *taskfile.Source, body *bodyStream) int {
	p, _ := describe(err)
	b.api.away.warn(b.api.Log, err)
	b.answers.summary.Error = p.Detail
	source.BeforeRead = nil
	for item, err := range source.Items() {
		if err != nil {
			break
		}
		answer := ingest.Answer{Line: item.Line, Err: ingest.ErrNotEnqueued}
		if item.Err != nil {
			answer.Err = item.Err
		} else if tasks.ValidApp(item.Envelope.App) && tasks.ValidID(item.Envelope.ID) {
			answer.App, answer.ID = item.Envelope.App, item.Envelope.ID
		}
		b.answers.add([]ingest.Answer{answer})
	}
	if body.readErr != nil {
		b.answers.summary.Error += "; and then " + bodyProblem(body.readErr).Detail
	}
	return http.StatusServiceUnavailable
}

// lineProblem returns the problem of a line that was not enqueued.
func lineProblem(err error) *problem.Problem {
	if errors.Is(err, ingest.ErrNotEnqueued) {
		p := problem.New(http.StatusServiceUnavailable, "not enqueued, since Redis did not answer; repeat the line, which is safe")
		if errors.Is(err, tasks.ErrRedisFull) {
			p.Detail = "not enqueued, since Redis is out of memory (its maxmemory); repeat the line, which is safe"
		}
		return p
	}
	var format *taskfile.FormatError
	if errors.As(err, &format) {
		return problem.New(http.StatusUnprocessableEntity, format.Error())
	}
	p, _ := describe(err)
	return p
}
