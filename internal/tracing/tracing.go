// Package tracing records OpenTelemetry spans and sends them to a collector, as the environment of
// the process configures: OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT names
// the collector and turns the traces on. The other usual variables apply: OTEL_SDK_DISABLED,
// OTEL_TRACES_EXPORTER, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER,
// OTEL_BSP_*, and OTEL_EXPORTER_OTLP_* for headers, timeout, compression and certificates.
//
//	traces, err := tracing.FromEnvironment(os.Getenv, log)
//	defer traces.Close()
//	worker.Deps{Tracer: traces.Tracer(), …}
//	handler = tracing.Middleware(traces.Tracer(), route, handler)
//
// Without these variables Tracer returns nil, and whoever has a nil tracer does nothing.
//
// Spans wait in memory, 2,048 at most, and a goroutine sends them; more are dropped. So a collector
// that is slow or away delays nothing.
//
// config.go reads the variables of the exporter; exporter.go sends, encode.go encodes; http.go has the
// spans of HTTP requests. The exporter is our own, since OpenTelemetry's adds 2.5 MB to the binary.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
)

// closeTimeout bounds how long Close waits for the collector.
const closeTimeout = 2 * time.Second

// Traces records and sends the spans of a process. A nil Traces records none.
type Traces struct {
	provider *sdktrace.TracerProvider
	exporter *exporter
	closed   sync.Once
}

// FromEnvironment returns what the environment configures: nil where it configures no traces. The
// error names the variable at fault. It does no I/O but reading certificates.
func FromEnvironment(getenv func(string) string, log *slog.Logger) (*Traces, error) {
	switch chosen := getenv("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"), chosen == "none":
		return nil, nil
	case chosen != "" && chosen != "otlp":
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER: %q is not supported; use otlp, or none for no traces", chosen)
	case chosen == "" && variable(getenv, "ENDPOINT") == "":
		return nil, nil
	}
	cfg, err := readConfig(getenv)
	if err != nil {
		return nil, err
	}
	program := resource.NewSchemaless(
		attribute.String("service.name", "wxcourier"), attribute.String("service.version", buildinfo.Version()),
		attribute.String("telemetry.sdk.name", "opentelemetry"), attribute.String("telemetry.sdk.language", "go"),
		attribute.String("telemetry.sdk.version", sdk.Version()))
	// Those of the environment replace ours.
	service, err := resource.Merge(program, resource.Environment())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	e := newExporter(cfg, log)
	return &Traces{
		provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(e), sdktrace.WithResource(service)),
		exporter: e,
	}, nil
}

// Tracer returns the tracer of this program, nil for nil Traces.
func (t *Traces) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("github.com/wxcourier/wxcourier", trace.WithInstrumentationVersion(buildinfo.Version()))
}

// Close sends what is left, for two seconds at most, and ends the goroutines.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	t.closed.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		close(t.exporter.closing)
		if t.provider.Shutdown(ctx) != nil {
			t.exporter.cancel() // what is under way and what is left ends at once
		}
		<-t.exporter.drained
		t.exporter.cancel()
	})
}

// ParseParent returns the context of a sampled traceparent header: ctx with the remote parent, and
// whether there is one.
func ParseParent(ctx context.Context, header string) (context.Context, bool) {
	if header == "" {
		return ctx, false
	}
	parent := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": header})
	return parent, trace.SpanContextFromContext(parent).IsSampled()
}

// TraceParent returns the traceparent header of ctx's span, "" if there is none that is sampled.
func TraceParent(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() || !span.IsSampled() {
		return ""
	}
	return "00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-01"
}
