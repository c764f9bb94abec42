package worker

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace/noop"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/tasks"
)

// traceOf does what a delivery does for its trace.
func traceOf(ctx context.Context, d *deliverer, headers map[string]string, j *job) {
	j.trace = d.newTrace(headers)
	j.trace.start(ctx, j)
	j.trace.end(j, dispatch.Verdict{Outcome: tasks.OutcomeAccepted})
}

// A delivery without a trace allocates nothing for it.
func TestUntracedDeliveryAllocatesNothing(t *testing.T) {
	traced := map[string]string{tasks.HeaderTraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	for name, tt := range map[string]struct {
		deliverer *deliverer
		headers   map[string]string
	}{
		"no tracer":       {&deliverer{}, traced},
		"no trace parent": {&deliverer{delivererDeps: delivererDeps{tracer: noop.NewTracerProvider().Tracer("")}}, nil},
	} {
		j := &job{}
		if n := testing.AllocsPerRun(100, func() { traceOf(context.Background(), tt.deliverer, tt.headers, j) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkTrace(b *testing.B) {
	traced := map[string]string{tasks.HeaderTraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	tracer := noop.NewTracerProvider().Tracer("")
	for name, bb := range map[string]struct {
		deliverer *deliverer
		headers   map[string]string
	}{
		"off":      {&deliverer{}, traced},
		"untraced": {&deliverer{delivererDeps: delivererDeps{tracer: tracer}}, nil},
		"traced":   {&deliverer{delivererDeps: delivererDeps{tracer: tracer}}, traced},
	} {
		b.Run(name, func(b *testing.B) {
			j := &job{}
			b.ReportAllocs()
			for b.Loop() {
				traceOf(b.Context(), bb.deliverer, bb.headers, j)
			}
		})
	}
}
