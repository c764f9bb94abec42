package api_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// enqueuedTask is the answer to POST /v1/tasks.
type enqueuedTask struct {
	tasks.Receipt
	Task *inspect.Task `json:"task"`
}

// pending returns how many tasks wait in the queue of the test's app.
func (f *fixture) pending() int64 {
	f.Helper()
	n, err := f.rdb.LLen(f.Context(), asynqwire.Key(queue, asynqwire.Pending)).Result()
	if err != nil {
		f.Fatal(err)
	}
	return n
}

func TestEnqueue(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		first := f.do(http.MethodPost, "/v1/tasks", envelope("1"))
		if r := decode[enqueuedTask](f, first.body); first.status != http.StatusAccepted || r.ID != "1" || r.Queue == "" || r.Already || r.Task != nil {
			t.Errorf("the first request: %d %s", first.status, first.body)
		}
		again := f.do(http.MethodPost, "/v1/tasks", envelope("1"))
		if r := decode[enqueuedTask](f, again.body); again.status != http.StatusOK || !r.Already || r.Done || r.Differs {
			t.Errorf("again: %d %s", again.status, again.body)
		}
		differs := f.do(http.MethodPost, "/v1/tasks", envelopeOf(app, "1", "another"))
		if r := decode[enqueuedTask](f, differs.body); differs.status != http.StatusOK || !r.Differs {
			t.Errorf("another body: %d %s", differs.status, differs.body)
		}
		f.end("1", tasks.OutcomeAccepted)
		done := f.do(http.MethodPost, "/v1/tasks", envelope("1"))
		if r := decode[enqueuedTask](f, done.body); done.status != http.StatusOK || !r.Done {
			t.Errorf("after its end: %d %s", done.status, done.body)
		}
		if r := decode[enqueuedTask](f, f.do(http.MethodPost, "/v1/tasks", envelope("")).body); r.ID == "" {
			t.Error("a task without an id got none")
		}
		if n := f.pending(); n != 2 {
			t.Errorf("%d tasks wait", n)
		}
	})
}

func TestEnqueueRefuses(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	if a := f.do(http.MethodPost, "/v1/tasks", envelope("taken")); a.status != http.StatusAccepted {
		t.Fatal(a.body)
	}
	check := `{"type":"seccheck:text","app":"` + app + `","id":"taken","body":{"content":"x","version":2,"scene":1,"openid":"` + openid + `"}}`
	for _, tt := range []struct {
		name, body string
		status     int
		location   string
		says       string
	}{
		{"no JSON", `{"type":`, 400, "", "not valid JSON"},
		{"a text", `"` + message + `"`, 422, "", "JSON object"},
		{"nothing", ``, 400, "", "empty"},
		{"an unknown field", `{"type":"send:custom","app":"` + app + `","ID":"1","body":{}}`, 422, "ID", `did you mean \"id\"`},
		{"a wrong type", `{"type":"send:custom","app":"` + app + `","id":["` + message + `"],"body":{}}`, 422, "id", "string"},
		{"a fault in the body", `{"type":"send:custom","app":"` + app + `","body":{"touser":"` + openid + `","msgtype":"text","text":{"content":7}}}`, 422, "body.text.content", ""},
		{"an unknown type", strings.Replace(envelope("1"), "send:custom", message, 1), 422, "type", "the value is not a task type"},
		{"an unknown priority", strings.Replace(envelope("1"), "{", `{"priority":"`+message+`",`, 1), 422, "priority", "the value is neither"},
		{"an unknown word", strings.Replace(envelope("1"), `"msgtype":"text"`, `"msgtype":"`+message+`"`, 1), 422, "body.msgtype", "the value is none of"},
		{"no app id", envelopeOf(openid, "1", "x"), 422, "app", ""},
		{"another app", envelopeOf(alien, "1", "x"), 422, "app", "not configured"},
		{"an id of another type", check, 409, "id", "another type"},
		{"a large body", envelopeOf(app, "1", strings.Repeat(message, 1<<17)), 413, "", "2097152"},
	} {
		a := f.do(http.MethodPost, "/v1/tasks", tt.body)
		p := f.problem(a, tt.status)
		located := tt.location == ""
		for _, fault := range p.Errors {
			located = located || fault.Location == tt.location
		}
		if !located || !strings.Contains(a.body, tt.says) {
			t.Errorf("%s: %s", tt.name, a.body)
		}
	}
	if n := f.pending(); n != 1 {
		t.Errorf("%d tasks wait", n)
	}
}

