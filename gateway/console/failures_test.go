package console

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestFailureRows: failures are summed by kind over the apps, the most frequent first.
func TestFailureRows(t *testing.T) {
	from := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	at := func(hour int) time.Time { return from.Add(time.Duration(hour) * time.Hour) }
	points := []series.Point{
		{App: testApp, At: at(1), Type: tasks.TypeSubscribe, Outcome: "rejected", ErrCode: 40037, Count: 3},
		{App: testApp, At: at(5), Type: tasks.TypeSubscribe, Outcome: "rejected", ErrCode: 40037, Count: 4},
		{App: otherApp, At: at(23), Type: tasks.TypeSubscribe, Outcome: "rejected", ErrCode: 40037, Count: 1},
		{App: testApp, At: at(2), Type: tasks.TypeSubscribe, Outcome: "accepted", Count: 90},
		{App: testApp, At: at(2), Type: tasks.TypeSubscribe, Outcome: "refused", ErrCode: 43101, Count: 2},
		{App: testApp, At: at(3), Type: tasks.TypeCustom, Outcome: "failed", ErrCode: series.OtherErrCode, Count: 5},
		{App: testApp, At: at(3), Type: tasks.TypeCustom, Outcome: "unknown", Count: 1},
		{App: testApp, At: at(3), Type: tasks.TypeCustom, Outcome: "canceled", Count: 9},
		{App: testApp, At: at(30), Type: tasks.TypeCustom, Outcome: "failed", Count: 1}, // past the end
	}
	f, span := parseFailureFilter(url.Values{"range": {"24h"}})
	all := newOutcomeCounts(from, time.Hour, 24)
	all.addPoints(points)
	data := newFailures(chinese, f, span, all, all.of([]string{testApp, otherApp}))
	var rows []string
	for _, r := range data.Rows {
		rows = append(rows, fmt.Sprintf("%d %s %s %d %s %d-%d", r.Count, r.Type, r.Outcome, r.Code.Code, r.Code.Meaning, int(r.First.Sub(from).Hours()), int(r.Last.Sub(from).Hours())))
	}
	want := []string{
		"8 send:subscribe rejected 40037 template_id 无效 1-23",
		"5 send:custom failed -999999  3-3",
		"2 send:subscribe refused 43101 用户没有订阅、订阅次数已用完或拒收 2-2",
		"1 send:custom unknown 0  3-3",
	}
	if strings.Join(rows, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
	if data.Total != 16 || data.Ended != 115 || data.Rows[0].Share != 0.08 {
		t.Errorf("%d of %d, share %v", data.Total, data.Ended, data.Rows[0].Share)
	}
	first, other, refused := data.Rows[0], data.Rows[1], data.Rows[2]
	if first.RedriveURL != "/redrive?back=%2Ffailures%3Frange%3D24h&errcode=40037&outcome=rejected&since=2026-12-01T00%3A00%3A00Z&type=send%3Asubscribe" {
		t.Errorf("redrive by %s", first.RedriveURL)
	}
	if first.FindURL != "/find?errcode=40037&from=2026-12-01T08%3A00&status=rejected&type=send%3Asubscribe" {
		t.Errorf("find by %s", first.FindURL)
	}
	if refused.RedriveURL != "" || refused.Not != "redrive.not.refused" || other.RedriveURL != "" || !other.Other {
		t.Errorf("%+v %+v", refused, other)
	}
	f.App, f.Outcome, f.Type = testApp, tasks.OutcomeUnknown, tasks.TypeCustom
	if data := newFailures(english, f, span, all, all.of([]string{testApp})); len(data.Rows) != 1 || data.Ended != 15 {
		t.Errorf("filtered: %+v", data.Rows)
	}
}

// fill records outcomes as replicas do.
func (s *site) fill(add func(*series.Recorder)) {
	s.Helper()
	recorder := series.NewRecorder(s.Redis, slog.New(slog.DiscardHandler))
	add(recorder)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	recorder.Run(ctx) // writes what is left
	if err := s.Redis.SAdd(s.Context(), "wxcourier:apps", testApp, otherApp).Err(); err != nil {
		s.Fatal(err)
	}
}

// TestFailuresPage: each kind of key sees the failures of its apps, with what they mean.
func TestFailuresPage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		u := s.as(operateKey)
		u.shows("/failures", http.StatusOK, "No failures in this time")
		s.fill(func(r *series.Recorder) {
			for range 1204 {
				r.Add(testApp, tasks.TypeSubscribe, "rejected", 40037)
			}
			r.Add(otherApp, tasks.TypeScheme, "failed", -1)
			r.Add(otherApp, tasks.TypeScheme, script, 1)
		})
		for _, span := range failureRanges() {
			s.console.cache.forget("failures:" + span.Name)
			u.shows("/failures?range="+span.Name, http.StatusOK, "1,204", "40037", "template_id invalid", "system busy", "/redrive?")
			u.speaking("zh-CN").shows("/failures?range="+span.Name, http.StatusOK, "template_id 无效", "系统繁忙", "重新投递这 1,204 个…")
		}
		if a := s.as(oneAppKey).shows("/failures", http.StatusOK, "1,204"); strings.Contains(a.body, "system busy") {
			t.Error("a key of one app sees another's failures")
		}
		s.as(oneAppKey).shows("/failures?app="+otherApp, http.StatusForbidden)
		if a := s.as(readKey).shows("/failures", http.StatusOK, "1,204"); strings.Contains(a.body, "/redrive?") {
			t.Error("a key that may only read has a button")
		}
		if a := u.shows("/failures?app="+otherApp+"&type=scheme:generate&outcome=failed", http.StatusOK, "system busy"); strings.Contains(a.body, "40037") {
			t.Error("the filters leave nothing out")
		}
	})
}

