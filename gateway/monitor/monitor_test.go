package monitor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/monitor"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	testApp = "wx0123456789abcdef"
	queue   = testApp + ":send:custom"
)

// fixture is a Monitor on a Redis, served without a network.
type fixture struct {
	*testing.T
	rdb     redis.UniversalClient
	monitor *monitor.Monitor
	log     strings.Builder
}

func newFixture(t *testing.T, rdb redis.UniversalClient, full bool) *fixture {
	t.Helper()
	f := &fixture{T: t, rdb: rdb}
	address := rdb.(*redis.Client).Options().Addr
	f.monitor = monitor.New(monitor.Config{Full: full}, monitor.Deps{
		Redis: rdb, Log: slog.New(slog.NewTextHandler(&f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		NewRedis: func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: address}) },
	})
	t.Cleanup(f.monitor.Close)
	return f
}

// enqueue puts a task of ours into a queue, as far as asynq knows it.
func (f *fixture) enqueue(id, payload string) {
	f.Helper()
	client := asynq.NewClientFromRedisClient(f.rdb)
	options := []asynq.Option{asynq.Queue(queue), asynq.TaskID(testApp + ":" + id), asynq.MaxRetry(1_000_001)}
	if _, err := client.EnqueueContext(f.Context(), asynq.NewTask("send:custom", []byte(payload)), options...); err != nil {
		f.Fatal(err)
	}
}

func reads() *apikey.Key { return &apikey.Key{ID: "reads", Scopes: []apikey.Scope{apikey.Read}} }

func operates() *apikey.Key {
	return &apikey.Key{ID: "operates", Scopes: []apikey.Scope{apikey.Read, apikey.Operate}}
}

// reply is the answer to a request.
type reply struct {
	StatusCode int
	Header     http.Header
	Body       []byte // as it was sent
}

// do sends a request with a key and headers (name, value, …).
func (f *fixture) do(key *apikey.Key, method, path, body string, headers ...string) reply {
	f.Helper()
	r := httptest.NewRequestWithContext(apikey.NewContext(f.Context(), key), method, path, strings.NewReader(body))
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	f.monitor.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.Bytes()}
}

// text returns the body of an answer, expanded.
func text(t *testing.T, a reply) string {
	t.Helper()
	if a.Header.Get("Content-Encoding") != "gzip" {
		return string(a.Body)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestPage: the page has no reference to another host, and works under its policy: each inline script
// has the nonce of the answer, and no answer has that of another.
func TestPage(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb, true)
	nonces := make(map[string]bool)
	for _, path := range []string{"/monitor", "/monitor/", "/monitor/servers", "/monitor/queues/" + queue, "/monitor/queues/" + queue + "/tasks/x.y", "/monitor/help"} {
		for _, lang := range []string{"en", "zh-CN,zh;q=0.9,en;q=0.8"} {
			a := f.do(operates(), "GET", path, "", "Accept-Language", lang, "Accept-Encoding", "gzip")
			page, policy := text(t, a), a.Header.Get("Content-Security-Policy")
			if a.StatusCode != 200 || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Fatalf("%s: %d, policy %q", path, a.StatusCode, policy)
			}
			if outside := regexp.MustCompile(`(https?:)?//[a-z0-9.-]+\.[a-z]+[^"]*`).FindString(page); outside != "" {
				t.Errorf("%s refers to %s", path, outside)
			}
			if strings.Contains(page, "控制台") != strings.HasPrefix(lang, "zh") {
				t.Errorf("%s in the wrong language for %s:\n%s", path, lang, page)
			}
			if path == "/monitor/help" {
				continue
			}
			nonce := regexp.MustCompile(`script-src 'self' 'nonce-([A-Z0-9]{20,})'`).FindStringSubmatch(policy)
			if nonce == nil || nonces[nonce[1]] {
				t.Fatalf("%s: no new nonce in %q", path, policy)
			}
			nonces[nonce[1]] = true
			for _, script := range regexp.MustCompile(`<script[^>]*>`).FindAllString(page, -1) {
				if !strings.Contains(script, `src="/monitor/static/`) && script != `<script nonce="`+nonce[1]+`">` {
					t.Errorf("%s has %s", path, script)
				}
			}
			if !strings.Contains(page, `<meta property="csp-nonce" content="`+nonce[1]+`">`) || !strings.Contains(page, `FLAG_READ_ONLY="false"`) ||
				strings.Contains(page, "onclick=") || strings.Contains(page, " style=") {
				t.Errorf("%s:\n%s", path, page)
			}
		}
	}
}

