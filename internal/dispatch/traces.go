package dispatch

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/wechat"
)

// traceCall records a span of a call that has ended, where ctx has a span that is recorded. Its
// attributes are from closed sets: the path has no query, and nothing is of the request's body.
func (d *Dispatcher) traceCall(ctx context.Context, c *Call, started time.Time, err error) {
	if d.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	class := ClassOf(err)
	_, span := d.tracer.Start(ctx, "POST "+c.api(), trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(started),
		trace.WithAttributes(attribute.String("url.path", c.api()),
			attribute.String("wxcourier.app", c.App), attribute.String("wxcourier.class", class)))
	var api *wechat.APIError
	if errors.As(err, &api) {
		span.SetAttributes(attribute.Int("wechat.errcode", api.Code))
	}
	if err != nil {
		span.SetStatus(codes.Error, class)
	}
	span.End()
}
