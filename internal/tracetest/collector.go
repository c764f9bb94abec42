// Package tracetest is a collector of OpenTelemetry spans for tests: an OTLP receiver over HTTP in
// the test's process.
package tracetest

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it was received.
type Span struct {
	TraceID, SpanID, ParentID string // in hexadecimal digits
	Name                      string
	Kind                      tracepb.Span_SpanKind
	Start, End                time.Time
	Attributes                map[string]any // string, int64, bool or float64
	Failed                    bool           // its status is an error
	Resource                  map[string]any
}

// Collector receives spans. Its methods may be called from many goroutines.
type Collector struct {
	URL string // without a path

	mu       sync.Mutex // guards the fields below
	spans    []Span
	raw      bytes.Buffer
	requests []*http.Request
	statuses []int // of the next requests
}

// Start starts a collector, which ends with the test.
func Start(t *testing.T) *Collector {
	c := &Collector{}
	server := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// Refuse makes the collector answer the next requests with these statuses.
func (c *Collector) Refuse(statuses ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.statuses = append(c.statuses, statuses...)
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		var unpacked io.Reader
		if unpacked, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(unpacked)
		}
	}
	var data tracepb.TracesData
	if err != nil || proto.Unmarshal(body, &data) != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	if len(c.statuses) > 0 {
		status := c.statuses[0]
		c.statuses = c.statuses[1:]
		w.WriteHeader(status)
		return
	}
	_, _ = c.raw.Write(body)
	for _, resource := range data.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, Span{
					TraceID: hex.EncodeToString(s.GetTraceId()), SpanID: hex.EncodeToString(s.GetSpanId()), ParentID: hex.EncodeToString(s.GetParentSpanId()),
					Name: s.GetName(), Kind: s.GetKind(), Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
					Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())), //nolint:gosec // the clock's
					Attributes: attributes(s.GetAttributes()), Resource: attributes(resource.GetResource().GetAttributes()),
				})
			}
		}
	}
}

func attributes(list []*commonpb.KeyValue) map[string]any {
	all := make(map[string]any, len(list))
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.GetKey()] = v.IntValue
		case *commonpb.AnyValue_BoolValue:
			all[a.GetKey()] = v.BoolValue
		case *commonpb.AnyValue_DoubleValue:
			all[a.GetKey()] = v.DoubleValue
		}
	}
	return all
}

// Spans returns the spans so far.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Span{}, c.spans...)
}

// Raw returns the bytes of all requests that were taken.
func (c *Collector) Raw() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.raw.Bytes())
}

// Requests returns the requests so far, also those that were refused.
func (c *Collector) Requests() []*http.Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*http.Request{}, c.requests...)
}

// Find returns the spans of a trace by their names.
func (c *Collector) Find(traceID string) map[string]Span {
	found := make(map[string]Span)
	for _, s := range c.Spans() {
		if s.TraceID == traceID {
			found[s.Name] = s
		}
	}
	return found
}
