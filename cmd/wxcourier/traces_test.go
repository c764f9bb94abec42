package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/tracetest"
	"github.com/wxcourier/wxcourier/tasks"
)

// The built gateway and worker send their spans, in the trace of the producer, to the collector that
// the environment names, and those of their last requests before they exit.
func TestTracesOfTheProgram(t *testing.T) { //nolint:paralleltest // Setenv
	collector := tracetest.Start(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_SERVICE_NAME", "courier-of-the-shop")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // only the end of a program sends
	w := newWorld(t)
	rdb := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	const traceID, proxiedID, parentID = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

	programs := []*exec.Cmd{w.start("gateway", "--listen", "127.0.0.1:0")}
	var address string
	redistest.Until(t, time.Minute, "the gateway listens", func() bool {
		_, after, _ := strings.Cut(w.String(), "addr=")
		address, _, _ = strings.Cut(after, "\n")
		return strings.Contains(after, "\n")
	})
	body := `{"type":"send:subscribe","app":"` + mini + `","id":"traced","body":{"touser":"openid-of-person-1","template_id":"T1","data":{"thing1":{"value":"订单"}}}}`
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/tasks", strings.NewReader(body))
	must(t, err)
	request.Header.Set("traceparent", "00-"+traceID+"-"+parentID+"-01")
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	must(t, response.Body.Close())
	if response.StatusCode != http.StatusAccepted {
		t.Fatalf("HTTP status %d\n%s", response.StatusCode, w.String())
	}
	w.wechatCall(address, "00-"+proxiedID+"-"+parentID+"-01")
	programs = append(programs, w.start("worker"))
	redistest.Until(t, time.Minute, "the task has an outcome", func() bool {
		result, err := client.Result(t.Context(), mini, "traced")
		return err == nil && result.Outcome == tasks.OutcomeAccepted
	})
	for _, program := range programs {
		must(t, program.Process.Signal(syscall.SIGTERM))
		if err := program.Wait(); err != nil {
			t.Errorf("%v ended with %v", program.Args, err)
		}
	}
	spans := collector.Find(traceID)
	enqueue, run, call := spans["POST /v1/tasks"], spans["deliver "+tasks.TypeSubscribe], spans["POST /cgi-bin/message/subscribe/send"]
	if enqueue.ParentID != parentID || run.ParentID != enqueue.SpanID || call.ParentID != run.SpanID || len(spans) != 3 {
		t.Fatalf("%+v\n%s", collector.Spans(), w.String())
	}
	if enqueue.Attributes["http.response.status_code"] != int64(http.StatusAccepted) || run.Attributes["wxcourier.outcome"] != "accepted" ||
		run.Resource["service.name"] != "courier-of-the-shop" {
		t.Errorf("%v %v %v", enqueue.Attributes, run.Attributes, run.Resource)
	}
	proxied := collector.Find(proxiedID)
	if request, call := proxied["POST /wechat/"], proxied["POST /wxa/generatescheme"]; request.ParentID != parentID || call.ParentID != request.SpanID ||
		call.Attributes["wxcourier.class"] != "ok" {
		t.Errorf("a call through /wechat/: %+v", proxied)
	}
	for _, private := range []string{"openid-of-person", "订单", "private-query", miniSecret, "access_token", "127.0.0.1"} {
		if bytes.Contains(collector.Raw(), []byte(private)) {
			t.Errorf("%q was exported", private)
		}
	}
	w.nothingLeaks()
}

// wechatCall makes a scheme through WeChat's own paths, as an SDK does.
func (w *world) wechatCall(address, traceParent string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+address+"/wechat/cgi-bin/token?grant_type=client_credential&appid="+mini+"&secret=any", nil)
	must(w.t, err)
	response, err := http.DefaultClient.Do(request)
	must(w.t, err)
	var ticket struct {
		AccessToken string `json:"access_token"`
	}
	must(w.t, json.NewDecoder(response.Body).Decode(&ticket))
	must(w.t, response.Body.Close())
	request, err = http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+address+"/wechat/wxa/generatescheme?access_token="+ticket.AccessToken,
		strings.NewReader(`{"jump_wxa":{"path":"pages/index/index","query":"id=private-query"}}`))
	must(w.t, err)
	request.Header.Set("traceparent", traceParent)
	response, err = http.DefaultClient.Do(request)
	must(w.t, err)
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(body), "openlink") {
		w.t.Errorf("a call through /wechat/: %v %s", err, body)
	}
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
