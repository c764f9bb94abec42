package worker_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/tracetest"
	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// The spans of a delivery belong to the trace of its producer, and have nothing of the message. A
// trace that is not sampled is not carried.
func TestTraces(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		collector := tracetest.Start(t)
		traces, err := tracing.FromEnvironment(func(name string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}[name]
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.tracer = traces.Tracer()
		traced := func(n int, flags string, e tasks.Envelope) string {
			id := fmt.Sprintf("%032x", n)
			e.TraceParent = "00-" + id + "-b7ad6b7169203331-" + flags
			r.submit(e)
			return id
		}
		accepted := traced(1, "01", message("order-42-private", "oPersonPrivate"))
		refused := traced(2, "01", message("order-43-private", "blocked-oPersonPrivate"))
		unsampled := traced(3, "00", message("order-44-private", "oPersonPrivate2"))
		r.submit(message("untraced", "oPersonPrivate3"))
		for id, carried := range map[string]bool{"order-42-private": true, "order-44-private": false, "untraced": false} {
			key := "asynq:{" + app + ":" + tasks.TypeSubscribe + "}:t:" + app + ":" + id
			msg, err := r.rdb.HGet(t.Context(), key, "msg").Bytes()
			if err != nil || bytes.Contains(msg, []byte(tasks.HeaderTraceParent)) != carried {
				t.Errorf("%s: %v %q", id, err, msg)
			}
		}
		p := r.replica(nil)
		for _, id := range []string{"order-42-private", "order-43-private", "order-44-private", "untraced"} {
			r.outcome(id)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		traces.Close()

		if n := len(collector.Spans()); n != 4 || len(collector.Find(unsampled)) > 0 {
			t.Errorf("%d spans: %+v", n, collector.Spans())
		}
		for id, want := range map[string]struct {
			outcome, class string
			code           any
		}{
			accepted: {"accepted", "ok", nil},
			refused:  {"refused", "refused", int64(43004)},
		} {
			spans := collector.Find(id)
			run, call := spans["deliver "+tasks.TypeSubscribe], spans["POST /cgi-bin/message/subscribe/send"]
			if run.ParentID != "b7ad6b7169203331" || run.Kind != tracepb.Span_SPAN_KIND_CONSUMER || call.ParentID != run.SpanID || call.Kind != tracepb.Span_SPAN_KIND_CLIENT {
				t.Fatalf("%s: %+v", want.outcome, spans)
			}
			if call.Start.Before(run.Start) || call.End.After(run.End) || call.Failed != (want.code != nil) || run.Failed {
				t.Errorf("%s: %+v", want.outcome, spans)
			}
			a := run.Attributes
			if wait, ok := a["wxcourier.wait_ms"].(int64); !ok || wait < 0 || a["wxcourier.app"] != app || a["wxcourier.type"] != tasks.TypeSubscribe ||
				a["wxcourier.attempt"] != int64(1) || a["wxcourier.outcome"] != want.outcome || a["wxcourier.class"] != want.class || a["wechat.errcode"] != want.code {
				t.Errorf("run: %v", a)
			}
			if a := call.Attributes; a["url.path"] != "/cgi-bin/message/subscribe/send" || a["wxcourier.class"] != want.class || a["wechat.errcode"] != want.code {
				t.Errorf("call: %v", a)
			}
		}
		for _, private := range []string{"Private", "private", "access_token", secret, "T1"} {
			if bytes.Contains(collector.Raw(), []byte(private)) {
				t.Errorf("%q was exported", private)
			}
		}
	})
}

// A collector that never answers delays no delivery.
func TestDeliveryWithoutCollector(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Start(t).Addr(), sandbox.Options{})
	traces, err := tracing.FromEnvironment(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}[name]
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer traces.Close()
	r.tracer = traces.Tracer()
	const n = 1_200 // 2,400 spans: more than the exporter's queue holds
	all := make([]tasks.Envelope, n)
	for i := range all {
		all[i] = message(fmt.Sprint("t", i), fmt.Sprint("oPerson", i))
		all[i].App, all[i].TraceParent = app, fmt.Sprintf("00-%032x-b7ad6b7169203331-01", i+1)
	}
	for _, result := range r.client.SubmitMany(t.Context(), all) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	r.replica(nil)
	for i := range all {
		if got := r.outcome(fmt.Sprint("t", i)); got.Outcome != tasks.OutcomeAccepted {
			t.Fatalf("%+v", got)
		}
	}
}
