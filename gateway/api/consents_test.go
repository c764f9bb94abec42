package api_test

import (
	"net/http"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// A report makes the person's consent known, once for an id; no answer and no log contains the openid.
func TestConsents(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb, func(d *api.Deps) {
			d.Apps = func() []api.App { return []api.App{{ID: app, Consent: "observe"}, {ID: other}} }
		})
		person := "/v1/consents/" + app + "/" + openid
		if got := f.do(http.MethodGet, person, ""); got.status != http.StatusOK || got.body != `{"app":"`+app+`","mode":"observe","items":[]}`+"\n" {
			t.Errorf("nothing is known: %d %s", got.status, got.body)
		}
		accept := `{"template":"T1","status":"accept","id":"order-1"}`
		for range 2 {
			got := decode[api.Consents](f, f.do(http.MethodPost, person, accept).body)
			// The template's kind is not known, but there is a credit.
			if len(got.Items) != 1 || got.Items[0].MaySend != "yes" || got.Items[0].Credits != 1 || got.Items[0].Why != "credits" {
				t.Errorf("after a report: %+v", got)
			}
		}
		f.do(http.MethodPost, person, `{"template":"T2","status":"reject"}`)
		if got := decode[api.Consents](f, f.do(http.MethodGet, person, "").body); len(got.Items) != 2 || got.Items[1].MaySend != "unknown" || got.Items[1].Why != "unknown_kind" {
			t.Errorf("all templates: %+v", got)
		}
		if got := decode[api.Consents](f, f.do(http.MethodGet, person+"?template=T9", "").body); len(got.Items) != 1 || got.Items[0].Why != "no_news" {
			t.Errorf("a template without news: %+v", got)
		}
		if got := decode[api.ConsentCounts](f, f.do(http.MethodGet, "/v1/consents/"+app, "").body); got.Mode != "observe" || got.Days == nil {
			t.Errorf("the counts: %+v", got)
		}

		for _, bad := range []string{`{}`, `{"template":"T1"}`, `{"template":"` + openid + ` x","status":"accept"}`, `{"template":"T1","status":"ban"}`} {
			f.problem(f.do(http.MethodPost, person, bad), http.StatusUnprocessableEntity)
		}
		f.problem(f.do(http.MethodGet, person+"%20x", ""), http.StatusUnprocessableEntity)
		f.problem(f.do(http.MethodPost, "/v1/consents/"+other+"/"+openid, accept), http.StatusConflict)
		f.problem(f.do(http.MethodPost, "/v1/consents/"+alien+"/"+openid, accept), http.StatusUnprocessableEntity)
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		f.problem(f.do(http.MethodGet, person, ""), http.StatusForbidden)
		f.problem(f.do(http.MethodPost, person, accept), http.StatusForbidden)
	})
}
