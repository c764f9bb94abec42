package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	testApp  = "wx0123456789abcdef"
	otherApp = "wx00000000000000ff"
	openid   = "oSecretPerson"
)

// fixture is a gateway on a Redis, served over HTTP.
type fixture struct {
	*testing.T
	gateway *gateway.Gateway
	cfg     configs.Config
	parts   *app.Parts
	url     string
	log     *e2e.Output
	keys    []string // no answer and no log may contain one
}

// newFixture returns a gateway that is not served yet; change cfg, make keys, and call serve.
func newFixture(t *testing.T, rdb redis.UniversalClient) *fixture {
	t.Helper()
	f := &fixture{T: t, log: &e2e.Output{}, cfg: configs.Default()}
	client, ok := rdb.(*redis.Client)
	if !ok {
		t.Fatalf("%T", rdb)
	}
	f.cfg.Redis.Addrs = []string{client.Options().Addr}
	f.cfg.Apps = []configs.App{{ID: testApp}, {ID: otherApp}}
	f.cfg.Gateway.KeysFile = filepath.Join(t.TempDir(), "keys")
	return f
}

// key makes a key.
func (f *fixture) key(k apikey.Key) string {
	f.Helper()
	key, err := apikey.Add(f.cfg.Gateway.KeysFile, k)
	if err != nil {
		f.Fatal(err)
	}
	f.keys = append(f.keys, key)
	return key
}

func (f *fixture) serve() {
	f.Helper()
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	parts, err := app.New(f.cfg, log, app.SandboxCredentials())
	if err != nil {
		f.Fatal(err)
	}
	f.parts = parts
	if f.gateway, err = parts.Gateway(false, ""); err != nil {
		parts.Close()
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	var running sync.WaitGroup
	running.Go(func() { f.gateway.Run(ctx) })
	server := httptest.NewServer(httpguard.New(f.cfg.Gateway.Listen).Protect(f.gateway))
	f.url = server.URL
	f.Cleanup(func() {
		f.gateway.Drain()
		server.Close()
		cancel()
		running.Wait()
		f.gateway.Close()
		parts.Close()
		f.clean("the log", f.log.String())
	})
}

// clean fails the test if a text has a key or a value of a request.
func (f *fixture) clean(where, text string) {
	f.Helper()
	for _, hidden := range append(f.keys, openid, "secret-in-query") {
		if strings.Contains(text, hidden) {
			f.Errorf("%s contains %q:\n%s", where, hidden, text)
		}
	}
}

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request with a key; "" is none.
func (f *fixture) do(method, path, key string, body io.Reader) answer {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), method, f.url+path, body)
	if err != nil {
		f.Fatal(err)
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return f.send(r)
}

func (f *fixture) send(r *http.Request) answer {
	f.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		f.Fatal(err)
	}
	f.clean("an answer", string(text))
	return answer{response.StatusCode, response.Header, string(text)}
}

// want fails the test unless an answer has a status and, from 400 on, is a problem with a detail.
func (f *fixture) want(what string, a answer, status int, detail string) {
	f.Helper()
	if a.status != status {
		f.Errorf("%s: %d %s, want %d", what, a.status, a.body, status)
		return
	}
	if status < 400 {
		return
	}
	var p problem.Problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != status || a.header.Get("Content-Type") != problem.ContentType || !strings.Contains(p.Detail, detail) {
		f.Errorf("%s: %s %s, want a problem with %q", what, a.header.Get("Content-Type"), a.body, detail)
	}
}

// task returns the JSON of a task.
func task(app, id string) io.Reader {
	return strings.NewReader(fmt.Sprintf(`{"type":"send:custom","app":%q,"id":%q,"body":{"touser":%q,"msgtype":"text","text":{"content":"x"}}}`, app, id, openid))
}

