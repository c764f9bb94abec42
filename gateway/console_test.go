package gateway_test

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestConsole signs in, opens a page and keeps it up to date until the shutdown. The requests have
// their routes in the metrics, and neither a query nor a session is in the log.
func TestConsole(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	key := f.key(apikey.Key{ID: "reader", Scopes: []apikey.Scope{apikey.Read}})
	f.serve()
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	// The bodies are closed at the end of the test.
	request := func(method, path, accept string, session *http.Cookie, form url.Values) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), method, f.url+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Accept", accept)
		if session != nil {
			r.AddCookie(session)
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = res.Body.Close() })
		return res
	}
	if res := request("GET", "/?x=secret-in-query", "text/html", nil, nil); res.StatusCode != http.StatusSeeOther { //nolint:bodyclose // see request
		t.Errorf("without a session: status %d", res.StatusCode)
	}
	res := request("POST", "/signin", "text/html", nil, url.Values{"key": {key}, "next": {"/?x=secret-in-query"}}) //nolint:bodyclose // see request
	if res.StatusCode != http.StatusSeeOther || len(res.Cookies()) != 1 {
		t.Fatalf("signing in: status %d, %d cookies", res.StatusCode, len(res.Cookies()))
	}
	session := res.Cookies()[0]
	if res := request("GET", "/?x=secret-in-query", "text/html", session, nil); res.StatusCode != http.StatusOK { //nolint:bodyclose // see request
		t.Errorf("the overview: status %d", res.StatusCode)
	}
	events := request("GET", "/?x=secret-in-query", "text/event-stream", session, nil) //nolint:bodyclose // see request
	lines := bufio.NewScanner(events.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "event: live" {
			break
		}
	}
	if lines.Err() != nil || lines.Text() != "event: live" {
		t.Fatalf("no event: %v", lines.Err())
	}
	begin := time.Now()
	f.gateway.Drain()
	for lines.Scan() {
	}
	if took := time.Since(begin); took > 30*time.Second || lines.Err() != nil {
		t.Errorf("the stream ended after %v, error %v", took, lines.Err())
	}
	request("GET", "/nowhere?x=secret-in-query", "text/html", session, nil) //nolint:bodyclose // see request
	for _, want := range []string{
		`{code="200",route="GET /{$}"} 2`, `{code="303",route="GET /{$}"} 1`, `{code="303",route="POST /signin"} 1`, `{code="404",route="other"} 1`,
	} {
		// A request is counted after its client has the answer.
		redistest.Until(t, 20*time.Second, want+" in the metrics", func() bool {
			return strings.Contains(f.do("GET", "/metrics", "", nil).body, "wxcourier_http_requests_total"+want)
		})
	}
	log := f.log.String()
	if strings.Contains(log, session.Value) || strings.Count(log, "key=reader") < 3 {
		t.Errorf("the log has the session, or not the id of its key:\n%s", log)
	}
}
