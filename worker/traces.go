package worker

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// runTrace is the span of a run, in the trace of the task's producer. It is nil unless the replica
// has a tracer and the producer's trace is sampled. A run that hands the task back before it is
// opened, since the task has to wait, has no span.
//
// The span ends after the outcome is recorded. Its attributes are from closed sets, or numbers:
// never an id, an openid or a text.
type runTrace struct {
	tracer  trace.Tracer
	parent  context.Context //nolint:containedctx // the producer's span, without deadline
	started time.Time
	span    trace.Span // nil before it starts and after it has ended
}

// newTrace returns the trace of a run, or nil.
func (d *deliverer) newTrace(headers map[string]string) *runTrace {
	if d.tracer == nil {
		return nil
	}
	parent, sampled := tracing.ParseParent(context.Background(), headers[tasks.HeaderTraceParent])
	if !sampled {
		return nil
	}
	return &runTrace{tracer: d.tracer, parent: parent, started: time.Now()}
}

// start starts the span, from the beginning of the run, and returns ctx with it for the call.
func (r *runTrace) start(ctx context.Context, j *job) context.Context {
	if r == nil {
		return ctx
	}
	if r.span == nil {
		_, r.span = r.tracer.Start(r.parent, "deliver "+j.Type, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(r.started),
			trace.WithAttributes(attribute.String("messaging.system", "wxcourier"),
				attribute.String("wxcourier.app", j.App), attribute.String("wxcourier.type", j.Type)))
	}
	return trace.ContextWithSpan(ctx, r.span)
}

// end ends the span with a verdict on the run.
func (r *runTrace) end(j *job, v dispatch.Verdict) {
	if r == nil || r.tracer == nil {
		return
	}
	r.start(context.Background(), j)
	attributes := []attribute.KeyValue{attribute.Int("wxcourier.attempt", j.attempts())}
	if wait, known := j.queueTime(r.started); known {
		attributes = append(attributes, attribute.Int64("wxcourier.wait_ms", wait.Milliseconds()))
	}
	if v.Outcome != "" {
		attributes = append(attributes, attribute.String("wxcourier.outcome", string(v.Outcome)))
	}
	if j.call.Called() {
		attributes = append(attributes, attribute.String("wxcourier.class", dispatch.ClassOf(j.err)))
	}
	var api *wechat.APIError
	if errors.As(j.err, &api) {
		attributes = append(attributes, attribute.Int("wechat.errcode", api.Code))
	}
	r.span.SetAttributes(attributes...)
	if v.Outcome == tasks.OutcomeFailed || v.Outcome == tasks.OutcomeUnknown {
		r.span.SetStatus(codes.Error, "")
	}
	r.span.End()
	r.tracer, r.span = nil, nil
}

// queueTime returns how long the task waited until a run: from when it was enqueued, or might be
// sent if that was later.
func (j *job) queueTime(started time.Time) (time.Duration, bool) {
	since := j.enqueuedAt
	if since.IsZero() {
		since = j.opened.Enqueued
	}
	if since.IsZero() {
		return 0, false
	}
	if j.ProcessAt.After(since) {
		since = j.ProcessAt
	}
	return max(started.Sub(since), 0), true
}
