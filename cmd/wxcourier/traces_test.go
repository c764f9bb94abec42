package main_test

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/tracetest"
	"github.com/wxcourier/wxcourier/tasks"
)

// The built worker sends the spans of a delivery, in the trace of its producer, to the collector that
// the environment names, and those of its last deliveries before it exits.
func TestTracesOfAWorker(t *testing.T) { //nolint:paralleltest // Setenv
	collector := tracetest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_SERVICE_NAME", "courier-of-the-shop")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // only the end of the program sends
	w := newWorld(t)
	rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	task, err := tasks.NewSubscribeTask(mini, tasks.SubscribePayload{ToUser: "openid-of-person-1", TemplateID: "T1", Data: tasks.Data{"thing1": {Value: "订单"}}},
		tasks.ID("traced"), tasks.TraceParent("00-"+traceID+"-"+parentID+"-01"))
	must(t, err)
	_, err = client.Enqueue(t.Context(), task)
	must(t, err)
	replica := w.start("worker")
	redistest.Until(t, time.Minute, "the task has an outcome", func() bool {
		result, err := client.Result(t.Context(), mini, "traced")
		return err == nil && result.Outcome == tasks.OutcomeAccepted
	})
	must(t, replica.Process.Signal(syscall.SIGTERM))
	if err := replica.Wait(); err != nil {
		t.Errorf("the replica ended with %v", err)
	}
	spans := collector.Find(traceID)
	run, call := spans["deliver "+tasks.TypeSubscribe], spans["POST /cgi-bin/message/subscribe/send"]
	if run.ParentID != parentID || call.ParentID != run.SpanID || run.SpanID == "" {
		t.Fatalf("%+v\n%s", spans, w.String())
	}
	if run.Attributes["wxcourier.outcome"] != "accepted" || run.Resource["service.name"] != "courier-of-the-shop" {
		t.Errorf("%v %v", run.Attributes, run.Resource)
	}
	for _, private := range []string{"openid-of-person", "订单", miniSecret, "access_token"} {
		if bytes.Contains(collector.Raw(), []byte(private)) {
			t.Errorf("%q was exported", private)
		}
	}
	w.nothingLeaks()
}

// A collector that is away, and variables that are wrong, stop no worker.
func TestWorkerWithoutCollector(t *testing.T) { //nolint:paralleltest // Setenv
	w := newWorld(t)
	rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	for _, tt := range []struct{ id, name, value string }{
		{"away", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"},
		{"wrong", "OTEL_TRACES_EXPORTER", "zipkin"},
	} {
		id := tt.id
		t.Setenv(tt.name, tt.value)
		task, err := tasks.NewSchemeTask(mini, tasks.SchemePayload{}, tasks.ID(id), tasks.TraceParent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
		must(t, err)
		_, err = client.Enqueue(t.Context(), task)
		must(t, err)
		replica := w.start("worker")
		redistest.Until(t, time.Minute, "the task has an outcome", func() bool {
			result, err := client.Result(t.Context(), mini, id)
			return err == nil && result.Outcome == tasks.OutcomeAccepted
		})
		must(t, replica.Process.Signal(syscall.SIGTERM))
		if err := replica.Wait(); err != nil {
			t.Errorf("%s: the replica ended with %v", id, err)
		}
	}
	if log := w.String(); !strings.Contains(log, `OTEL_TRACES_EXPORTER: \"zipkin\" is not supported`) || !strings.Contains(log, "spans were lost") {
		t.Errorf("log: %s", log)
	}
}