// TestNoValueInProblems: what huma itself refuses is answered without the value.
func TestNoValueInProblems(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	for _, path := range []string{
		"/v1/tasks/" + openid + "/1", "/v1/tasks/" + app + "/" + openid + "%20", "/v1/tasks/" + app + "/1?wait=" + openid,
		"/v1/tasks/" + app + "/1?x=" + openid, "/v1/tasks/" + app + "/1?wait=61s", "/v1/tasks/" + app + "/1?wait=-1s",
	} {
		if p := f.problem(f.do(http.MethodGet, path, ""), http.StatusUnprocessableEntity); len(p.Errors) != 1 || p.Errors[0].Location == "" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	f.problem(f.do(http.MethodGet, "/v1/"+openid, ""), http.StatusNotFound)
	p := f.problem(f.do(http.MethodPost, "/v1/tasks", `{"app":"`+app+`","unknown":{"`+openid+`":`), http.StatusBadRequest)
	if len(p.Errors) != 1 || p.Errors[0].Location != "unknown" {
		t.Errorf("a name inside of an unknown field: %+v", p)
	}
	wrong := f.do(http.MethodPut, "/v1/tasks", "")
	if f.problem(wrong, http.StatusMethodNotAllowed); !slices.Equal(wrong.header.Values("Allow"), []string{http.MethodGet, http.MethodPost}) {
		t.Errorf("Allow: %v", wrong.header.Values("Allow"))
	}
}

func TestKeysLimitOperations(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	path := "/v1/tasks/" + app + "/1"
	operations := []struct {
		method, path, body string
		scope              apikey.Scope
	}{
		{http.MethodPost, "/v1/tasks", envelope("1"), apikey.Enqueue},
		{http.MethodGet, path, "", apikey.Read},
		{http.MethodGet, path + "/image", "", apikey.Read},
		{http.MethodDelete, path, "", apikey.Enqueue},
		{http.MethodPost, "/v1/tasks:batch", envelope("1"), apikey.Enqueue},
	}
	for _, op := range operations {
		f.as(nil)
		f.problem(f.do(op.method, op.path, op.body), http.StatusUnauthorized)
		for _, scope := range apikey.Scopes() {
			f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{scope}})
			if a := f.do(op.method, op.path, op.body); (a.status == http.StatusForbidden) != (scope != op.scope) {
				t.Errorf("%s %s with the scope %s: %d", op.method, op.path, scope, a.status)
			}
		}
		f.as(&apikey.Key{ID: "k", Scopes: apikey.Scopes(), Apps: []string{other}})
		a := f.do(op.method, op.path, op.body)
		if !strings.Contains(a.body, "may not use this app") || a.status != http.StatusForbidden && !strings.Contains(a.body, `"status":403`) {
			t.Errorf("%s %s with another app: %d %s", op.method, op.path, a.status, a.body)
		}
	}
	f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Enqueue}})
	f.problem(f.do(http.MethodPost, "/v1/tasks?wait=1s", envelope("2")), http.StatusForbidden)
	f.as(&apikey.Key{ID: "k", Scopes: apikey.Scopes(), MaxBody: 50})
	f.problem(f.do(http.MethodPost, "/v1/tasks", envelope("2")), http.StatusRequestEntityTooLarge)
}

func TestCompressedBody(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	zip := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		return b.String()
	}
	if a := f.do(http.MethodPost, "/v1/tasks", zip(envelope("1")), "Content-Encoding", "gzip"); a.status != http.StatusAccepted {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.problem(f.do(http.MethodPost, "/v1/tasks", zip(strings.Repeat(" ", 3<<20)), "Content-Encoding", "gzip"), http.StatusRequestEntityTooLarge)
	f.problem(f.do(http.MethodPost, "/v1/tasks", envelope("2"), "Content-Encoding", "gzip"), http.StatusBadRequest)
	f.problem(f.do(http.MethodPost, "/v1/tasks", envelope("2"), "Content-Encoding", "br"), http.StatusUnsupportedMediaType)
}

func TestTaskAndCancel(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f, path := newFixture(t, rdb), "/v1/tasks/"+app+"/1"
		f.problem(f.do(http.MethodGet, path, ""), http.StatusNotFound)
		f.problem(f.do(http.MethodDelete, path, ""), http.StatusNotFound)
		f.do(http.MethodPost, "/v1/tasks", envelope("1"))
		if task := decode[inspect.Task](f, f.do(http.MethodGet, path, "").body); task.State != tasks.StateWaiting || task.Place != inspect.PlaceWaiting || task.Position == nil {
			t.Errorf("a waiting task: %+v", task)
		}
		for range 2 {
			a := f.do(http.MethodDelete, path, "")
			if a.status != http.StatusOK || !strings.Contains(a.body, `"place":"canceled"`) {
				t.Errorf("cancel: %d %s", a.status, a.body)
			}
		}
		f.end("1", tasks.OutcomeCanceled)
		if a := f.do(http.MethodDelete, path, ""); a.status != http.StatusOK {
			t.Errorf("cancel a canceled task: %d %s", a.status, a.body)
		}
		f.do(http.MethodPost, "/v1/tasks", envelope("2"))
		f.end("2", tasks.OutcomeAccepted)
		if p := f.problem(f.do(http.MethodDelete, "/v1/tasks/"+app+"/2", ""), http.StatusConflict); !strings.Contains(p.Detail, "accepted") {
			t.Errorf("cancel an ended task: %+v", p)
		}
		if task := decode[inspect.Task](f, f.do(http.MethodGet, "/v1/tasks/"+app+"/2", "").body); task.Outcome != tasks.OutcomeAccepted {
			t.Errorf("an ended task: %+v", task)
		}
	})
}

