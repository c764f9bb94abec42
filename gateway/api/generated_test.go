package api_test

import (
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// The environment variables of TestGeneratedRequests: the number of requests, and the seed of an
// earlier run, to repeat it.
const (
	requestsVariable = "WXCOURIER_API_REQUESTS"
	seedVariable     = "WXCOURIER_API_SEED"
)

// numberOf returns the number in an environment variable.
func numberOf(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestGeneratedRequests sends requests that are made from our own OpenAPI document, random and
// malformed ones: no answer is 5xx, each has a status and a form that the document declares, and no
// value of a request is in a problem or in the log.
func TestGeneratedRequests(t *testing.T) {
	count, otherwise := numberOf(t, requestsVariable, 0), rand.Uint64() //nolint:gosec // nothing secret
	if count == 0 {
		count, otherwise = 2500, 1
	}
	seed := numberOf(t, seedVariable, otherwise)
	t.Logf("seed %d", seed)
	f := newGeneratedFixture(t)
	doc := f.document()
	operations := doc.operations()
	var done sync.WaitGroup
	var stop atomic.Bool
	var next atomic.Uint64
	answers := make([]map[string]int, 2*runtime.GOMAXPROCS(0))
	for worker := range answers {
		answers[worker] = make(map[string]int)
		done.Go(func() {
			for n := next.Add(1); n <= count && !stop.Load(); n = next.Add(1) {
				g := &generator{doc, rand.New(rand.NewPCG(seed, n))} //nolint:gosec // repeatable
				op := operations[n%uint64(len(operations))]
				r := g.request(op)
				sent, _ := httputil.DumpRequest(r, true)
				w := httptest.NewRecorder()
				f.api.ServeHTTP(w, r.WithContext(apikey.NewContext(t.Context(), pick(g, apikey.Local(), apikey.Local(), keyOfOne()))))
				if fault := doc.check(r, op, w); fault != "" {
					stop.Store(true)
					t.Errorf("request %d: %s\n%.3000s\n\nwas answered %d %v\n%.3000s", n, fault, sent, w.Code, w.Header(), w.Body)
				}
				answers[worker][op.spec["operationId"].(string)+" "+strconv.Itoa(w.Code/100)+"xx"]++
			}
		})
	}
	done.Wait()
	if log := f.log.String(); strings.Contains(log, canary) {
		t.Errorf("a value of a request is in the log: %.3000s", log)
	}
	if t.Failed() {
		return
	}
	total := make(map[string]int)
	for _, some := range answers {
		for class, n := range some {
			total[class] += n
		}
	}
	t.Log(total)
	for _, op := range operations { // each operation was met, in its good and its bad answers
		for _, class := range []string{"2xx", "4xx"} {
			if total[op.spec["operationId"].(string)+" "+class] == 0 && op.spec["operationId"] != "get-task-image" { // no worker makes images here
				t.Errorf("no %s of %s", class, op.spec["operationId"])
			}
		}
	}
}

// keyOfOne is a key of one app that may not do everything.
func keyOfOne() *apikey.Key {
	return &apikey.Key{ID: "one", Apps: []string{other}, Scopes: []apikey.Scope{apikey.Read, apikey.Enqueue}, MaxBody: 2000}
}

// newGeneratedFixture returns an API with some tasks and results.
func newGeneratedFixture(t *testing.T) *fixture {
	t.Helper()
	rdb := redistest.Start(t).Client(t)
	wx := sandbox.New(sandbox.Options{})
	url, stop := wx.Start()
	t.Cleanup(stop)
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = url
	tokens := wechat.NewTokens(cfg, rdb, func(id string) (wechat.Credential, bool) {
		return wechat.Credential{App: id, Secret: "secret"}, true
	})
	t.Cleanup(tokens.Close)
	f := newFixture(t, rdb, func(d *api.Deps) {
		d.Tokens = tokens
		apps := d.Apps
		d.Apps = func() []api.App {
			all := slices.Clone(apps())
			for i := range all {
				all[i].Consent = "observe"
			}
			return all
		}
	})
	f.api.SetStreamTimes(time.Millisecond, time.Second, 5*time.Millisecond, time.Millisecond)
	for i := range 30 {
		f.record("*", tasks.Result{ID: fmt.Sprint(i), Batch: "1", Outcome: tasks.Outcomes()[i%7]})
	}
	for i := range 10 {
		task := strings.Replace(envelope(fmt.Sprint(i)), `"body"`, fmt.Sprintf(`"batch":"%d","body"`, i%3), 1)
		if a := f.do(http.MethodPost, "/v1/tasks", task); a.status != http.StatusAccepted {
			t.Fatal(a)
		}
	}
	return f
}

// document reads the OpenAPI document.
func (f *fixture) document() *document {
	f.Helper()
	return &document{patterns: make(map[string]*regexp.Regexp), object: decode[object](f, f.do(http.MethodGet, "/openapi.json", "").body)}
}

// check returns what is wrong with an answer; "" if nothing is.
func (d *document) check(r *http.Request, op operation, w *httptest.ResponseRecorder) string {
	body, media := w.Body.String(), strings.TrimSuffix(w.Header().Get("Content-Type"), "; charset=utf-8")
	paths, _ := d.object["paths"].(object)
	item, _ := paths[op.path].(object)
	spec, declared := item[strings.ToLower(r.Method)].(object)
	switch {
	case w.Code >= http.StatusInternalServerError:
		return "a server error"
	case w.Code >= http.StatusBadRequest && strings.Contains(body, canary):
		return "a value of the request is in the answer"
	case !declared || w.Code == http.StatusNotFound && strings.Contains(r.URL.RawPath, "%2F"):
		if w.Code != http.StatusMethodNotAllowed && w.Code != http.StatusNotFound || media != problem.ContentType {
			return "a method that is not declared"
		}
		return ""
	}
	responses, _ := spec["responses"].(object)
	response, _ := responses[strconv.Itoa(w.Code)].(object)
	content, _ := response["content"].(object)
	described, _ := content[media].(object)
	if described == nil {
		return fmt.Sprintf("the status or its media type %q is not declared", media)
	}
	schema, _ := described["schema"].(object)
	return d.checkBody(op, media, schema, body)
}

// lineSchemas are the schemas of the lines of JSON Lines.
func lineSchemas() map[string]string {
	return map[string]string{"/v1/tasks:batch": "BatchResult", "/v1/results": "Result"}
}

func (d *document) checkBody(op operation, media string, schema object, body string) string {
	switch media {
	case "application/json", problem.ContentType:
		v, err := parse(body)
		if err != nil {
			return err.Error()
		}
		return d.validate(schema, v, "body")
	case "application/x-ndjson":
		for line := range strings.Lines(body) {
			v, err := parse(line)
			if err != nil {
				return err.Error()
			}
			if fault := d.validate(d.schema(lineSchemas()[op.path]), v, "line"); fault != "" {
				return fault
			}
		}
	case "text/csv":
		if _, err := csv.NewReader(strings.NewReader(body)).ReadAll(); err != nil {
			return err.Error()
		}
	}
	return ""
}

// The document is whole: each operation has a summary, a description, its scope and the errors that
// all have in common; each parameter and each field of a body of ours is described; and the
// examples are valid.
func TestDocumentIsComplete(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	doc := f.document()
	if doc.object["openapi"] != "3.1.0" || len(doc.operations()) < 18 {
		t.Errorf("OpenAPI %v with %d operations", doc.object["openapi"], len(doc.operations()))
	}
	for _, op := range doc.operations() {
		name := op.method + " " + op.path
		for _, field := range []string{"operationId", "summary", "description", "tags", "security"} {
			if op.spec[field] == nil || op.spec[field] == "" {
				t.Errorf("%s has no %s", name, field)
			}
		}
		responses, _ := op.spec["responses"].(object)
		for _, status := range []string{"401", "403", "422", "429", "503"} {
			if responses[status] == nil {
				t.Errorf("%s does not declare %s", name, status)
			}
		}
		parameters, _ := op.spec["parameters"].([]any)
		for _, p := range parameters {
			parameter, _ := p.(object)
			schema, _ := parameter["schema"].(object)
			if parameter["description"] == nil && schema["description"] == nil {
				t.Errorf("%s: the parameter %v has no description", name, parameter["name"])
			}
		}
		request, _ := op.spec["requestBody"].(object)
		content, _ := request["content"].(object)
		for media, c := range content {
			described, _ := c.(object)
			schema, _ := described["schema"].(object)
			if example := described["example"]; example != nil {
				if fault := doc.validate(schema, example, media); fault != "" {
					t.Errorf("the example of %s: %s", name, fault)
				}
			}
		}
	}
	example := doc.operation("list-results").example("200", "application/json")
	if fault := doc.validate(doc.schema("ResultsPage"), example, "example"); fault != "" {
		t.Error(fault)
	}
	if w := f.do(http.MethodGet, "/docs/", ""); w.status != http.StatusOK || !strings.Contains(w.body, "swagger-ui-bundle.js") {
		t.Errorf("the page: %d", w.status)
	}
}

// operation returns the operation with an id.
func (d *document) operation(id string) operation {
	for _, op := range d.operations() {
		if op.spec["operationId"] == id {
			return op
		}
	}
	panic("the document has no operation " + id)
}

// example returns the example of an answer.
func (op operation) example(status, media string) any {
	v := any(op.spec)
	for _, name := range []string{"responses", status, "content", media, "example"} {
		v = v.(object)[name]
	}
	return v
}