// TestPastDays: long spans sum the hours of all days, and days that have passed are read once.
func TestPastDays(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	s.fill(func(r *series.Recorder) { r.Add(testApp, tasks.TypeSubscribe, "rejected", 40037) })
	today := time.Now().UTC().Truncate(dayLength)
	for ago := 2; ago < 40; ago++ {
		at := today.AddDate(0, 0, -ago).Unix() / 86400
		if err := rdb.HSet(t.Context(), fmt.Sprintf("wxcourier:{%s}:series:h:%d", testApp, at), "3|send:subscribe|rejected|40037", 100).Err(); err != nil {
			t.Fatal(err)
		}
	}
	count := func(name string) int64 {
		t.Helper()
		_, span := parseFailureFilter(url.Values{"range": {name}})
		var all outcomeCounts
		redistest.Until(t, 20*time.Second, "all days are read", func() bool {
			s.console.cache.forget("failures:" + name)
			var err error
			if all, err = s.console.outcomes(t.Context(), span); err != nil {
				t.Fatal(err)
			}
			return all.back.IsZero()
		})
		return all.of([]string{testApp})[kind{tasks.TypeSubscribe, tasks.OutcomeRejected, 40037}].total
	}
	for range 2 {
		if n := count("35d"); n != 33*100+1 {
			t.Errorf("%d in 35 days", n)
		}
		if n := count("7d"); n < 5*100+1 || n > 6*100+1 { // by the hour of the day
			t.Errorf("%d in 7 days", n)
		}
		for ago := 3; ago < 40; ago++ { // the second time from memory
			rdb.Del(t.Context(), fmt.Sprintf("wxcourier:{%s}:series:h:%d", testApp, today.AddDate(0, 0, -ago).Unix()/86400))
		}
	}
	s.console.pastDays = newPastDays()
	if n := count("35d"); n != 101 {
		t.Errorf("%d are left in Redis", n)
	}
}

