package api_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestBatches(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i := range 3 {
			task := strings.Replace(envelope(fmt.Sprint(i)), `"body"`, `"batch":"spring-sale","body"`, 1)
			if a := f.do(http.MethodPost, "/v1/tasks", task); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
		}
		path := "/v1/batches/" + app + "/spring-sale"
		b := decode[inspect.Batch](f, f.do(http.MethodGet, path, "").body)
		if b.Total != 3 || b.Open != 3 || b.SecondsLeft != -1 {
			t.Errorf("%+v", b)
		}
		list := decode[struct{ Items []inspect.Batch }](f, f.do(http.MethodGet, "/v1/batches?batch=spring-sale", "").body)
		if len(list.Items) != 1 || list.Items[0].App != app {
			t.Errorf("%+v", list)
		}
		a := f.do(http.MethodDelete, path, "")
		if a.status != http.StatusOK || !strings.Contains(a.body, `"open":3`) {
			t.Errorf("cancel: %d %s", a.status, a.body)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			f.problem(f.do(method, "/v1/batches/"+app+"/none", ""), http.StatusNotFound)
		}
		f.as(&apikey.Key{ID: "k", Scopes: apikey.Scopes(), Apps: []string{other}})
		f.problem(f.do(http.MethodGet, path, ""), http.StatusForbidden)
		if body := f.do(http.MethodGet, "/v1/batches?batch=spring-sale", "").body; !strings.Contains(body, `"items":[]`) {
			t.Errorf("the batch of another app: %s", body)
		}
	})
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i := range 20 {
			id := fmt.Sprint(i)
			if a := f.do(http.MethodPost, "/v1/tasks", envelope(id)); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
			f.fail(id)
		}
		counts := func(body string) (n redrive.Counts) {
			t.Helper()
			a := f.do(http.MethodPost, "/v1/redrives", body)
			if a.status != http.StatusOK || !strings.Contains(a.body, `"more":false`) {
				t.Fatalf("%d %s", a.status, a.body)
			}
			return decode[redrive.Counts](f, a.body)
		}
		if n := counts(`{"outcomes":["failed"],"since":"1h","dry_run":true}`); n.Redriven != 20 || !n.DryRun {
			t.Errorf("dry run: %+v", n)
		}
		if n := counts(`{"outcomes":["unknown"]}`); n.Redriven != 0 {
			t.Errorf("another outcome: %+v", n)
		}
		if n := counts(`{"outcomes":["failed"],"types":["send:subscribe"],"dry_run":true}`); n.Redriven != 0 {
			t.Errorf("another type: %+v", n)
		}
		if n := counts(`{"outcomes":["failed"],"apps":["` + app + `"],"ids":["3","4","none"]}`); n.Redriven != 2 || n.Unmatched != 1 {
			t.Errorf("by id: %+v", n)
		}
		if n := counts(`{"outcomes":["failed"],"limit":5}`); n.Redriven != 5 {
			t.Errorf("with a limit: %+v", n)
		}
		f.as(&apikey.Key{ID: "k", Scopes: apikey.Scopes(), Apps: []string{other}})
		if n := counts(`{"outcomes":["failed"]}`); n.Redriven != 0 {
			t.Errorf("with a key of another app: %+v", n)
		}
		f.problem(f.do(http.MethodPost, "/v1/redrives", `{"outcomes":["failed"],"apps":["`+app+`"]}`), http.StatusForbidden)
		f.as(apikey.Local())
		if n := counts(`{"outcomes":["failed","unknown"]}`); n.Redriven != 13 {
			t.Errorf("the rest: %+v", n)
		}
		for body, location := range map[string]string{
			`{}`: "body", `{"outcomes":[]}`: "body.outcomes", `{"outcomes":["` + openid + `"]}`: "body.outcomes[0]",
			`{"outcomes":["failed"],"since":"` + openid + `"}`: "body.since", `{"outcomes":["failed"],"ids":["1"]}`: "body.ids",
			`{"outcomes":["failed"],"types":["` + openid + `"]}`: "body.types[0]", `{"outcomes":["failed"],"outcome":1}`: "body.outcome", `{"outcomes":["failed"],"limit":1e30}`: "body.limit",
			`{"outcomes":["failed"],"errcodes":["` + openid + `"]}`: "body.errcodes[0]",
		} {
			p := f.problem(f.do(http.MethodPost, "/v1/redrives", body), http.StatusUnprocessableEntity)
			if len(p.Errors) == 0 || p.Errors[0].Location != location {
				t.Errorf("%s: %+v", body, p)
			}
		}
		f.problem(f.do(http.MethodPost, "/v1/redrives", `{"outcomes":`+openid), http.StatusBadRequest)
	})
}

