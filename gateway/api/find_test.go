package api_test

import (
	"net/http"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
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