// TestKeys: what a key allows is allowed, and nothing else.
func TestKeys(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		shop := f.key(apikey.Key{ID: "shop", Scopes: []apikey.Scope{apikey.Enqueue}, Apps: []string{testApp}})
		reader := f.key(apikey.Key{ID: "reader", Scopes: []apikey.Scope{apikey.Read}})
		expired := f.key(apikey.Key{ID: "expired", Scopes: apikey.Scopes(), Expires: time.Now().Add(-time.Hour)})
		revoked := f.key(apikey.Key{ID: "revoked", Scopes: apikey.Scopes()})
		f.serve()

		f.want("a valid key", f.do("POST", "/v1/tasks", shop, task(testApp, "a")), 202, "")
		f.want("as a password", f.basic("POST", "/v1/tasks", shop, task(testApp, "b")), 202, "")
		f.want("another app", f.do("POST", "/v1/tasks", shop, task(otherApp, "c")), 403, "may not use this app")
		f.want("another scope", f.do("POST", "/v1/tasks", reader, task(testApp, "d")), 403, "scope enqueue")
		f.want("its scope", f.do("GET", "/v1/tasks/"+testApp+"/a", reader, nil), 200, "")

		f.want("a key that will be revoked", f.do("GET", "/v1/tasks/"+testApp+"/a", revoked, nil), 200, "")
		if err := apikey.Revoke(f.cfg.Gateway.KeysFile, []string{"revoked"}); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 20*time.Second, "the key is revoked", func() bool {
			return f.do("GET", "/v1/tasks/"+testApp+"/a", revoked, nil).status == 401
		})
		none := f.do("POST", "/v1/tasks", "", task(testApp, "e"))
		for what, key := range map[string]string{
			"no key": "", "a wrong key": shop + "x", "another secret": shop[:len(shop)-4] + "2222", "an expired key": expired, "a revoked key": revoked, "local": "local",
		} {
			a := f.do("POST", "/v1/tasks", key, task(testApp, "e"))
			f.want(what, a, 401, "a valid key is required")
			if schemes := strings.Join(a.header.Values("WWW-Authenticate"), " "); a.body != none.body || !strings.Contains(schemes, "Bearer") || !strings.Contains(schemes, "Basic") {
				t.Errorf("%s: %s %s", what, schemes, a.body)
			}
		}
		f.want("the key in the query", f.do("GET", "/v1/tasks/"+testApp+"/a?key="+reader, "", nil), 401, "a valid key")
		for _, open := range []string{"/healthz", "/readyz", "/metrics"} {
			f.want(open, f.do("GET", open, "", nil), 200, "")
		}
	})
}

func (f *fixture) basic(method, path, key string, body io.Reader) answer {
	r, err := http.NewRequestWithContext(f.Context(), method, f.url+path, body)
	if err != nil {
		f.Fatal(err)
	}
	r.SetBasicAuth("anyone", key)
	return f.send(r)
}

// TestLimits: the rate and the size of a key.
func TestLimits(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	slow := f.key(apikey.Key{ID: "slow", Scopes: apikey.Scopes(), Rate: 0.01})
	small := f.key(apikey.Key{ID: "small", Scopes: apikey.Scopes(), MaxBody: 300})
	usual := f.key(apikey.Key{ID: "usual", Scopes: apikey.Scopes()})
	f.serve()

	f.want("the first request", f.do("POST", "/v1/tasks:batch", slow, task(testApp, "a")), 200, "")
	a := f.do("POST", "/v1/tasks", slow, task(testApp, "b"))
	f.want("the second", a, 429, "rate")
	if after := a.header.Get("Retry-After"); after != "100" && after != "99" {
		t.Errorf("Retry-After: %s", after)
	}

	spaces := func(n int) io.Reader { return strings.NewReader(strings.Repeat("\n", n)) }
	f.want("small", f.do("POST", "/v1/tasks", small, task(testApp, "c")), 202, "")
	for _, path := range []string{"/v1/tasks", "/v1/tasks:batch"} {
		f.want("larger than the key's size", f.do("POST", path, small, spaces(301)), 413, "300 bytes")
	}
	f.want("larger, and not said before", f.do("POST", "/v1/tasks", small, io.MultiReader(spaces(301))), 413, "300 bytes")
	if a := f.do("POST", "/v1/tasks:batch", small, io.MultiReader(spaces(301))); a.status != 413 {
		t.Errorf("a batch that is larger, and not said before: %d %s", a.status, a.body)
	}
	f.want("larger than the default", f.do("POST", "/v1/tasks", usual, spaces(16<<20+1)), 413, fmt.Sprint(16<<20))
	f.want("a batch has no default", f.do("POST", "/v1/tasks:batch", usual, io.MultiReader(spaces(16<<20+1), task(testApp, "d"))), 200, "")
}

