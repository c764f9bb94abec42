package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// receiver is an endpoint that checks signatures.
type receiver struct {
	mu     sync.Mutex
	status int      // of the answers; guarded by mu, as is what follows
	refuse string   // id of a task whose result is answered 422
	ids    []string // of the tasks whose results were accepted
	types  []string // of the messages
}

const webhookSecret = "the-webhook-secret-0123456789"

func (e *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	verify, _ := standardwebhooks.NewWebhookRaw([]byte(webhookSecret))
	body, _ := io.ReadAll(r.Body)
	var m struct {
		Type string
		Data struct{ Results []tasks.Result }
	}
	if verify.Verify(body, r.Header) != nil || json.Unmarshal(body, &m) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	e.types = append(e.types, m.Type)
	var ids []string
	for _, result := range m.Data.Results {
		ids = append(ids, result.ID)
	}
	switch {
	case e.refuse != "" && slices.Contains(ids, e.refuse):
		w.WriteHeader(http.StatusUnprocessableEntity)
	case e.status != http.StatusOK:
		w.WriteHeader(e.status)
	case m.Type == "results":
		e.ids = append(e.ids, ids...)
	}
}

func (e *receiver) set(status int, refuse string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.refuse = status, refuse
}

func (e *receiver) accepted() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(slices.Values(e.ids))
}

// newReceiver starts a receiver, and returns the part of the configuration that names it.
func newReceiver(t *testing.T) (e *receiver, config string) {
	t.Helper()
	e = &receiver{status: http.StatusOK}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return e, fmt.Sprintf("webhooks:\n  - name: crm\n    url: %s/results?key=query-secret\n    secret: %s\n    allow_private: [127.0.0.1]\n", server.URL, webhookSecret)
}

// writeConfig writes a configuration file and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxcourier.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWebhooks: a gateway sends the results of a worker to an endpoint; the commands show its lag,
// send dead letters and results again, test it, and enable it after an answer 410. Nothing that is
// printed holds a secret.
func TestWebhooks(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	env, _ := newEnvOn(t, mini.Addr())
	e, text := newReceiver(t)
	config := writeConfig(t, text)
	run := func(args ...string) commandResult {
		t.Helper()
		r := command(t, env, "", append([]string{"-c", config}, args...)...)
		if out := r.stdout + r.stderr; strings.Contains(out, webhookSecret) || strings.Contains(out, "query-secret") {
			t.Errorf("%v prints a secret:\n%s", args, out)
		}
		return r
	}
	list := func() webhook.Status {
		t.Helper()
		var all []webhook.Status
		if r := run("webhooks", "--json"); r.status != statusDone || json.Unmarshal([]byte(r.stdout), &all) != nil {
			t.Fatalf("%+v", r)
		}
		for _, s := range all {
			if s.App == testApp {
				return s
			}
		}
		return webhook.Status{}
	}
	enqueue := func(ids ...string) {
		t.Helper()
		lines := ""
		for _, id := range ids {
			lines += line(id, openid)
		}
		if r := command(t, env, lines, "enqueue", "-"); r.status != statusDone {
			t.Fatalf("%+v", r)
		}
	}
	_, gateway, stopGateway := background(t, env, "-c", config, "gateway", "--listen", "127.0.0.1:0")
	redistest.Until(t, 30*time.Second, "the gateway serves the endpoint", func() bool { return rdb.Exists(t.Context(), "wxcourier:webhooks").Val() == 1 })
	background(t, env, "-c", config, "worker")
	e.set(http.StatusOK, "b")
	enqueue("a", "b", "c")
	redistest.Until(t, 30*time.Second, "b is a dead letter", func() bool { s := list(); return s.Dead == 1 && s.Lag == 0 })
	if got := e.accepted(); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("accepted: %v", got)
	}
	mentions(t, "webhooks", run("webhooks").stdout, "WEBHOOK", "crm", "caught up")
	mentions(t, "status", run("status").stdout, "Webhooks:", "crm")
	mentions(t, "status --json", run("status", "--json").stdout, `"webhook": "crm"`, `"dead": 1`)

	e.set(http.StatusOK, "")
	if r := run("webhooks", "replay", "crm", "--dead"); r.status != statusDone || r.stdout != testApp+": 1 dead letter delivered, 0 refused again\n" {
		t.Errorf("%+v", r)
	}
	if r := run("webhooks", "test", "crm"); r.status != statusDone || r.stdout != "crm: 200 ok\n" {
		t.Errorf("%+v", r)
	}
	e.set(http.StatusServiceUnavailable, "")
	if r := run("webhooks", "test", "crm"); r.status != statusFailed || r.stdout != "crm: 503 server_error\n" {
		t.Errorf("%+v", r)
	}
	e.set(http.StatusGone, "")
	enqueue("d")
	redistest.Until(t, 30*time.Second, "the endpoint is disabled", func() bool { return list().State == webhook.StateDisabled })
	mentions(t, "webhooks", run("webhooks").stdout, "disabled: it answered 410")
	e.set(http.StatusOK, "")
	mentions(t, "enable", run("webhooks", "enable", "crm").stdout, "crm is enabled")
	redistest.Until(t, 30*time.Second, "all are accepted", func() bool { return slices.Equal(e.accepted(), []string{"a", "b", "c", "d"}) })
	if r := run("webhooks", "replay", "crm", "--since", "1h"); r.status != statusDone || !strings.Contains(r.stdout, "the gateways send 4 results") {
		t.Errorf("%+v", r)
	}
	redistest.Until(t, 30*time.Second, "all are accepted again", func() bool { return len(e.accepted()) == 8 })
	if status := stopGateway(); status != statusDone {
		t.Errorf("the gateway ended with %d", status)
	}
	for _, hidden := range []string{webhookSecret, "query-secret", openid} {
		if strings.Contains(gateway.String(), hidden) {
			t.Errorf("the log shows %q:\n%s", hidden, gateway.String())
		}
	}
}

// TestWebhookUsage: a wrong name, app or time is a usage error that says what is right.
func TestWebhookUsage(t *testing.T) {
	env, _ := newEnv(t)
	_, text := newReceiver(t)
	config := writeConfig(t, text)
	for args, want := range map[string]string{
		"webhooks test crn":                           `there is no endpoint "crn" in the configuration; did you mean crm?`,
		"webhooks enable x":                           `they are crm`,
		"webhooks replay crm":                         "--dead",
		"webhooks replay crm --dead --since 1h":       "--since",
		"webhooks replay crm --since yesterday":       `--since: "yesterday"`,
		"webhooks replay crm --dead --app wx12":       `"wx12" is not an app of the endpoint crm`,
		"webhooks replay crm --dead --app " + testApp: "no gateway has served the endpoint crm",
	} {
		got := command(t, env, "", append([]string{"-c", config}, strings.Fields(args)...)...)
		if got.status == statusDone || got.stdout != "" || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: %+v, want %s", args, got, want)
		}
	}
	if got := command(t, env, "", "webhooks"); got.status != statusDone || !strings.Contains(got.stdout, "No webhook is configured. Add one to webhooks in ") {
		t.Errorf("%+v", got)
	}
	config = writeConfig(t, strings.Replace(text, webhookSecret, "short", 1))
	mentions(t, "check", command(t, env, "", "-c", config, "check").stdout, "webhooks[0].secret: has 5 bytes, at least 24 are required")
}
