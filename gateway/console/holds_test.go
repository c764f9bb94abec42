package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestHoldReasons: each reason for which something is held has a text and says what to do.
func TestHoldReasons(t *testing.T) {
	all := readAllTexts(t)
	reasons := append(dispatch.HoldReasons(), inspect.ReasonQuotaDay, inspect.ReasonQuotaTotal, inspect.ReasonQuotaReserved)
	for _, reason := range reasons {
		for _, id := range []string{"reason." + reason, "remedy." + reason} {
			if all[id] == nil {
				t.Errorf("no text %s", id)
			}
		}
	}
	if all["reason.operator"] == nil {
		t.Error("no text for the default of an operator")
	}
}

// TestHolds sets, shows and releases holds.
func TestHolds(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		var asked []string
		s := newSite(t, rdb, func(d *Deps) {
			d.AskQuotas = func(_ context.Context, app string, types []string) error {
				asked = append(asked, app+" "+strings.Join(types, ","))
				return nil
			}
		})
		u := s.as(operateKey)
		u.shows("/holds", http.StatusOK, "Nothing is held", "Set a hold")
		form := url.Values{"app": {testApp}, "what": {"template"}, "template": {"T1-" + script[1:7]}, "ends": {"for"}, "for": {"4h0m0s"}, "reason": {"stopped by " + script}}
		if a := u.post("/holds", form); a.status != http.StatusSeeOther || a.location != "/holds" {
			t.Fatalf("%d\n%s", a.status, a.body)
		}
		page := u.shows("/holds", http.StatusOK, "is held", "template T1-script", "stopped by "+script, "set by an operator", operateKey, `class="until" data-until="`)
		if strings.Contains(page.body, script) {
			t.Error("a reason is not escaped")
		}
		u.speaking("zh-CN").shows("/holds", http.StatusOK, "人工暂停", "模板 T1-script")
		if got := s.audited(audit.Hold); len(got) != 1 || got[0].App != testApp || got[0].By != "key:"+operateKey || got[0].Via != audit.Console || !strings.HasPrefix(got[0].Note, "stopped by") {
			t.Errorf("audit %+v", got)
		}
		release := "/holds/release?" + url.Values{"app": {testApp}, "scope": {"template:T1-script"}}.Encode()
		u.shows(release, http.StatusOK, "Release the hold on template T1-script", "redrive them", "set by "+operateKey)
		if a := u.post("/holds/release", url.Values{"app": {testApp}, "scope": {"template:T1-script"}}); a.status != http.StatusSeeOther {
			t.Errorf("%d\n%s", a.status, a.body)
		}
		u.shows("/holds", http.StatusOK, "is released", "Nothing is held")
		u.shows(release, http.StatusNotFound, "no such hold")
		if got := s.audited(audit.Release); len(got) != 1 || got[0].Target != "template:T1-script" {
			t.Errorf("audit %+v", got)
		}
		// WeChat's own limit of the day: it is asked for its count.
		end := hold.End{At: hold.EndOfDay}
		if _, _, err := s.Holds.SetEnding(t.Context(), hold.Hold{App: testApp, Scope: tasks.TypeSubscribe, Reason: "quota_day", Code: 45009, By: hold.ReplicaPrefix + "w1"}, end); err != nil {
			t.Fatal(err)
		}
		s.console.cache.forget("state")
		u.shows("/holds", http.StatusOK, "today's quota is used up", "45009", "set by a worker", "WeChat is asked for its count")
		if a := u.post("/holds/release", url.Values{"app": {testApp}, "scope": {tasks.TypeSubscribe}}); a.status != http.StatusSeeOther || len(asked) != 1 || asked[0] != testApp+" "+tasks.TypeSubscribe {
			t.Errorf("%d, asked %v\n%s", a.status, asked, a.body)
		}
	})
}

// TestHoldKeys: a key sees and changes the holds of its apps, within its scopes.
func TestHoldKeys(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	for _, app := range []string{testApp, otherApp} {
		if _, err := s.Holds.Set(t.Context(), hold.Hold{App: app, Scope: hold.WholeApp, Reason: "why-" + app, By: "somebody"}); err != nil {
			t.Fatal(err)
		}
	}
	whole := func(app string) url.Values {
		return url.Values{"app": {app}, "scope": {hold.WholeApp}, "what": {"app"}, "ends": {"never"}}
	}
	reader := s.as(readKey)
	if page := reader.shows("/holds", http.StatusOK, "why-"+testApp, "why-"+otherApp, "the whole app", "until it is lifted").body; strings.Contains(page, `action="/holds"`+"\n") || strings.Contains(page, "/holds/release") {
		t.Error("a key that may only read is shown buttons")
	}
	for _, path := range []string{"/holds", "/holds/release"} {
		if a := reader.post(path, whole(testApp)); a.status != http.StatusForbidden {
			t.Errorf("%s with the scope read: %d", path, a.status)
		}
	}
	one := s.as(oneAppKey)
	if page := one.shows("/holds", http.StatusOK, "why-"+testApp).body; strings.Contains(page, otherApp) {
		t.Error("a key of one app sees the hold of another")
	}
	one.shows("/holds?app="+otherApp, http.StatusForbidden)
	for _, path := range []string{"/holds", "/holds/release"} {
		if a := one.post(path, whole(otherApp)); a.status != http.StatusForbidden {
			t.Errorf("%s for another app: %d", path, a.status)
		}
	}
	if a := s.as(operateKey).post("/holds", whole(testApp)); a.status != http.StatusSeeOther { // in force already
		t.Errorf("%d\n%s", a.status, a.body)
	}
}

// TestHoldForm: each mistake is said beside its field, and what was entered stays.
func TestHoldForm(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, calendar.Shanghai())
	good := map[string]string{"app": testApp, "what": "type", "type": tasks.TypeSubscribe, "ends": "at", "at": "2026-11-22T10:30", "reason": "x"}
	for _, c := range []struct{ field, text, fault string }{
		{"", "", ""},
		{"what", "", "what"},
		{"type", "send:nothing", "type"},
		{"type", "*", "type"},
		{"ends", "", "ends"},
		{"at", "2026-11-22T09:59", "at"},
		{"at", "soon", "at"},
		{"reason", strings.Repeat("x", 201), "reason"},
		{"reason", "two\nlines", "reason"},
	} {
		v := make(url.Values)
		for name, text := range good {
			v.Set(name, text)
		}
		if c.field != "" {
			v.Set(c.field, c.text)
		}
		f := parseHoldForm(v)
		h := f.hold(now)
		if (len(f.Faults) > 0) != (c.fault != "") || c.fault != "" && !f.Invalid(c.fault) {
			t.Errorf("%s %q: faults %v", c.field, c.text, f.Faults)
		}
		if want := now.Add(30 * time.Minute); c.fault == "" && (!h.Until.Equal(want) || h.Scope != tasks.TypeSubscribe) {
			t.Errorf("%+v", h)
		}
	}
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	a := s.as(operateKey).post("/holds", url.Values{"app": {"wxffffffffffffffff"}, "what": {"template"}, "template": {"a b"}, "ends": {"for"}, "for": {"2s"}, "reason": {script}})
	if a.status != http.StatusUnprocessableEntity || strings.Count(a.body, `class="fault"`) != 3 || strings.Contains(a.body, script) || !strings.Contains(a.body, `value="a b"`) {
		t.Errorf("%d\n%s", a.status, a.body)
	}
}