// TestStreamEndsWithKey: a request that waits ends when its key is revoked.
func TestStreamEndsWithKey(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	key := f.key(apikey.Key{ID: "reader", Scopes: []apikey.Scope{apikey.Read, apikey.Enqueue}})
	f.key(apikey.Key{ID: "other", Scopes: apikey.Scopes()})
	f.serve()
	f.want("enqueued", f.do("POST", "/v1/tasks", key, task(testApp, "a")), 202, "")
	ended := make(chan time.Duration, 1)
	go func() {
		start := time.Now()
		f.do("GET", "/v1/tasks/"+testApp+"/a?wait=60s", key, nil)
		ended <- time.Since(start)
	}()
	redistest.Until(t, 20*time.Second, "the request waits", func() bool {
		return strings.Contains(f.do("GET", "/metrics", "", nil).body, `wxcourier_http_requests_total{code="202",route="POST /v1/tasks"} 1`)
	})
	if err := apikey.Revoke(f.cfg.Gateway.KeysFile, []string{"reader"}); err != nil {
		t.Fatal(err)
	}
	if took := <-ended; took > 30*time.Second {
		t.Errorf("the request waited %v", took)
	}
}

// TestDrainAnswersWaits: at a shutdown a request that only waits is answered at once, with the task
// as it is.
func TestDrainAnswersWaits(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.cfg.Gateway.KeysFile = ""
	f.serve()
	f.want("enqueued", f.do("POST", "/v1/tasks", "", task(testApp, "a")), 202, "")
	answered := make(chan answer, 1)
	start := time.Now()
	go func() { answered <- f.do("GET", "/v1/tasks/"+testApp+"/a?wait=60s", "", nil) }()
	f.want("ready", f.do("GET", "/readyz", "", nil), 200, "")
	f.gateway.Drain()
	if a := <-answered; a.status != 200 || !strings.Contains(a.body, `"waiting"`) || time.Since(start) > 30*time.Second {
		t.Errorf("%d %s after %v", a.status, a.body, time.Since(start))
	}
	if a := f.do("GET", "/readyz", "", nil); a.status != 503 || !strings.Contains(a.body, "shutting down") {
		t.Errorf("ready while it shuts down: %+v", a)
	}
	f.want("alive", f.do("GET", "/healthz", "", nil), 200, "")
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	mini, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.cfg.Gateway.KeysFile = ""
	f.serve()
	f.want("with Redis", f.do("GET", "/readyz", "", nil), 200, "")
	mini.Close()
	if a := f.do("GET", "/readyz", "", nil); a.status != 503 || !strings.Contains(a.body, "Redis does not answer") {
		t.Errorf("without Redis: %+v", a)
	}
	f.want("alive without Redis", f.do("GET", "/healthz", "", nil), 200, "")
}

// TestMonitor: the asynq web UI by its setting and by key.
func TestMonitor(t *testing.T) {
	for _, tt := range []struct {
		monitor            gateway.Monitor
		reads, operates    int // status of a pause by a key with the scope read, and read and operate
		shown              int
		readsEdit, opsEdit bool // whether the page has its buttons
	}{
		{gateway.MonitorOff, 404, 404, 404, false, false},
		{gateway.MonitorRead, 403, 403, 200, false, false},
		{gateway.MonitorFull, 403, 204, 200, false, true},
	} {
		t.Run(string(tt.monitor), func(t *testing.T) {
			_, rdb := redistest.Mini(t)
			f := newFixture(t, rdb)
			f.cfg.Gateway.Monitor = tt.monitor
			reads := f.key(apikey.Key{ID: "reads", Scopes: []apikey.Scope{apikey.Read}})
			operates := f.key(apikey.Key{ID: "operates", Scopes: []apikey.Scope{apikey.Read, apikey.Operate}})
			enqueues := f.key(apikey.Key{ID: "enqueues", Scopes: []apikey.Scope{apikey.Enqueue, apikey.Operate}})
			limited := f.key(apikey.Key{ID: "limited", Scopes: apikey.Scopes(), Apps: []string{testApp}})
			f.serve()
			f.want("a task", f.do("POST", "/v1/tasks", enqueues, task(testApp, "a")), 202, "")
			for key, edits := range map[string]bool{reads: tt.readsEdit, operates: tt.opsEdit} {
				page := f.do("GET", "/monitor", key, nil)
				if page.status != tt.shown || tt.shown == 200 && strings.Contains(page.body, `FLAG_READ_ONLY="false"`) != edits {
					t.Errorf("page: %d\n%s", page.status, page.body)
				}
				if policy := page.header.Get("Content-Security-Policy"); tt.shown == 200 && !strings.Contains(policy, "default-src 'none'") {
					t.Errorf("policy %q", policy)
				}
			}
			queue := "/monitor/api/queues/" + testApp + ":send:custom:pause"
			for key, want := range map[string]int{reads: tt.reads, operates: tt.operates} {
				if a := f.do("POST", queue, key, nil); a.status != want {
					t.Errorf("pause: %d %s, want %d", a.status, a.body, want)
				}
			}
			if tt.monitor == gateway.MonitorOff {
				return
			}
			f.want("without a key", f.do("GET", "/monitor/api/queues", "", nil), 401, "")
			f.want("without the scope read", f.do("GET", "/monitor/api/queues", enqueues, nil), 403, "scope read")
			f.want("of one app", f.do("GET", "/monitor", limited, nil), 403, "some apps only")
			r, _ := http.NewRequestWithContext(t.Context(), "POST", f.url+queue, nil)
			r.SetBasicAuth("", operates)
			r.Header.Set("Origin", "https://evil.example")
			if a := f.send(r); a.status != 403 || !strings.Contains(a.body, "cross-origin") {
				t.Errorf("by another site: %+v", a)
			}
		})
	}
}

