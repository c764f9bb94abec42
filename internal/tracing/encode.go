package tracing

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// encode encodes spans of one process as the body of an OTLP request. TracesData has the same form
// as the request, whose own type brings gRPC with it. Events and links are left out: this program
// makes none.
func encode(spans []sdktrace.ReadOnlySpan) ([]byte, error) {
	if len(spans) == 0 {
		return nil, nil
	}
	encoded := make([]*tracepb.Span, 0, len(spans))
	for _, s := range spans {
		encoded = append(encoded, encodeSpan(s))
	}
	scope := spans[0].InstrumentationScope()
	return proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:  &resourcepb.Resource{Attributes: encodeAttributes(spans[0].Resource().Attributes())},
		SchemaUrl: spans[0].Resource().SchemaURL(),
		ScopeSpans: []*tracepb.ScopeSpans{{
			Scope: &commonpb.InstrumentationScope{Name: scope.Name, Version: scope.Version}, Spans: encoded,
		}},
	}}})
}

func encodeSpan(s sdktrace.ReadOnlySpan) *tracepb.Span {
	id, parent := s.SpanContext(), s.Parent()
	traceID, spanID := id.TraceID(), id.SpanID()
	flags := uint32(id.TraceFlags()) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK)
	if parent.IsRemote() {
		flags |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	span := &tracepb.Span{
		TraceId: traceID[:], SpanId: spanID[:], TraceState: id.TraceState().String(), Flags: flags,
		Name: s.Name(), Kind: encodeKind(s.SpanKind()),
		StartTimeUnixNano: uint64(s.StartTime().UnixNano()), EndTimeUnixNano: uint64(s.EndTime().UnixNano()),
		Attributes: encodeAttributes(s.Attributes()), DroppedAttributesCount: uint32(s.DroppedAttributes()), //nolint:gosec // a count
		Status: &tracepb.Status{Message: s.Status().Description},
	}
	if parentID := parent.SpanID(); parentID.IsValid() {
		span.ParentSpanId = parentID[:]
	}
	switch s.Status().Code {
	case codes.Error:
		span.Status.Code = tracepb.Status_STATUS_CODE_ERROR
	case codes.Ok:
		span.Status.Code = tracepb.Status_STATUS_CODE_OK
	case codes.Unset:
	}
	return span
}

func encodeKind(kind trace.SpanKind) tracepb.Span_SpanKind {
	switch kind {
	case trace.SpanKindServer:
		return tracepb.Span_SPAN_KIND_SERVER
	case trace.SpanKindClient:
		return tracepb.Span_SPAN_KIND_CLIENT
	case trace.SpanKindProducer:
		return tracepb.Span_SPAN_KIND_PRODUCER
	case trace.SpanKindConsumer:
		return tracepb.Span_SPAN_KIND_CONSUMER
	case trace.SpanKindInternal, trace.SpanKindUnspecified:
	}
	return tracepb.Span_SPAN_KIND_INTERNAL
}

func encodeAttributes(list []attribute.KeyValue) []*commonpb.KeyValue {
	encoded := make([]*commonpb.KeyValue, 0, len(list))
	for _, a := range list {
		value := &commonpb.AnyValue{}
		switch a.Value.Type() {
		case attribute.BOOL:
			value.Value = &commonpb.AnyValue_BoolValue{BoolValue: a.Value.AsBool()}
		case attribute.INT64:
			value.Value = &commonpb.AnyValue_IntValue{IntValue: a.Value.AsInt64()}
		case attribute.FLOAT64:
			value.Value = &commonpb.AnyValue_DoubleValue{DoubleValue: a.Value.AsFloat64()}
		default: // lists too, as text
			value.Value = &commonpb.AnyValue_StringValue{StringValue: a.Value.String()}
		}
		encoded = append(encoded, &commonpb.KeyValue{Key: string(a.Key), Value: value})
	}
	return encoded
}