// TestFiles: each file of the page is compressed, and never asked for twice; its source map and other
// paths are not there.
func TestFiles(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb, false)
	page := text(t, f.do(reads(), "GET", "/monitor", ""))
	files := regexp.MustCompile(`(?:src|href)="(/monitor/[^"]+\.(?:js|css|ico|png)\?v=[0-9a-f]{16})"`).FindAllStringSubmatch(page, -1)
	if len(files) < 6 {
		t.Fatalf("%d files in\n%s", len(files), page)
	}
	for _, file := range files {
		packed, plain := f.do(reads(), "GET", file[1], "", "Accept-Encoding", "br, gzip"), f.do(reads(), "GET", file[1], "", "Accept-Encoding", "gzip;q=0")
		for _, a := range []reply{packed, plain} {
			if a.StatusCode != 200 || !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || a.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s: %d %v", file[1], a.StatusCode, a.Header)
			}
			again := f.do(reads(), "GET", file[1], "", "Accept-Encoding", "gzip", "If-None-Match", packed.Header.Get("ETag"))
			if again.StatusCode != 304 || text(t, again) != "" {
				t.Errorf("%s again: %d", file[1], again.StatusCode)
			}
		}
		content := text(t, plain)
		if plain.Header.Get("Content-Encoding") != "" || text(t, packed) != content || content == "" {
			t.Errorf("%s differs", file[1])
		}
		if strings.Contains(file[1], ".js") && (packed.Header.Get("Content-Encoding") != "gzip" || len(packed.Body)*2 > len(plain.Body)) {
			t.Errorf("%s: %v, %d of %d bytes", file[1], packed.Header, len(packed.Body), len(plain.Body))
		}
		if strings.Contains(content, "sourceMappingURL") || strings.Contains(file[1], ".css") && regexp.MustCompile(`@import|url\(`).MatchString(content) {
			t.Errorf("%s names a source map or another sheet", file[1])
		}
		name, _, _ := strings.Cut(file[1], "?")
		if a := f.do(reads(), "GET", name, ""); !strings.Contains(a.Header.Get("Cache-Control"), "no-cache") {
			t.Errorf("%s without its tag: %v", name, a.Header)
		}
		if strings.HasSuffix(name, ".js") {
			if a := f.do(reads(), "GET", name+".map", ""); a.StatusCode != 404 {
				t.Errorf("%s.map: %d", name, a.StatusCode)
			}
		}
	}
	for _, path := range []string{"/monitor/static/js/other.js", "/monitor/static/", "/monitor/static/js/../js/x.map"} {
		if a := f.do(reads(), "GET", path, ""); a.StatusCode != 404 {
			t.Errorf("%s: %d", path, a.StatusCode)
		}
	}
}

// TestKeys: what a key may do, and what it is told.
func TestKeys(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		limited := &apikey.Key{ID: "limited", Scopes: apikey.Scopes(), Apps: []string{testApp}}
		enqueues := &apikey.Key{ID: "enqueues", Scopes: []apikey.Scope{apikey.Enqueue, apikey.Operate}}
		const pause = "/monitor/api/queues/" + queue + ":pause"
		for _, tt := range []struct {
			full         bool
			key          *apikey.Key
			method, path string
			want         int
			text         string // of the answer
		}{
			{false, reads(), "GET", "/monitor", 200, `FLAG_READ_ONLY="true"`},
			{false, operates(), "GET", "/monitor", 200, `FLAG_READ_ONLY="true"`},
			{true, reads(), "GET", "/monitor", 200, `FLAG_READ_ONLY="true"`},
			{true, operates(), "GET", "/monitor", 200, `FLAG_READ_ONLY="false"`},
			{false, reads(), "GET", "/monitor/api/queues", 200, queue},
			{false, limited, "GET", "/monitor", 403, "some apps only"},
			{true, limited, "GET", "/monitor/api/queues", 403, "some apps only"},
			{true, limited, "GET", "/monitor/help", 403, "some apps only"},
			{true, enqueues, "GET", "/monitor", 403, "scope read"},
			{true, enqueues, "POST", pause, 403, "scope read"},
			{false, operates(), "POST", pause, 403, "gateway.monitor: full"},
			{true, reads(), "POST", pause, 403, "scope operate"},
			{true, reads(), "DELETE", "/monitor/api/queues/" + queue, 403, "scope operate"},
			{true, operates(), "POST", "/monitor", 405, "pages are only read"},
			{true, operates(), "POST", pause, 204, ""},
		} {
			f := newFixture(t, rdb, tt.full)
			if tt.path == "/monitor/api/queues" && tt.want == 200 {
				f.enqueue("a", `{}`)
			}
			a := f.do(tt.key, tt.method, tt.path, "")
			if body := text(t, a); a.StatusCode != tt.want || !strings.Contains(body, tt.text) {
				t.Errorf("%s %s by %s (full %v): %d %s, want %d", tt.method, tt.path, tt.key.ID, tt.full, a.StatusCode, body, tt.want)
			}
		}
		f := newFixture(t, rdb, false)
		a := f.do(limited, "GET", "/monitor", "", "Accept", "text/html,*/*", "Accept-Language", "zh")
		if page := text(t, a); a.StatusCode != 403 || !strings.Contains(page, "部分应用") || !strings.Contains(a.Header.Get("Content-Type"), "text/html") {
			t.Errorf("for a browser: %d %s", a.StatusCode, page)
		}
	})
}

