package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// auditPage is an answer of GET /v1/audit.
type auditPage struct {
	Items  []audit.Entry
	Cursor string
}

// audited returns the entries of a request, in words.
func (f *fixture) audited(query string) []string {
	f.Helper()
	a := f.do(http.MethodGet, "/v1/audit"+query, "")
	if a.status != http.StatusOK {
		f.Fatalf("%d %s", a.status, a.body)
	}
	all := []string{}
	for _, e := range decode[auditPage](f, a.body).Items {
		all = append(all, fmt.Sprintf("%s %s %s %s %q %d %s", e.By, e.Via, e.Action, e.App, e.Target, e.Count, e.Note))
	}
	return all
}

// TestChangesAreAudited: each change by a request is recorded with the key's id, one that changed
// nothing is not, and the entries have neither the key nor an openid nor a text.
func TestChangesAreAudited(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.as(&apikey.Key{ID: "ops", Scopes: apikey.Scopes()})
		for _, id := range []string{"a", "b", "c", "d"} {
			task := envelope(id)
			if id != "d" {
				task = strings.Replace(task, `"body"`, `"batch":"spring","body"`, 1)
			}
			if a := f.do(http.MethodPost, "/v1/tasks", task); a.status != http.StatusAccepted {
				t.Fatal(a)
			}
		}
		f.fail("d")
		for _, r := range [][3]string{
			{http.MethodPut, "/v1/holds/" + app + "/send:custom", `{"reason":"stopped by legal","until":"2099-01-01T00:00:00Z"}`},
			{http.MethodPut, "/v1/holds/" + app + "/send:custom", `{"reason":"shorter","until":"2098-01-01T00:00:00Z"}`}, // changes nothing
			{http.MethodDelete, "/v1/holds/" + app + "/send:custom", ""},
			{http.MethodDelete, "/v1/holds/" + app + "/send:custom", ""}, // nothing was held
			{http.MethodDelete, "/v1/tasks/" + app + "/a", ""},
			{http.MethodPost, "/v1/redrives", `{"outcomes":["failed"],"since":"1h","dry_run":true}`},
			{http.MethodPost, "/v1/redrives", `{"outcomes":["failed","unknown"],"errcodes":[0]}`},
			{http.MethodPost, "/v1/redrives", `{"outcomes":["failed"]}`}, // none is left
			{http.MethodDelete, "/v1/batches/" + app + "/spring", ""},
		} {
			if a := f.do(r[0], r[1], r[2]); a.status != http.StatusOK {
				t.Fatalf("%v: %d %s", r, a.status, a.body)
			}
		}
		got := f.audited("")
		want := []string{
			`key:ops api cancel_batch ` + app + ` "spring" 3 `,
			`key:ops api redrive ` + app + ` "" 1 failed, unknown, errcode 0`,
			`key:ops api cancel ` + app + ` "a" 1 `,
			`key:ops api release ` + app + ` "send:custom" 0 stopped by legal`,
			`key:ops api hold ` + app + ` "send:custom" 0 stopped by legal, until 2099-01-01T00:00:00Z`,
		}
		if !slices.Equal(got, want) {
			t.Errorf("the audit:\n%s", strings.Join(got, "\n"))
		}
		for _, m := range rdb.XRange(t.Context(), audit.Key, "-", "+").Val() {
			f.clean("an entry", fmt.Sprint(m.Values))
		}
		if got := f.audited("?action=hold&action=release&since=1h&by=key:ops"); len(got) != 2 {
			t.Errorf("holds: %v", got)
		}
		for _, query := range []string{"?by=key:others", "?since=2099-01-01T00:00:00Z", "?app=" + other} {
			if got := f.audited(query); len(got) != 0 {
				t.Errorf("%s: %v", query, got)
			}
		}
	})
}

// TestAuditPages: a page goes on where the last one ended; a key of some apps sees only their changes.
func TestAuditPages(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		for i, of := range []string{app, other, "", app, app} {
			if err := audit.Append(t.Context(), rdb, audit.Entry{By: "me@here", Via: audit.CLI, Action: audit.Hold, App: of, Target: fmt.Sprint(i)}); err != nil {
				t.Fatal(err)
			}
		}
		targets, cursor := "", ""
		for range 9 {
			page := decode[auditPage](f, f.do(http.MethodGet, "/v1/audit?limit=2&cursor="+url.QueryEscape(cursor), "").body)
			for _, e := range page.Items {
				targets += e.Target
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
			targets += ","
		}
		if targets != "43,21,0" {
			t.Errorf("the pages: %s", targets)
		}
		p := f.problem(f.do(http.MethodGet, "/v1/audit?cursor="+openid, ""), http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != "query.cursor" {
			t.Errorf("a bad cursor: %+v", p)
		}
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{other}})
		if got := f.audited(""); len(got) != 1 || !strings.Contains(got[0], other) {
			t.Errorf("with a key of one app: %v", got)
		}
		f.problem(f.do(http.MethodGet, "/v1/audit?app="+app, ""), http.StatusForbidden)
		f.as(&apikey.Key{ID: "k", Scopes: []apikey.Scope{apikey.Enqueue}})
		f.problem(f.do(http.MethodGet, "/v1/audit", ""), http.StatusForbidden)
	})
}

// TestAnAuditThatFailsDoesNotFailTheChange: the entry cannot be written, and the task is canceled.
func TestAnAuditThatFailsDoesNotFailTheChange(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	if err := rdb.Set(t.Context(), audit.Key, "spoiled", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if a := f.do(http.MethodPost, "/v1/tasks", envelope("a")); a.status != http.StatusAccepted {
		t.Fatal(a)
	}
	if a := f.do(http.MethodDelete, "/v1/tasks/"+app+"/a", ""); a.status != http.StatusOK {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	if a := f.do(http.MethodGet, "/v1/tasks/"+app+"/a", ""); !strings.Contains(a.body, `"place":"canceled"`) {
		t.Errorf("the task: %s", a.body)
	}
	if log := f.log.String(); !strings.Contains(log, "the audit has no entry of it") {
		t.Errorf("the log: %s", log)
	}
}