// fail ends an enqueued task as failed, with the record that a redrive needs.
func (f *fixture) fail(id string) {
	f.Helper()
	queue := tasks.QueueName(app, tasks.TypeCustom, tasks.Urgent)
	waiting := asynq.NewInspectorFromRedisClient(f.rdb)
	info, err := waiting.GetTaskInfo(queue, app+":"+id)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	r := tasks.Result{ID: id, App: app, Type: tasks.TypeCustom, State: tasks.StateDone, Outcome: tasks.OutcomeFailed, EnqueuedAt: now, FinishedAt: now}
	_, err = ledger.New(f.rdb, ledger.Policy{Retention: time.Hour, StreamMax: 1000}).Settle(f.Context(), ledger.Ref{App: app, ID: id}, ledger.SettleRequest{
		Outcome: string(r.Outcome), Result: r.Encode(), Queue: queue, Content: ledger.TaskContent{Payload: info.Payload, Headers: info.Headers},
	})
	if err != nil {
		f.Fatal(err)
	}
	if err := waiting.DeleteTask(queue, app+":"+id); err != nil {
		f.Fatal(err)
	}
}

// calls counts what an API has asked for.
type calls struct {
	mu     sync.Mutex
	paused []string            // guarded by mu
	asked  map[string][]string // guarded by mu
}

func TestHolds(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		seen := calls{asked: make(map[string][]string)}
		f := newFixture(t, rdb, func(d *api.Deps) {
			d.SyncPauses = func(_ context.Context, app string) error {
				seen.mu.Lock()
				defer seen.mu.Unlock()
				seen.paused = append(seen.paused, app)
				return nil
			}
			d.AskQuotas = func(_ context.Context, app string, types []string) error {
				seen.mu.Lock()
				defer seen.mu.Unlock()
				seen.asked[app] = types
				return nil
			}
			d.Tokens = wechat.NewTokens(wechat.DefaultConfig(), rdb, func(string) (wechat.Credential, bool) { return wechat.Credential{}, false })
		})
		f.as(&apikey.Key{ID: "ops", Scopes: apikey.Scopes()})
		store := hold.NewStore(rdb)
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		for _, scope := range []string{"*", "send:custom", "template:pQ3PZ4"} {
			path := "/v1/holds/" + app + "/" + scope
			a := f.do(http.MethodPut, path, `{"reason":"legal","until":"`+until.Format(time.RFC3339)+`"}`, "Content-Type", "text/plain")
			h, held, err := store.Get(t.Context(), app, scope)
			if a.status != http.StatusOK || !strings.Contains(a.body, `"set":true`) || err != nil || !held || h.By != "ops" || h.Reason != "legal" || !h.Until.Equal(until) {
				t.Fatalf("%s: %d %s; %+v %v %v", scope, a.status, a.body, h, held, err)
			}
			if a := f.do(http.MethodPut, path, `{"until":"`+until.Add(-time.Minute).Format(time.RFC3339)+`"}`); !strings.Contains(a.body, `"set":false`) {
				t.Errorf("%s: a hold is shortened: %s", scope, a.body)
			}
		}
		list := decode[struct{ Items []hold.Hold }](f, f.do(http.MethodGet, "/v1/holds?app="+app, "").body)
		if len(list.Items) != 3 {
			t.Errorf("%+v", list)
		}
		for _, released := range []string{`"released":true`, `"released":false`} {
			for _, scope := range []string{"*", "send:custom", "template:pQ3PZ4"} {
				if a := f.do(http.MethodDelete, "/v1/holds/"+app+"/"+scope, ""); a.status != http.StatusOK || !strings.Contains(a.body, released) {
					t.Errorf("%s: %d %s", scope, a.status, a.body)
				}
			}
		}
		if _, err := store.Set(t.Context(), hold.Hold{App: app, Scope: tasks.TypeCustom, Reason: inspect.ReasonQuotaDay, Until: until, By: "worker 1"}); err != nil {
			t.Fatal(err)
		}
		f.do(http.MethodDelete, "/v1/holds/"+app+"/"+tasks.TypeCustom, "")
		seen.mu.Lock()
		if got := seen.asked[app]; len(got) != 1 || got[0] != tasks.TypeCustom || len(seen.paused) < 10 {
			t.Errorf("asked WeChat for %v, pauses %v", got, seen.paused)
		}
		seen.mu.Unlock()
		f.problem(f.do(http.MethodPut, "/v1/holds/"+alien+"/*", ""), http.StatusNotFound)
		for path, body := range map[string]string{
			"/" + openid: "", "/template:": "", "/template:%20" + openid: "", "/*": `{"until":"2001-01-01T00:00:00Z"}`,
			"/send:custom": `{"until":"` + openid + `"}`, "/send:template": `{"reason":"` + openid + `\n"}`, "/send:uniform": `[]`,
		} {
			f.problem(f.do(http.MethodPut, "/v1/holds/"+app+path, body), http.StatusUnprocessableEntity)
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read, apikey.Enqueue}})
		f.problem(f.do(http.MethodPut, "/v1/holds/"+app+"/*", ""), http.StatusForbidden)
	})
}