// TestShownTasks: a list shows the payload of a task as JSON, also one that asynqmon takes for not
// printable, and is compressed.
func TestShownTasks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb, false)
		payload := `{"body":{"text":{"content":"👩‍👧 您好"}}}`
		f.enqueue("a-b", payload)
		a := f.do(reads(), "GET", "/monitor/api/queues/"+queue+"/pending_tasks?page=1&size=20", "", "Accept-Encoding", "gzip")
		var list struct {
			Tasks []struct{ ID, Payload string }
		}
		if err := json.Unmarshal([]byte(text(t, a)), &list); err != nil || a.Header.Get("Content-Encoding") != "gzip" || a.Header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%v %v", err, a.Header)
		}
		if len(list.Tasks) != 1 || list.Tasks[0].ID != testApp+":a-b" || list.Tasks[0].Payload != payload {
			t.Errorf("%+v", list)
		}
	})
}

// TestChangesAreRecorded: each change is recorded with its key, and without a payload.
func TestChangesAreRecorded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb, true)
		for _, id := range []string{"a", "b", "c", "d"} {
			f.enqueue(id, `{"body":{"touser":"oSecretPerson"}}`)
		}
		for _, change := range []struct{ method, path, body string }{
			{"POST", queue + ":pause", ""},
			{"DELETE", queue + "/pending_tasks/" + testApp + ":a", ""},
			{"POST", queue + "/pending_tasks:batch_archive", `{"task_ids":["` + testApp + `:b","` + testApp + `:none"]}`},
			{"DELETE", queue + "/pending_tasks:delete_all", ""},
		} {
			if a := f.do(operates(), change.method, "/monitor/api/queues/"+change.path, change.body); a.StatusCode >= 300 {
				t.Fatalf("%+v: %d %s", change, a.StatusCode, text(t, a))
			}
		}
		if a := f.do(operates(), "DELETE", "/monitor/api/queues/"+queue+"/pending_tasks/"+testApp+":none", ""); a.StatusCode < 400 {
			t.Errorf("a missing task: %d", a.StatusCode)
		}
		entries, _, err := audit.List(context.Background(), rdb, audit.Query{Limit: 10})
		if err != nil {
			t.Fatal(err)
		}
		var got []audit.Entry
		for _, e := range entries {
			if e.ID == "" || e.At.IsZero() || e.By != "key:operates" || e.Via != "console" || e.Action != audit.Monitor || e.App != testApp {
				t.Errorf("%+v", e)
			}
			got = append(got, audit.Entry{Target: e.Target, Note: e.Note, Count: e.Count})
		}
		want := []audit.Entry{ // the newest first
			{Target: queue, Note: "delete_all pending", Count: 2},
			{Target: queue, Note: "batch_archive pending", Count: 1},
			{Target: testApp + ":a", Note: "delete pending", Count: 1},
			{Target: queue, Note: "pause"},
		}
		if len(got) != len(want) {
			t.Fatalf("%+v", got)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%+v, want %+v", got[i], want[i])
			}
		}
		if strings.Contains(f.log.String(), "oSecretPerson") {
			t.Error(f.log.String())
		}
	})
}

// TestForbiddenCommands: a Redis that forbids INFO, and MEMORY in scripts, as some hosted ones, is
// shown without them.
func TestForbiddenCommands(t *testing.T) {
	server := redistest.Start(t, "--rename-command", "MEMORY", "", "--rename-command", "INFO", "")
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = rdb.Close() }()
	f := newFixture(t, rdb, false)
	f.enqueue("a", `{}`)
	for range 2 { // the script is loaded by then
		if a := f.do(reads(), "GET", "/monitor/api/queues", ""); a.StatusCode != 200 || !strings.Contains(text(t, a), `"memory_usage_bytes":0`) {
			t.Errorf("queues: %d %s", a.StatusCode, text(t, a))
		}
	}
	a := f.do(reads(), "GET", "/monitor/api/redis_info", "")
	if body := text(t, a); a.StatusCode != 200 || !json.Valid([]byte(body)) || !strings.Contains(body, "does not answer INFO") {
		t.Errorf("Redis: %d %s", a.StatusCode, body)
	}
}