// TestRedriveAll: a redrive asks with the exact number, acts on all that match, on more than one page
// of a list, and on nothing else.
func TestRedriveAll(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		const n = findRows + 2
		var all []tasks.Envelope
		for i := range n {
			all = append(all, envelope(testApp, fmt.Sprint("m", i), testOpenID))
		}
		late := envelope(testApp, "late", testOpenID)
		late.NotAfter = time.Now().Add(time.Second / 2)
		s.enqueue(append(all, late, envelope(testApp, "other-code", testOpenID), envelope(testApp, "lost", testOpenID), envelope(otherApp, "foreign", testOpenID))...)
		for _, e := range append(all, late) {
			s.end(tasks.Result{App: testApp, ID: e.ID, Type: e.Type, Outcome: tasks.OutcomeRejected, ErrCode: 40037})
		}
		s.end(tasks.Result{App: testApp, ID: "other-code", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRejected, ErrCode: 47003})
		s.end(tasks.Result{App: testApp, ID: "lost", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeUnknown})
		s.end(tasks.Result{App: otherApp, ID: "foreign", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRejected, ErrCode: 40037})
		redistest.Until(t, 20*time.Second, "not_after has passed", func() bool { return time.Now().After(late.NotAfter) })

		filter := redriveFilter{Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRejected, ErrCode: "40037", Since: time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), Back: "/failures?range=1h"}
		one, u := s.as(oneAppKey), s.as(operateKey)
		filter.Until = time.Now().Add(time.Minute).UTC().Format(time.RFC3339) // what ended in this second, too
		one.shows(filter.URL(), http.StatusOK, fmt.Sprintf("Redrive these %d tasks", n), "not_after has passed", "template_id invalid")
		u.shows(filter.URL(), http.StatusOK, fmt.Sprintf("Redrive these %d tasks", n+1))
		u.speaking("zh-CN").shows(filter.URL(), http.StatusOK, fmt.Sprintf("重新投递这 %d 个任务", n+1))
		s.as(readKey).shows(filter.URL(), http.StatusForbidden, "scope operate")

		form := url.Values{}
		for field, value := range filter.Hidden() {
			form.Set(field, value)
		}
		if a := s.as(readKey).post("/redrive", form); a.status != http.StatusForbidden {
			t.Errorf("with a key that may only read: %d", a.status)
		}
		if a := one.post("/redrive", form); a.status != http.StatusSeeOther || a.location != filter.Back {
			t.Fatalf("%d %s\n%s", a.status, a.location, a.body)
		}
		one.shows(filter.Back, http.StatusOK, fmt.Sprintf("%d tasks wait again.", n), "1 were left out")
		for id, want := range map[string]tasks.Outcome{"m0": "", fmt.Sprint("m", n-1): "", "late": tasks.OutcomeRejected, "other-code": tasks.OutcomeRejected, "lost": tasks.OutcomeUnknown} {
			if r, err := s.Tasks.Result(t.Context(), testApp, id); err != nil && want != "" || r.Outcome != want {
				t.Errorf("%s: %q, %v", id, r.Outcome, err)
			}
		}
		if r, err := s.Tasks.Result(t.Context(), otherApp, "foreign"); err != nil || r.Outcome != tasks.OutcomeRejected {
			t.Errorf("the task of another app: %q, %v", r.Outcome, err)
		}
		one.shows(filter.URL(), http.StatusOK, "No task matches now")
		entries := s.audited(audit.Redrive)
		if len(entries) != 1 || entries[0].Count != n || !strings.Contains(entries[0].Note, "errcode 40037") || entries[0].By != "key:"+oneAppKey {
			t.Errorf("the audit has %+v", entries)
		}
		filter.Outcome = tasks.OutcomeUnknown
		filter.ErrCode = ""
		u.shows(filter.URL(), http.StatusOK, "may get the message twice", "Redrive this task")
		for path, says := range map[string]string{
			"/redrive": "Name one outcome", "/redrive?outcome=refused": "the person's choice", "/redrive?outcome=failed&since=x": "address of the page is wrong",
			"/redrive?outcome=failed&batch=" + url.QueryEscape(script): "address of the page is wrong",
		} {
			u.shows(path, http.StatusUnprocessableEntity, says)
		}
		if a := u.shows("/redrive?outcome=failed&back="+url.QueryEscape("//evil.example"), http.StatusOK); strings.Contains(a.body, `"//evil`) {
			t.Error("the page leads elsewhere")
		}
	})
}
