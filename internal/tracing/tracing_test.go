package tracing_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/wxcourier/wxcourier/internal/tracetest"
	"github.com/wxcourier/wxcourier/internal/tracing"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
	sampled  = "00-" + traceID + "-" + parentID + "-01"
)

// env returns a getenv of the given variables, name=value each.
func env(variables ...string) func(string) string {
	return func(name string) string {
		for _, v := range variables {
			if got, value, _ := strings.Cut(v, "="); got == name {
				return value
			}
		}
		return ""
	}
}

// lockedLog is a log of a goroutine and a test.
type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, log io.Writer, variables ...string) *tracing.Traces {
	t.Helper()
	traces, err := tracing.FromEnvironment(env(variables...), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil || traces == nil {
		t.Fatalf("%v: %v", variables, err)
	}
	return traces
}

func TestOffUnlessConfigured(t *testing.T) {
	for _, variables := range [][]string{
		nil,
		{"OTEL_SERVICE_NAME=shop"},
		{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED=TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
		{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=nonsense"},
	} {
		traces, err := tracing.FromEnvironment(env(variables...), slog.Default())
		if traces != nil || err != nil || traces.Tracer() != nil {
			t.Errorf("%v: %v %v", variables, traces, err)
		}
		traces.Close()
	}
	for _, variables := range [][]string{
		{"OTEL_TRACES_EXPORTER=otlp"}, {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/x"},
	} {
		traces := start(t, io.Discard, variables...)
		if traces.Tracer() == nil {
			t.Errorf("%v: off", variables)
		}
		traces.Close()
	}
}

// A mistake is named by its variable, without a value that may be a secret.
func TestMistakesInTheEnvironment(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for variable, want := range map[string]string{
		"OTEL_TRACES_EXPORTER=zipkin":                     "OTEL_TRACES_EXPORTER",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":                "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json":    "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318":      "OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_HEADERS=hunter2":              "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_HEADERS=key=hunter2%zz":       "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_TIMEOUT=10s":                  "OTEL_EXPORTER_OTLP_TIMEOUT",
		"OTEL_EXPORTER_OTLP_COMPRESSION=zstd":             "OTEL_EXPORTER_OTLP_COMPRESSION",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=/nowhere":         "OTEL_EXPORTER_OTLP_CERTIFICATE",
		"OTEL_EXPORTER_OTLP_CERTIFICATE=" + empty:         "OTEL_EXPORTER_OTLP_CERTIFICATE",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE=/nowhere":  "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://a:hunter2@:x": "OTEL_EXPORTER_OTLP_ENDPOINT",
	} {
		traces, err := tracing.FromEnvironment(env(variable, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=", "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"), slog.Default())
		if traces != nil || err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	collector := tracetest.Start(t)
	t.Setenv("OTEL_SERVICE_NAME", "courier-of-the-shop") // the SDK reads the process's own
	traces := start(t, io.Discard, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL+"/base/", "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20b, x=y",
		"OTEL_EXPORTER_OTLP_COMPRESSION=gzip")
	tracer := traces.Tracer()
	parent, ok := tracing.ParseParent(t.Context(), sampled)
	if !ok {
		t.Fatal("the parent is not sampled")
	}
	at := time.Unix(1_700_000_000, 42)
	ctx, span := tracer.Start(parent, "deliver", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(at),
		trace.WithAttributes(attribute.String("s", "v"), attribute.Int("i", -7), attribute.Bool("b", true), attribute.Float64("f", 1.5)))
	_, child := tracer.Start(ctx, "call", trace.WithSpanKind(trace.SpanKindClient))
	child.SetStatus(codes.Error, "busy")
	child.End()
	span.End(trace.WithTimestamp(at.Add(time.Second)))
	traces.Close()

	all := collector.Find(traceID)
	got, call := all["deliver"], all["call"]
	if len(all) != 2 || got.ParentID != parentID || got.Kind != tracepb.Span_SPAN_KIND_CONSUMER || !got.Start.Equal(at) || got.End.Sub(got.Start) != time.Second || got.Failed {
		t.Fatalf("%+v", all)
	}
	for key, want := range map[string]any{"s": "v", "i": int64(-7), "b": true, "f": 1.5} {
		if got.Attributes[key] != want {
			t.Errorf("%s: %v", key, got.Attributes[key])
		}
	}
	if call.ParentID != got.SpanID || call.Kind != tracepb.Span_SPAN_KIND_CLIENT || !call.Failed {
		t.Errorf("%+v", call)
	}
	if got.Resource["service.name"] != "courier-of-the-shop" || got.Resource["telemetry.sdk.language"] != "go" {
		t.Errorf("resource %v", got.Resource)
	}
	r := collector.Requests()[0]
	if r.URL.Path != "/base/v1/traces" || r.Header.Get("Api-Key") != "a b" || r.Header.Get("X") != "y" || r.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%s %v", r.URL.Path, r.Header)
	}
}

// A batch is sent again where the collector may take it, and given up where it never will.
func TestRefusedBatches(t *testing.T) {
	for _, tt := range []struct {
		status   int
		requests int
		spans    int
	}{{http.StatusServiceUnavailable, 2, 1}, {http.StatusTooManyRequests, 2, 1}, {http.StatusUnauthorized, 1, 0}, {http.StatusFound, 1, 0}} {
		collector, log := tracetest.Start(t), &lockedLog{}
		collector.Refuse(tt.status)
		t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
		traces := start(t, log, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=k=hunter2")
		_, span := traces.Tracer().Start(t.Context(), "s")
		span.End()
		until(t, func() bool { return len(collector.Requests()) == tt.requests && len(collector.Spans()) == tt.spans })
		traces.Close()
		if n := len(collector.Requests()); n != tt.requests {
			t.Errorf("%d: %d requests", tt.status, n)
		}
		if lost := strings.Contains(log.String(), "spans were lost"); lost != (tt.spans == 0) || strings.Contains(log.String(), "hunter2") {
			t.Errorf("%d: log %s", tt.status, log)
		}
	}
}

// until waits for a condition.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the condition did not come")
		}
	}
}

// A collector that takes connections and never answers, or that is away, delays no span and not the
// end of the program.
func TestCollectorAway(t *testing.T) {
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for _, address := range []string{silent.Addr().String(), "127.0.0.1:1"} {
		traces := start(t, io.Discard, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address)
		tracer := traces.Tracer()
		made := make(chan struct{})
		go func() {
			defer close(made)
			for range 10_000 { // the queue has room for 2,048
				_, span := tracer.Start(context.Background(), "s")
				span.End()
			}
		}()
		closed := make(chan struct{})
		go func() {
			<-made
			traces.Close()
			traces.Close()
			close(closed)
		}()
		for name, done := range map[string]chan struct{}{"spans": made, "close": closed} {
			select {
			case <-done:
			case <-time.After(30 * time.Second): // the exporter's own timeout and retries would take longer than this
				t.Fatalf("%s: %s do not end", address, name)
			}
		}
	}
}

func TestTraceParent(t *testing.T) {
	ctx, ok := tracing.ParseParent(t.Context(), sampled)
	if !ok || tracing.TraceParent(ctx) != sampled {
		t.Errorf("sampled: %v %s", ok, tracing.TraceParent(ctx))
	}
	for _, header := range []string{"", strings.TrimSuffix(sampled, "1") + "0", "x", "00-" + strings.Repeat("0", 32) + "-" + parentID + "-01", sampled + "-x"} {
		if ctx, ok := tracing.ParseParent(t.Context(), header); ok || tracing.TraceParent(ctx) != "" {
			t.Errorf("%q: carried as %s", header, tracing.TraceParent(ctx))
		}
	}
}

func TestMiddleware(t *testing.T) {
	collector := tracetest.Start(t)
	traces := start(t, io.Discard, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	mux, carried := http.NewServeMux(), ""
	mux.HandleFunc("POST /v1/tasks/{app}", func(w http.ResponseWriter, r *http.Request) {
		carried = tracing.TraceParent(r.Context())
		w.WriteHeader(http.StatusServiceUnavailable)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	})
	serve := func(tracer trace.Tracer, method, target, parent string) {
		handler := tracing.Middleware(tracer, func(r *http.Request) string { return r.Pattern }, mux)
		r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
		r.Header.Set("traceparent", parent)
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	serve(traces.Tracer(), http.MethodPost, "/v1/tasks/wx1?secret=hunter2", sampled)
	serve(traces.Tracer(), "HUNTER2", "/nowhere-hunter2", "")
	if !strings.HasPrefix(carried, "00-"+traceID+"-") || carried == sampled {
		t.Errorf("carried %q, want the span of the request", carried)
	}
	inner := carried[36:52]
	serve(nil, http.MethodPost, "/v1/tasks/wx1", sampled)
	if carried != sampled {
		t.Errorf("without a tracer: carried %q", carried)
	}
	traces.Close()
	spans := collector.Spans()
	if len(spans) != 2 {
		t.Fatalf("%+v", spans)
	}
	s := spans[0]
	if s.Name != "POST /v1/tasks/{app}" || s.SpanID != inner || s.ParentID != parentID || s.Kind != tracepb.Span_SPAN_KIND_SERVER ||
		s.Attributes["http.response.status_code"] != int64(503) || !s.Failed {
		t.Errorf("%+v", s)
	}
	if s := spans[1]; s.Name != "_OTHER" || s.ParentID != "" || s.Attributes["http.response.status_code"] != int64(404) || s.Failed {
		t.Errorf("%+v", s)
	}
	if bytes.Contains(bytes.ToLower(collector.Raw()), []byte("hunter2")) || bytes.Contains(collector.Raw(), []byte("wx1")) {
		t.Error("a path or a query was exported")
	}
}