func TestLanesAndQuotas(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.do(http.MethodPost, "/v1/tasks", envelope("1"))
		if body := f.do(http.MethodGet, "/v1/lanes", "").body; !strings.Contains(body, `"type":"send:custom","waiting":1`) {
			t.Errorf("%s", body)
		}
		if body := f.do(http.MethodGet, "/v1/quotas", "").body; !strings.Contains(body, `"name":"send:custom","window":"day","limit":500000`) || !strings.Contains(body, `"effective":500000`) {
			t.Errorf("%s", body)
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		if body := f.do(http.MethodGet, "/v1/lanes", "").body; strings.Contains(body, app) || strings.Contains(body, "replicas") {
			t.Errorf("a key of another app sees %s", body)
		}
	})
}

// The token is given to keys with the scope, as WeChat gives it; a refused one is renewed, and
// another wxcourier can use the gateway as its token service.
func TestToken(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		wx := sandbox.New(sandbox.Options{Apps: map[string]string{app: "the-app-secret"}})
		url, stop := wx.Start()
		defer stop()
		cfg := wechat.DefaultConfig()
		cfg.BaseURL = url
		source := wechat.NewTokens(cfg, rdb, func(id string) (wechat.Credential, bool) {
			return wechat.Credential{App: id, Secret: "the-app-secret", Mode: wechat.ModeClassic}, id == app
		})
		defer source.Close()
		f := newFixture(t, rdb, func(d *api.Deps) { d.Tokens = source })
		path := "/v1/apps/" + app + "/token"
		type token struct {
			AccessToken string `json:"access_token"`
			ExpiresIn   int    `json:"expires_in"`
		}
		a := f.do(http.MethodPost, path, "")
		first := decode[token](f, a.body)
		if a.status != http.StatusOK || first.AccessToken == "" || first.ExpiresIn < 60 || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %s", a.status, a.header, a.body)
		}
		sum := sha256.Sum256([]byte(first.AccessToken))
		rejected := hex.EncodeToString(sum[:])
		second := decode[token](f, f.do(http.MethodPost, path, `{"rejected":"`+rejected+`"}`).body)
		if second.AccessToken == first.AccessToken || second.AccessToken == "" {
			t.Error("the rejected token is not renewed")
		}
		if again := decode[token](f, f.do(http.MethodPost, path, `{"rejected":"`+rejected+`"}`).body); again.AccessToken != second.AccessToken {
			t.Error("a token that is no longer in use was renewed again")
		}
		// The external mode of another wxcourier, with a Redis of its own, and its key in the URL.
		_, elsewhere := redistest.Mini(t)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, key, _ := r.BasicAuth(); key != "wxc_other_key" {
				t.Errorf("the key is not sent")
			}
			f.api.ServeHTTP(w, r.WithContext(apikey.NewContext(r.Context(), &apikey.Key{ID: "other", Scopes: []apikey.Scope{apikey.Token}})))
		}))
		defer server.Close()
		external := wechat.NewTokens(wechat.DefaultConfig(), elsewhere, func(id string) (wechat.Credential, bool) {
			return wechat.Credential{App: id, Mode: wechat.ModeExternal, URL: strings.Replace(server.URL, "://", "://wxcourier:wxc_other_key@", 1) + path}, true
		})
		defer external.Close()
		got, err := external.Token(t.Context(), app)
		if err != nil || got.Value.Reveal() != second.AccessToken {
			t.Fatalf("external: %v, %v", got, err)
		}
		renewed, err := external.Renew(t.Context(), app, got)
		if err != nil || renewed.Value.Reveal() == second.AccessToken {
			t.Errorf("external renewal: %v", err)
		}
		f.problem(f.do(http.MethodPost, "/v1/apps/"+alien+"/token", ""), http.StatusNotFound)
		none := f.do(http.MethodPost, "/v1/apps/"+other+"/token", "")
		if p := f.problem(none, http.StatusServiceUnavailable); none.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "no credentials") {
			t.Errorf("%+v", p)
		}
		f.problem(f.do(http.MethodGet, path+"?app="+other, ""), http.StatusUnprocessableEntity)
		f.problem(f.do(http.MethodPost, path, `{"rejected":"`+openid+`"}`), http.StatusUnprocessableEntity)
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read, apikey.Operate, apikey.Enqueue, apikey.Call}})
		f.problem(f.do(http.MethodPost, path, ""), http.StatusForbidden)
		f.problem(f.do(http.MethodGet, path, ""), http.StatusForbidden)
		for _, secret := range []string{first.AccessToken, second.AccessToken, "the-app-secret"} {
			if strings.Contains(f.log.String(), secret) {
				t.Error("a secret is in the log")
			}
		}
	})
}
