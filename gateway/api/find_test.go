package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestFindIsCheckedAtTheDoor: a search names one thing, in a form that it can have; no answer, and no
// log, contains the openid. A key searches in its apps only.
func TestFindIsCheckedAtTheDoor(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for query, location := range map[string]string{
			"": "query", "?id=a&rid=b": "query", "?openid=" + openid: "query.openid", "?id=a%20b": "query.id", "?rid=a%20b": "query.rid",
			"?msgid=" + openid: "query.msgid", "?id=a&limit=0": "query.limit", "?id=a&app=" + openid: "query.app[0]",
		} {
			p := f.problem(f.do(http.MethodGet, "/v1/tasks"+query, ""), http.StatusUnprocessableEntity)
			if len(p.Errors) == 0 || p.Errors[0].Location != location {
				t.Errorf("%s: %+v", query, p)
			}
		}
		for body, location := range map[string]string{
			`{}`: "body", `{"openid":""}`: "body.openid", `{"openid":"` + openid + ` x"}`: "body.openid", `{"openid":7}`: "body.openid",
			`{"openid":"` + openid + `","app":"x"}`: "body.app", `{"openid":"` + openid + `","apps":["` + openid + `"]}`: "body.apps[0]",
		} {
			p := f.problem(f.do(http.MethodPost, "/v1/tasks:find", body), http.StatusUnprocessableEntity)
			if len(p.Errors) == 0 || p.Errors[0].Location != location {
				t.Errorf("%s: %+v", body, p)
			}
		}
		f.problem(f.do(http.MethodPost, "/v1/tasks:find", `openid=`+openid), http.StatusBadRequest)
		f.problem(f.do(http.MethodPost, "/v1/tasks:find", ""), http.StatusBadRequest)
		for _, r := range [][2]string{{http.MethodGet, "/v1/tasks?id=none"}, {http.MethodPost, "/v1/tasks:find"}} {
			a := f.do(r[0], r[1], `{"openid":"oNobody"}`)
			if a.status != http.StatusOK || a.body != `{"items":[]}`+"\n" {
				t.Errorf("%v: %d %s", r, a.status, a.body)
			}
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		f.problem(f.do(http.MethodGet, "/v1/tasks?id=a&app="+app, ""), http.StatusForbidden)
		f.problem(f.do(http.MethodPost, "/v1/tasks:find", `{"openid":"`+openid+`","apps":["`+app+`"]}`), http.StatusForbidden)
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Enqueue}})
		f.problem(f.do(http.MethodGet, "/v1/tasks?id=a", ""), http.StatusForbidden)
		f.problem(f.do(http.MethodPost, "/v1/tasks:find", `{"openid":"`+openid+`"}`), http.StatusForbidden)
	})
}

// TestFind: tasks are found by their id, their receiver and their rid and msgid, page by page.
func TestFind(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for _, id := range []string{"a", "b", "c"} {
			if a := f.do(http.MethodPost, "/v1/tasks", envelope(id)); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
		}
		f.record("*", tasks.Result{ID: "ended", Outcome: tasks.OutcomeAccepted, RID: "65f1-1a", MsgID: "3395159288267931652"})
		ids := func(a answer) (text, cursor string) {
			t.Helper()
			if a.status != http.StatusOK {
				t.Fatalf("%d %s", a.status, a.body)
			}
			found := decode[inspect.FoundTasks](f, a.body)
			for _, item := range found.Items {
				text += item.App + "/" + item.ID + " " + string(item.Place) + ";"
			}
			return text, found.Cursor
		}
		for query, want := range map[string]string{
			"?id=a": app + "/a waiting;", "?id=a&app=" + other: "", "?rid=65f1-1a": app + "/ended done;", "?rid=65f1": "",
			"?msgid=3395159288267931652": app + "/ended done;", "?msgid=1": "",
		} {
			if got, _ := ids(f.do(http.MethodGet, "/v1/tasks"+query, "")); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
		all, cursor := "", ""
		for range 5 {
			text, next := ids(f.do(http.MethodPost, "/v1/tasks:find", fmt.Sprintf(`{"openid":%q,"limit":2,"cursor":%q}`, openid, cursor)))
			all += text
			if cursor = next; cursor == "" {
				break
			}
			all += "|"
		}
		if all != app+"/c waiting;"+app+"/b waiting;|"+app+"/a waiting;" {
			t.Errorf("by openid: %s", all)
		}
		f.problem(f.do(http.MethodPost, "/v1/tasks:find", `{"openid":"`+openid+`","cursor":"`+message+`"}`), http.StatusUnprocessableEntity)
		p := f.problem(f.do(http.MethodGet, "/v1/tasks?rid=65f1&cursor="+message, ""), http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != "query.cursor" {
			t.Errorf("%+v", p)
		}
	})
}

// TestRecentBatches: the batches into which tasks were enqueued last come first, page by page.
func TestRecentBatches(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i, batch := range []string{"first", "second", "third", "first"} {
			task := strings.Replace(envelope(fmt.Sprint(i)), `"body"`, fmt.Sprintf(`"batch":%q,"body"`, batch), 1)
			if a := f.do(http.MethodPost, "/v1/tasks", task); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
			sent := time.Now().UnixMilli() // the times of two batches differ
			redistest.Until(t, 20*time.Second, "the next millisecond", func() bool { return time.Now().UnixMilli() > sent })
		}
		all, cursor := "", ""
		for range 5 {
			a := f.do(http.MethodGet, "/v1/batches?limit=2&cursor="+url.QueryEscape(cursor), "")
			page := decode[struct {
				Items  []inspect.RecentBatch
				Cursor string
			}](f, a.body)
			for _, b := range page.Items {
				all += fmt.Sprint(b.Batch.Batch, " ", b.Total, ";")
				if b.LastEnqueued.IsZero() {
					t.Errorf("%+v", b)
				}
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
			all += "|"
		}
		if all != "first 2;third 1;|second 1;" {
			t.Errorf("%s", all)
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		if a := f.do(http.MethodGet, "/v1/batches", ""); a.body != `{"items":[]}`+"\n" {
			t.Errorf("with a key of another app: %s", a.body)
		}
	})
}

// TestRecentBatchesAreChecked: the list without a name takes the cursor of a page only.
func TestRecentBatchesAreChecked(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	if a := f.do(http.MethodGet, "/v1/batches?cursor=2026-12-01T00:00:00.123Z&limit=200", ""); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	for query, location := range map[string]string{"?cursor=" + openid: "query.cursor", "?limit=201": "query.limit", "?batch=a%20b": "query.batch"} {
		p := f.problem(f.do(http.MethodGet, "/v1/batches"+query, ""), http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p)
		}
	}
}
