package api_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/tasks"
)

// record adds a result to the stream of its app, as the entry with an id ("*": the next one).
func (f *fixture) record(entry string, r tasks.Result) tasks.Result {
	f.Helper()
	if r.App == "" {
		r.App = app
	}
	r.Type, r.State = tasks.TypeCustom, tasks.StateDone
	if r.Outcome == "" {
		r.Outcome = tasks.OutcomeAccepted
	}
	r.EnqueuedAt, r.FinishedAt = time.UnixMilli(1_800_000_000_000), time.UnixMilli(1_800_000_001_000)
	err := f.rdb.XAdd(f.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(r.App), ID: entry, Values: []any{"result", r.Encode()}}).Err()
	if err != nil {
		f.Fatal(err)
	}
	if err := f.rdb.SAdd(f.Context(), ledger.AppsKey, r.App).Err(); err != nil {
		f.Fatal(err)
	}
	return r
}

// page is the JSON of a page of results.
type page struct {
	Items  []tasks.Result
	Cursor string
	More   bool
	Gaps   []struct {
		App      string
		Start    time.Time
		ByLength bool `json:"by_length"`
	}
}

func (f *fixture) page(query string) page {
	f.Helper()
	a := f.do(http.MethodGet, "/v1/results?"+query, "")
	if a.status != http.StatusOK {
		f.Fatalf("%s: %d %s", query, a.status, a.body)
	}
	return decode[page](f, a.body)
}

func idsOf(results []tasks.Result) (ids []string) {
	for _, r := range results {
		ids = append(ids, r.ID)
	}
	return ids
}

func TestListResults(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i := range 30 {
			r := tasks.Result{ID: fmt.Sprint(i), App: []string{app, other, app}[i%3], Batch: []string{"", "spring"}[i%2], Outcome: tasks.OutcomeAccepted}
			if i%10 == 9 {
				r.Outcome, r.ErrCode = tasks.OutcomeFailed, 40001
			}
			f.record(fmt.Sprintf("%d-0", 1000+i), r)
		}
		var got []string
		query := "limit=7"
		for more := true; more; {
			p := f.page(query)
			got, more = append(got, idsOf(p.Items)...), p.More
			query = "limit=7&cursor=" + p.Cursor
		}
		var want []string
		for i := range 30 {
			want = append(want, fmt.Sprint(i))
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages: %v", got)
		}
		f.record("2000-0", tasks.Result{ID: "later"})
		if p := f.page(query); !slices.Equal(idsOf(p.Items), []string{"later"}) || p.More {
			t.Errorf("the cursor of the last page goes on with %+v", p)
		}
		for query, want := range map[string][]string{
			"outcome=failed&outcome=unknown":             {"9", "19", "29"},
			"errcode=40001&app=" + other:                 {"19"},
			"batch=spring&app=" + other + "&limit=2":     {"1", "7"},
			"type=send:template":                         nil,
			"since=1970-01-01T00:00:01.028Z&limit=2":     {"28", "29"},
			"until=1970-01-01T00:00:01.002Z":             {"0", "1"},
			"app=" + app + "&app=" + other + "&limit=3":  {"0", "1", "2"},
			"since=1970-01-01T00:00:01.05%2B00:00&app=x": {"refused"},
		} {
			if slices.Contains(want, "refused") {
				f.problem(f.do(http.MethodGet, "/v1/results?"+query, ""), http.StatusUnprocessableEntity)
				continue
			}
			if got := idsOf(f.page(query).Items); !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", query, got, want)
			}
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		for _, r := range f.page("limit=1000").Items {
			if r.App != other {
				t.Errorf("a key of another app gets %+v", r)
			}
		}
		f.problem(f.do(http.MethodGet, "/v1/results?app="+app, ""), http.StatusForbidden)
	})
}

func TestResultFormats(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	first := f.record("1000-0", tasks.Result{ID: "1", Batch: "b", ErrMsg: `say "hi", <b>`, Attempts: 1, MsgID: "3395159288267931652"})
	second := f.record("1001-0", tasks.Result{ID: "2", App: other, Outcome: tasks.OutcomeUnknown})

	lines := f.do(http.MethodGet, "/v1/results", "", "Accept", "text/html, application/x-ndjson;q=0.9, */*")
	want := string(first.Encode()) + "\n" + string(second.Encode()) + "\n"
	if lines.body != want || lines.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("JSON Lines: %s\nwant %s", lines.body, want)
	}
	cursor := lines.header.Get("Wxcourier-Cursor")
	if lines.header.Get("Wxcourier-More") != "false" || len(f.page("cursor="+cursor).Items) != 0 {
		t.Errorf("the headers %v", lines.header)
	}
	var table bytes.Buffer
	w := resultcsv.NewWriter(&table)
	for _, r := range []tasks.Result{first, second} {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []answer{
		f.do(http.MethodGet, "/v1/results?format=csv", ""), f.do(http.MethodGet, "/v1/results", "", "Accept", "text/csv"),
	} {
		rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
		if err != nil || len(rows) != 3 || a.body != table.String() || !strings.HasPrefix(a.header.Get("Content-Type"), "text/csv") {
			t.Errorf("CSV: %v, %s", err, a.body)
		}
	}
	if a := f.do(http.MethodGet, "/v1/results?format=json", "", "Accept", "text/csv"); !json.Valid([]byte(a.body)) {
		t.Errorf("format has no precedence: %s", a.body)
	}
}

// What is no longer kept is said, in each format, to a client that asked for it.
func TestResultGaps(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i := range 1000 {
			f.record(fmt.Sprintf("%d-0", 1000+i), tasks.Result{ID: fmt.Sprint(i)})
		}
		before := f.page("limit=1").Cursor
		policy := ledger.Policy{Retention: 1_000_000 * time.Hour, StreamMax: 200}
		if err := ledger.New(rdb, policy).TrimStream(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		if p := f.page("limit=1"); len(p.Gaps) != 0 {
			t.Errorf("without a position: %+v", p.Gaps)
		}
		for _, query := range []string{"cursor=" + before, "since=1970-01-01T00:00:00Z&limit=1"} {
			p := f.page(query)
			if len(p.Gaps) != 1 || p.Gaps[0].App != app || !p.Gaps[0].ByLength || len(p.Items) == 0 {
				t.Errorf("%s: gaps %+v, %d items", query, p.Gaps, len(p.Items))
			}
			a := f.do(http.MethodGet, "/v1/results?format=csv&"+query, "")
			if gaps := a.header.Get("Wxcourier-Gaps"); !strings.Contains(gaps, `"by_length":true`) {
				t.Errorf("%s: the header %q", query, gaps)
			}
		}
	})
}

func TestResultsRefuse(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	for _, query := range []string{
		"app=" + openid, "cursor=" + openid, "since=" + openid, "until=-5m", "limit=0", "limit=1001", "limit=" + openid,
		"outcome=" + openid, "type=" + openid, "errcode=" + openid, "format=" + openid, "batch=%20" + openid, "x=" + openid,
	} {
		name, _, _ := strings.Cut(query, "=")
		p := f.problem(f.do(http.MethodGet, "/v1/results?"+query, ""), http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Location, "query."+name) {
			t.Errorf("%s: %+v", query, p)
		}
	}
}