func TestImage(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	path := "/v1/tasks/" + app + "/1/image"
	f.problem(f.do(http.MethodGet, path, ""), http.StatusNotFound)
	for media, image := range map[string]string{"image/png": "\x89PNG\r\n\x1a\n bytes", "image/jpeg": "\xff\xd8\xff bytes"} {
		id := strings.TrimPrefix(media, "image/")
		_, err := newLedger(rdb).Settle(t.Context(), ledger.Ref{App: app, ID: id}, ledger.SettleRequest{
			Outcome: "accepted", Result: []byte(`{}`), Image: []byte(image), Queue: tasks.QueueName(app, tasks.TypeUnlimitedCode, tasks.Urgent),
		})
		if err != nil {
			t.Fatal(err)
		}
		a := f.do(http.MethodGet, "/v1/tasks/"+app+"/"+id+"/image", "")
		if a.status != http.StatusOK || a.header.Get("Content-Type") != media || a.body != image {
			t.Errorf("%s: %d %v %q", media, a.status, a.header, a.body)
		}
	}
}

// TestConcurrentRequestsShareRounds: many requests at once are all answered, each with its own
// receipt, and an id that several of them have is enqueued once.
func TestConcurrentRequestsShareRounds(t *testing.T) {
	f := newFixture(t, redistest.Start(t).Client(t))
	const clients, each = 16, 40
	var mu sync.Mutex
	fresh := make(map[string]int)
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				id := fmt.Sprintf("%d-%d", c/2, n) // of two clients
				a, err := f.try(http.MethodPost, "/v1/tasks", strings.NewReader(envelope(id)))
				if err != nil || a.status != http.StatusAccepted && a.status != http.StatusOK || !strings.Contains(a.body, `"id":"`+id+`"`) {
					t.Errorf("%s: %d %s %v", id, a.status, a.body, err)
				}
				if a.status == http.StatusAccepted {
					mu.Lock()
					fresh[id]++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if n := f.pending(); n != clients/2*each || len(fresh) != clients/2*each {
		t.Errorf("%d tasks wait, %d were new", n, len(fresh))
	}
	for id, n := range fresh {
		if n != 1 {
			t.Errorf("%s was new %d times", id, n)
		}
	}
}

// TestRedisAway: requests are answered 503 while Redis does not answer, and served afterwards.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	f := newFixture(t, impatient(t, server))
	f.do(http.MethodPost, "/v1/tasks", envelope("1"))
	server.Kill()
	for _, r := range [][3]string{
		{http.MethodPost, "/v1/tasks", envelope("2")},
		{http.MethodGet, "/v1/tasks/" + app + "/1", ""},
		{http.MethodGet, "/v1/tasks/" + app + "/1?wait=1s", ""},
		{http.MethodDelete, "/v1/tasks/" + app + "/1", ""},
		{http.MethodGet, "/v1/tasks/" + app + "/1/image", ""},
	} {
		a := f.do(r[0], r[1], r[2])
		if p := f.problem(a, http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "is safe") {
			t.Errorf("%s %s: %v %s", r[0], r[1], a.header, a.body)
		}
	}
	if p := f.problem(f.do(http.MethodPost, "/v1/tasks", envelope("")), http.StatusServiceUnavailable); strings.Contains(p.Detail, "is safe") {
		t.Errorf("a task without an id: %s", p.Detail)
	}
	server.Restart()
	redistest.Until(t, 20*time.Second, "the API works again", func() bool {
		a, err := f.try(http.MethodPost, "/v1/tasks", strings.NewReader(envelope("2")))
		return err == nil && (a.status == http.StatusAccepted || a.status == http.StatusOK)
	})
	if !strings.Contains(f.log.String(), "answered 503") {
		t.Error("nothing was logged")
	}
}

// TestRedisFull: the answer of a Redis without memory says so.
func TestRedisFull(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	f := newFixture(t, rdb)
	f.do(http.MethodPost, "/v1/tasks", envelope("1"))
	if err := rdb.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	a := f.do(http.MethodPost, "/v1/tasks", envelope("2"))
	if p := f.problem(a, http.StatusServiceUnavailable); a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "maxmemory") {
		t.Errorf("%v %s", a.header, a.body)
	}
}

// TestBodyBreaksOff: a task whose body breaks off is not enqueued, even if what was sent is valid.
func TestBodyBreaksOff(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(f.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	text := envelope("1")
	if _, err := fmt.Fprintf(conn, "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(text)+1, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.(*net.TCPConn).CloseWrite()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusBadRequest || f.pending() != 0 {
		t.Errorf("status %d, %d tasks wait", response.StatusCode, f.pending())
	}
}
