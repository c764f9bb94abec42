package main

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// request is an HTTP request as a browser or another program sends it.
type request struct {
	method, url, host, origin, site, body string
}

// status sends the request and returns the status code.
func (r request) status(t *testing.T) int {
	t.Helper()
	sent, err := http.NewRequestWithContext(t.Context(), r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if r.host != "" {
		sent.Host = r.host
	}
	for name, value := range map[string]string{"Origin": r.origin, "Sec-Fetch-Site": r.site} {
		if value != "" {
			sent.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(sent)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// waitForAddress waits until a command prints a line that matches pattern, and returns its first
// group.
func waitForAddress(t *testing.T, stderr *buffer, pattern string) string {
	t.Helper()
	var found []string
	redistest.Until(t, 10*time.Second, pattern+" is printed", func() bool {
		found = regexp.MustCompile(pattern).FindStringSubmatch(stderr.String())
		return found != nil
	})
	return found[1]
}

const evil = "evil.example"

// TestDevRefusesOtherSites: neither a page of another origin nor one whose host name resolves to
// this server (DNS rebinding) can change or read dev; its own pages and local programs can.
func TestDevRefusesOtherSites(t *testing.T) {
	t.Chdir(t.TempDir())
	_, stderr, stop := background(t, nil, "dev", "--listen", "127.0.0.1:0", "--rate", "50", "--host", "dev.example")
	url, wx := strings.TrimSuffix(waitForAddress(t, stderr, `Console +(\S+)`), "/"), waitForAddress(t, stderr, `WeChat +(\S+)`)
	var queue string
	redistest.Until(t, 20*time.Second, "a queue is there", func() bool {
		_, queues := get(t, url+"/monitor/api/queues")
		queue = regexp.MustCompile(`wx[0-9a-f]{16}:send:subscribe`).FindString(queues)
		return queue != ""
	})
	pause, faults := url+"/monitor/api/queues/"+queue, wx+"/sandbox/latency"
	const latency = `{"latency":"1ms"}`
	const task = `{"type":"send:custom","app":"wx00000000000000d1","body":{"touser":"oMe","msgtype":"text","text":{"content":"x"}}}`
	for name, tt := range map[string]struct {
		request
		want int
	}{
		"pause by another site":             {request{method: "POST", url: pause + ":pause", origin: "https://" + evil}, 403},
		"pause by another site, as fetched": {request{method: "POST", url: pause + ":pause", site: "cross-site"}, 403},
		"pause by another local server":     {request{method: "POST", url: pause + ":pause", origin: "http://127.0.0.1:1"}, 403},
		"pause by a rebound name":           {request{method: "POST", url: pause + ":pause", host: evil, origin: "http://" + evil, site: "same-origin"}, 403},
		"delete by another site":            {request{method: "DELETE", url: pause, origin: "https://" + evil}, 403},
		"a task by another site":            {request{method: "POST", url: url + "/v1/tasks", body: task, origin: "https://" + evil}, 403},
		"a task by a rebound name":          {request{method: "POST", url: url + "/v1/tasks", body: task, host: evil}, 403},
		"a task by curl":                    {request{method: "POST", url: url + "/v1/tasks", body: task}, 202},
		"the page by a rebound name":        {request{method: "GET", url: url + "/", host: evil}, 403},
		"the queues by a rebound name":      {request{method: "GET", url: url + "/monitor/api/queues", host: evil}, 403},
		"the metrics by a rebound name":     {request{method: "GET", url: url + "/metrics", host: evil + ":8080"}, 403},
		"the page by a configured name":     {request{method: "GET", url: url + "/", host: "dev.example:8080"}, 200},
		"the page by localhost":             {request{method: "GET", url: url + "/", host: "localhost:8080"}, 200},
		"pause by its own page":             {request{method: "POST", url: pause + ":pause", origin: url, site: "same-origin"}, 204},

		"a fault by another site":      {request{method: "POST", url: faults, body: latency, origin: "https://" + evil}, 403},
		"a fault by a rebound name":    {request{method: "POST", url: faults, body: latency, host: evil}, 403},
		"the calls by a rebound name":  {request{method: "GET", url: wx + "/sandbox/calls", host: evil}, 403},
		"the counts from dev's page":   {request{method: "GET", url: wx + "/sandbox/counts", site: "same-site"}, 200},
		"a fault by curl":              {request{method: "POST", url: faults, body: latency}, 200},
		"WeChat by any name":           {request{method: "GET", url: wx + "/cgi-bin/token", host: "api.weixin.qq.com"}, 200},
		"WeChat by a container's name": {request{method: "POST", url: wx + "/cgi-bin/stable_token", host: "wechat.test:80", body: `{}`}, 200},
	} {
		if got := tt.status(t); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
	var metrics string
	redistest.Until(t, 20*time.Second, "a lane in the metrics", func() bool {
		_, metrics = get(t, url+"/metrics")
		return strings.Contains(metrics, "wxcourier_lane_active{")
	})
	mentions(t, "the metrics", metrics, `wxcourier_http_requests_total{code="202",route="POST /v1/tasks"} 1`, "wxcourier_build_info{", "wxcourier_lane_active{")
	if got := (request{method: "POST", url: pause + ":resume"}).status(t); got != 204 {
		t.Errorf("resumed by curl: %d", got)
	}
	if code := stop(); code != statusDone {
		t.Errorf("status %d\n%s", code, stderr)
	}
}

// TestSandboxRefusesOtherSites: the accepted host names of the control API depend on the listen
// address.
func TestSandboxRefusesOtherSites(t *testing.T) {
	t.Chdir(t.TempDir())
	for listen, container := range map[string]int{"127.0.0.1:0": 403, ":0": 200} {
		_, stderr, stop := background(t, nil, "sandbox", "--listen", listen, "--host", "wechat.example")
		url := waitForAddress(t, stderr, `(http://[0-9.]+:[0-9]+)`)
		for host, want := range map[string]int{"": 200, evil: 403, "wechat.example:8090": 200, "wechat:8090": container, "10.0.0.7:8090": container} {
			if got := (request{method: "POST", url: url + "/sandbox/latency", host: host, body: `{"latency":"0s"}`}).status(t); got != want {
				t.Errorf("%s, host %q: %d, want %d", listen, host, got, want)
			}
		}
		if got := (request{method: "POST", url: url + "/sandbox/reset", origin: "https://" + evil}).status(t); got != 403 {
			t.Errorf("%s: reset by another site: %d", listen, got)
		}
		if code := stop(); code != statusDone {
			t.Errorf("status %d\n%s", code, stderr)
		}
	}
}

// TestWorkerPagesByHostName: on a loopback address a worker accepts only loopback names; otherwise
// any name, since Prometheus and probes use names that it does not know.
func TestWorkerPagesByHostName(t *testing.T) {
	t.Chdir(t.TempDir())
	env, _ := newEnv(t)
	for listen, want := range map[string]int{"127.0.0.1:0": 403, ":0": 200} {
		_, stderr, stop := background(t, env, "worker", "--listen", listen, "--log-format", "json")
		addr := waitForAddress(t, stderr, `"addr":"([^"]+)"`)
		url := "http://127.0.0.1" + addr[strings.LastIndex(addr, ":"):] + "/metrics"
		for host, status := range map[string]int{"": 200, "worker.prod.svc.cluster.local:9090": want} {
			if got := (request{method: "GET", url: url, host: host}).status(t); got != status {
				t.Errorf("%s, host %q: %d, want %d", listen, host, got, status)
			}
		}
		if code := stop(); code != statusDone {
			t.Errorf("status %d\n%s", code, stderr)
		}
	}
}