// TestMetrics: the labels are patterns and statuses, and nothing of a path or a query.
func TestMetrics(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.cfg.Gateway.KeysFile = ""
	f.serve()
	f.do("POST", "/v1/tasks", "", task(testApp, "a"))
	f.do("POST", "/v1/tasks", "", strings.NewReader("x"))
	f.do("GET", "/v1/tasks/"+testApp+"/a?wait=0s&x=secret-in-query", "", nil)
	f.do("GET", "/v1/tasks/"+testApp+"/a", "", nil)
	f.do("GET", "/v1/no-such-path", "", nil)
	f.do("GET", "/nowhere?x=secret-in-query", "", nil)
	f.do("PUT", "/healthz", "", nil)
	text := f.do("GET", "/metrics", "", nil).body
	got := make(map[string]bool)
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "wxcourier_http_requests_total") {
			got[lines.Text()] = true
		}
	}
	for _, want := range []string{
		`{code="202",route="POST /v1/tasks"} 1`, `{code="400",route="POST /v1/tasks"} 1`, `{code="200",route="GET /v1/tasks/{app}/{id}"} 1`,
		`{code="422",route="GET /v1/tasks/{app}/{id}"} 1`, `{code="404",route="/v1/"} 1`, `{code="404",route="other"} 1`, `{code="405",route="other"} 1`,
	} {
		if !got["wxcourier_http_requests_total"+want] {
			t.Errorf("no %s in\n%v", want, got)
		}
		delete(got, "wxcourier_http_requests_total"+want)
	}
	if len(got) > 0 {
		t.Errorf("also %v", got)
	}
	if !strings.Contains(text, "wxcourier_build_info{") || !regexp.MustCompile(`wxcourier_http_seconds_count{route="POST /v1/tasks"} 2`).MatchString(text) {
		t.Error(text)
	}
	f.clean("the metrics", text)
	if !strings.Contains(f.log.String(), "path=/nowhere") {
		t.Errorf("no line in the access log:\n%s", f.log)
	}
}

// TestListenNeedsKeys: other machines are served only with keys.
func TestListenNeedsKeys(t *testing.T) {
	for _, tt := range []struct {
		listen, file string // file: "", "empty", "key" or "missing"
		want         string
	}{
		{"127.0.0.1:8080", "", ""},
		{"localhost:8080", "", ""},
		{"[::1]:8080", "empty", ""},
		{":8080", "", "set gateway.keys_file"},
		{"0.0.0.0:8080", "", "make a key with `wxcourier key new --id ID`"},
		{"192.168.1.7:8080", "empty", "has none: make one with `wxcourier key new --id ID`"},
		{"[::]:8080", "key", ""},
		{"127.0.0.1:8080", "missing", "does not exist; `wxcourier key new --id ID` makes it"},
	} {
		t.Run(tt.listen+" "+tt.file, func(t *testing.T) {
			_, rdb := redistest.Mini(t)
			f := newFixture(t, rdb)
			f.cfg.Gateway.Listen = tt.listen
			switch tt.file {
			case "":
				f.cfg.Gateway.KeysFile = ""
			case "empty":
				if err := os.WriteFile(f.cfg.Gateway.KeysFile, []byte("# none yet\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			case "key":
				f.key(apikey.Key{ID: "a", Scopes: apikey.Scopes()})
			}
			parts, err := app.New(f.cfg, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer parts.Close()
			g, err := parts.Gateway(false, "")
			if err == nil {
				g.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	c := gateway.DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	c.Listen, c.Hosts, c.TLS.KeyFile, c.Monitor, c.Wait, c.ShutdownTimeout = "x", []string{"ok.example", "https://a"}, "k", "raed", -1, 0
	err := c.Validate()
	for _, want := range []string{"listen: ", "hosts[1]: ", "tls.cert_file: missing", "did you mean read?", "wait: ", "shutdown_timeout: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
