package api_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
)

// TestSeries: the counts of outcomes, filtered, of the apps that a key may use.
func TestSeries(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		r := series.NewRecorder(rdb, slog.New(slog.DiscardHandler))
		for _, k := range []struct {
			app, typ, outcome string
			errcode, n        int
		}{
			{app, "send:subscribe", "accepted", 0, 3},
			{app, "send:subscribe", "refused", 43101, 2},
			{app, "send:custom", "failed", -1, 1},
			{other, "send:custom", "accepted", 0, 5},
		} {
			for range k.n {
				r.Add(k.app, k.typ, k.outcome, k.errcode)
			}
		}
		r.Flush(t.Context())
		count := func(query string) (n int64) {
			t.Helper()
			a := f.do(http.MethodGet, "/v1/series"+query, "")
			if a.status != http.StatusOK {
				t.Fatalf("%s: %d %s", query, a.status, a.body)
			}
			for _, p := range decode[struct{ Items []series.Point }](f, a.body).Items {
				if age := time.Since(p.At); age < -time.Minute || age > 2*time.Hour {
					t.Errorf("%+v", p)
				}
				n += p.Count
			}
			return n
		}
		for query, want := range map[string]int64{
			"": 11, "?step=hour": 11, "?app=" + app: 6, "?app=" + app + "&app=" + other: 11, "?type=send:subscribe": 5,
			"?type=send:subscribe&type=send:custom&outcome=refused": 2, "?errcode=43101&errcode=-1": 3, "?from=2h&to=1h": 0, "?from=48h&step=minute": 11,
			"?from=2020-01-01T00:00:00Z&step=hour": 11, "?outcome=accepted&from=10m": 8,
		} {
			if got := count(query); got != want {
				t.Errorf("%q: %d outcomes, want %d", query, got, want)
			}
		}
		for query, location := range map[string]string{
			"?from=1h&to=2h": "query.from", "?step=second": "query.step", "?type=" + openid: "query.type[0]", "?outcome=" + openid: "query.outcome[0]",
			"?errcode=" + openid: "query.errcode", "?from=" + openid: "query.from", "?app=" + openid: "query.app[0]", "?appid=" + app: "query.appid",
		} {
			p := f.problem(f.do(http.MethodGet, "/v1/series"+query, ""), http.StatusUnprocessableEntity)
			if len(p.Errors) != 1 || p.Errors[0].Location != location {
				t.Errorf("%s: %+v", query, p)
			}
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		if got := count(""); got != 5 {
			t.Errorf("with a key of one app: %d", got)
		}
		f.problem(f.do(http.MethodGet, "/v1/series?app="+app, ""), http.StatusForbidden)
	})
}

// TestSeriesIsBounded: an answer that would be too large is refused with what to ask for.
func TestSeriesIsBounded(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	named := ""
	for i := range 200 {
		named += fmt.Sprintf("&app=wx%016x", i)
	}
	p := f.problem(f.do(http.MethodGet, "/v1/series?from=48h"+named, ""), http.StatusUnprocessableEntity)
	if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "step=hour") {
		t.Errorf("%+v", p)
	}
	if a := f.do(http.MethodGet, "/v1/series?from=8h"+named, ""); a.status != http.StatusOK {
		t.Errorf("8 hours: %d %s", a.status, a.body)
	}
	if a := f.do(http.MethodGet, "/v1/series?from=840h&step=hour"+named, ""); a.status != http.StatusOK {
		t.Errorf("35 days: %d %s", a.status, a.body)
	}
}
