package console

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// receiver is an endpoint of webhooks.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	calls int // guarded by mu
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	e := &receiver{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.calls++
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *receiver) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// endpoints let a site have the endpoint crm, of both apps or of some.
func endpoints(address string, apps ...string) func(*Deps) {
	return func(d *Deps) {
		d.Webhooks = func() []webhook.Endpoint {
			return []webhook.Endpoint{{Name: "crm", URL: address + "/?token=a-secret-of-the-address", Secret: "a-secret-that-is-long-enough-0123456789", Apps: apps, AllowPrivate: []string{"127.0.0.1"}}}
		}
	}
}

// tend lets the endpoint have a reader of an app's results, as a gateway does.
func (s *site) tend(app string) {
	s.Helper()
	if err := ledger.TendReaders(s.Context(), s.Redis, app, 1000, []ledger.ReaderStart{{Name: "crm", Since: time.Unix(1, 0)}}); err != nil {
		s.Fatal(err)
	}
}

// acquire gives the reader of the endpoint to a gateway.
func (s *site) acquire(app string) *ledger.Reader {
	s.Helper()
	reader := ledger.NewReader(s.Redis, ledger.ReaderConfig{App: app, Name: "crm", Owner: "g1", Lease: time.Minute})
	if _, wait, err := reader.Acquire(s.Context()); err != nil || wait > 0 {
		s.Fatal(wait, err)
	}
	return reader
}

// TestWebhooks shows lag, errors and dead letters, and changes what an operator says.
func TestWebhooks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		e := newReceiver(t)
		s := newSite(t, rdb, endpoints(e.URL))
		u, path := s.as(operateKey), "/webhooks/crm/"+testApp
		s.batchOf(testApp, "spring", 3)
		s.batchOf(otherApp, "autumn", 1)
		for i := range 3 {
			s.endOf("spring", i, tasks.OutcomeRejected, 47003, script)
		}
		fresh := func() {
			s.console.cache.forget("webhooks")
			s.console.cache.forget("dead letters crm " + testApp + " ")
		}
		u.shows("/webhooks", http.StatusOK, "not started", testApp, otherApp)
		u.shows(path+"/skip", http.StatusConflict, "No gateway has served")
		s.tend(testApp)
		entries, err := rdb.XRange(t.Context(), ledger.StreamKey(testApp), "-", "+").Result()
		if err != nil || len(entries) != 3 {
			t.Fatal(entries, err)
		}
		result, _ := entries[0].Values["result"].(string)
		reader := s.acquire(testApp)
		if err := reader.Advance(t.Context(), ledger.Step{Cursor: entries[0].ID, Passed: 1, Dead: &ledger.DeadLetter{
			Entry: entries[0].ID, Result: result, Message: "msg_1", Reason: string(webhook.ClassRefused), Status: 422,
		}}); err != nil {
			t.Fatal(err)
		}
		note := fmt.Sprintf(`{"failures":3,"class":"server_error","status":503,"since":%q}`, time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
		if err := reader.Fail(t.Context(), time.Hour, []byte(note)); err != nil {
			t.Fatal(err)
		}
		fresh()
		u.shows("/webhooks", http.StatusOK, "failing", "the endpoint failed (503)", "failed 3 times in a row", `class="until" data-until="`)
		page := u.shows(path, http.StatusOK, "127.0.0.1", "HTTP 503", "Dead letters", "spring-0", "the endpoint refused the content (HTTP 422)", "Go on now", "Skip 2 results", "Send 1 dead letters again")
		if strings.Contains(page.body, script) || strings.Contains(page.body, "a-secret-of") || strings.Contains(page.body, "47003") {
			t.Errorf("the page shows what it must not:\n%s", page.body)
		}
		u.speaking("zh-CN").shows(path, http.StatusOK, "死信", "端点拒绝了内容", "立即继续")

		u.shows(path+"/resume", http.StatusOK, "Repeat the failed call to crm now?")
		steps := []struct{ verb, form, says string }{
			{"resume", "", "within seconds"}, {"resend", "", "1 dead letters were accepted"}, {"skip", "", "2 results were skipped"}, {"replay", "1h0m0s", "3 results are sent again"},
		}
		for _, step := range steps {
			u.shows(path+"/"+step.verb+"?since="+step.form, http.StatusOK)
			if a := u.post(path+"/"+step.verb, url.Values{"since": {step.form}}); a.status != http.StatusSeeOther || a.location != path {
				t.Fatalf("%s: %d to %s\n%s", step.verb, a.status, a.location, a.body)
			}
			u.shows(path, http.StatusOK, step.says)
			if step.verb == "skip" {
				fresh()
				u.shows("/webhooks", http.StatusOK)
			}
		}
		if n := e.count(); n != 1 {
			t.Errorf("the endpoint was called %d times", n)
		}
		if next, err := rdb.HGet(t.Context(), "wxcourier:{"+testApp+"}:reader:crm", "next").Result(); err == nil {
			t.Errorf("the next attempt is still at %s", next)
		}
		if got := s.audited(audit.Webhook); len(got) != 4 || got[0].Target != "crm" || got[0].App != testApp || got[0].By != "key:"+operateKey {
			t.Errorf("audit %+v", got)
		}
		u.shows(path+"/replay?since=3s", http.StatusUnprocessableEntity)
		u.shows(path+"?after=nonsense", http.StatusOK)
		u.shows("/webhooks/none/"+testApp, http.StatusNotFound, "no such endpoint")
		u.shows(path+"/explode", http.StatusNotFound)
	})
}

// TestWebhookKeys: webhooks are per app, and operating them needs the scope.
func TestWebhookKeys(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb, endpoints("https://crm.example.com"))
	s.batchOf(testApp, "spring", 1)
	s.batchOf(otherApp, "autumn", 1)
	s.tend(testApp)
	s.tend(otherApp)
	one, reader := s.as(oneAppKey), s.as(readKey)
	if page := one.shows("/webhooks", http.StatusOK, testApp).body; strings.Contains(page, otherApp) {
		t.Error("a key of one app sees another")
	}
	one.shows("/webhooks/crm/"+otherApp, http.StatusForbidden)
	for _, verb := range []string{"resume", "resend", "replay", "skip"} {
		for u, app := range map[*user]string{one: otherApp, reader: testApp} {
			u.shows("/webhooks/crm/"+app+"/"+verb+"?since=1h0m0s", http.StatusForbidden)
			if a := u.post("/webhooks/crm/"+app+"/"+verb, url.Values{"since": {"1h0m0s"}}); a.status != http.StatusForbidden {
				t.Errorf("%s: %d", verb, a.status)
			}
		}
	}
	if page := reader.shows("/webhooks/crm/"+testApp, http.StatusOK).body; strings.Contains(page, "/replay") || strings.Contains(page, "/skip") {
		t.Error("a key that may only read is shown buttons")
	}
	// An endpoint that answered 410 is enabled for all its apps, so that the key must have them all.
	of := func(apps ...string) webhook.Endpoint { return webhook.Endpoint{Name: "crm", Apps: apps} }
	some, all := &apikey.Key{Apps: []string{testApp}}, &apikey.Key{}
	for _, c := range []struct {
		key  *apikey.Key
		e    webhook.Endpoint
		want bool
	}{{all, of(), true}, {all, of(testApp, otherApp), true}, {some, of(testApp), true}, {some, of(testApp, otherApp), false}, {some, of(), false}} {
		if got := ownsEndpoint(c.key, c.e); got != c.want {
			t.Errorf("a key of %v, an endpoint of %v: %v", c.key.Apps, c.e.Apps, got)
		}
	}
}
