package console

import (
	"encoding/csv"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// batchOf enqueues n messages in a batch: <batch>-0, <batch>-1 …
func (s *site) batchOf(app, batch string, n int) {
	s.Helper()
	var all []tasks.Envelope
	for i := range n {
		e := envelope(app, fmt.Sprintf("%s-%d", batch, i), testOpenID)
		e.Batch = batch
		all = append(all, e)
	}
	s.enqueue(all...)
}

// endOf ends a task of a batch.
func (s *site) endOf(batch string, n int, outcome tasks.Outcome, code int, msg string) {
	s.Helper()
	s.end(tasks.Result{
		ID: fmt.Sprintf("%s-%d", batch, n), App: testApp, Type: tasks.TypeSubscribe, Batch: batch, Outcome: outcome, ErrCode: code, ErrMsg: msg,
		MsgID: testMsgID, Attempts: 1,
	})
}

// TestBatches lists batches by their last enqueue, and finds them by their names.
func TestBatches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		u := s.as(readKey)
		u.shows("/batches", http.StatusOK, "There are no batches")
		s.batchOf(testApp, "spring", 3)
		s.batchOf(otherApp, "autumn", 1)
		s.batchOf(testApp, "summer", 1)
		s.endOf("summer", 0, tasks.OutcomeAccepted, 0, "ok")
		s.console.cache.forget("batches " + testApp + " " + otherApp)
		page := u.shows("/batches", http.StatusOK, "/batches/"+testApp+"/spring", "0 of 3 tasks have ended", "1 of 1 tasks have ended", "finished").body
		order := []int{strings.Index(page, "/summer"), strings.Index(page, "/autumn"), strings.Index(page, "/spring")}
		if order[0] < 0 || order[0] > order[1] || order[1] > order[2] {
			t.Errorf("the order is %v:\n%s", order, page)
		}
		for _, typ := range []string{tasks.TypeSubscribe, tasks.TypeCustom} {
			if _, err := s.Holds.Set(t.Context(), hold.Hold{App: testApp, Scope: typ, Reason: "legal", By: "somebody"}); err != nil {
				t.Fatal(err)
			}
		}
		s.console.cache.forget("state")
		if page := u.shows("/batches", http.StatusOK, "until it is lifted").body; strings.Count(page, "until it is lifted") != 1 {
			t.Errorf("a hold of a type stops the open batch of that type alone:\n%s", page)
		}
		if page := u.shows("/batches?name=SUM", http.StatusOK, "/summer").body; strings.Contains(page, "/spring") {
			t.Error("the filter by name shows others")
		}
		if page := u.shows("/batches?app="+otherApp, http.StatusOK, "/autumn").body; strings.Contains(page, "/spring") {
			t.Error("the filter by app shows others")
		}
		u.speaking("zh-CN").shows("/batches", http.StatusOK, "批次", "3 个任务中 0 个已结束", "已完成")
		u.shows("/batches?name="+script, http.StatusOK, "No batch matches")
		one := s.as(oneAppKey)
		if page := one.shows("/batches", http.StatusOK, "/spring").body; strings.Contains(page, "autumn") || strings.Contains(page, otherApp) {
			t.Error("a key of one app sees the batches of another")
		}
		one.shows("/batches?app="+otherApp, http.StatusForbidden)
		one.shows("/batches/"+otherApp+"/autumn", http.StatusForbidden)
		one.shows("/batches/"+otherApp+"/autumn/report.csv", http.StatusForbidden)
	})
}

// TestBatchPages turns the pages of a long list.
func TestBatchPages(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	for i := range batchRows + 3 {
		s.batchOf(testApp, fmt.Sprintf("b%03d", i), 1)
	}
	u := s.as(readKey)
	page := u.get("/batches").body
	_, link, ok := strings.Cut(page, `href="/batches?before=`)
	if !ok || strings.Count(page, "/batches/"+testApp) != batchRows {
		t.Fatalf("%d rows\n%s", strings.Count(page, "/batches/"+testApp), page)
	}
	before, _, _ := strings.Cut(link, `"`)
	next := u.shows("/batches?before="+before, http.StatusOK, "/b002", "/b000", "First page").body
	if strings.Count(next, "/batches/"+testApp) != 3 {
		t.Errorf("the second page has %d rows", strings.Count(next, "/batches/"+testApp))
	}
}

// TestBatchPage shows the progress of a batch, and cancels it, with the keys that may.
func TestBatchPage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb, func(d *Deps) { d.Retention = 24 * time.Hour })
		path := "/batches/" + testApp + "/spring"
		s.as(readKey).shows(path, http.StatusNotFound, "no such batch")
		s.as(readKey).shows("/batches/"+testApp+"/"+script, http.StatusNotFound)
		s.batchOf(testApp, "spring", 5)
		s.console.cache.forget("batch " + testApp + " spring")
		s.endOf("spring", 0, tasks.OutcomeAccepted, 0, "ok")
		s.endOf("spring", 1, tasks.OutcomeFailed, 0, "")
		s.endOf("spring", 2, tasks.OutcomeRefused, 43101, script)
		if _, err := s.Holds.Set(t.Context(), hold.Hold{App: testApp, Scope: tasks.TypeSubscribe, Reason: script, By: "somebody"}); err != nil {
			t.Fatal(err)
		}
		u := s.as(operateKey)
		page := u.shows(path, http.StatusOK, "3 of 5 tasks have ended", "60%", "No worker runs", "send:subscribe", script, "kept for 1 d",
			"/find?app="+testApp+"&batch=spring&status=failed", "/redrive?app="+testApp+"&back=%2Fbatches%2F"+testApp+"%2Fspring&batch=spring&outcome=failed", "Redrive these 1").body
		if strings.Contains(page, script) {
			t.Error("a reason is not escaped")
		}
		u.speaking("zh-CN").shows(path, http.StatusOK, "5 个任务中 3 个已结束", "预计剩余时间", "没有运行中的 worker")
		if page := s.as(readKey).get(path).body; strings.Contains(page, "/cancel") || strings.Contains(page, "/redrive?") {
			t.Error("a key that may only read is shown what it may not do")
		}
		s.as(readKey).shows(path+"/cancel", http.StatusForbidden)
		if a := s.as(readKey).post(path+"/cancel", nil); a.status != http.StatusForbidden {
			t.Errorf("a key that may only read cancels: %d", a.status)
		}
		u.shows(path+"/cancel", http.StatusOK, "Cancel the 2 open tasks of the batch spring?", "Cancel 2 tasks")
		if a := u.post(path+"/cancel", nil); a.status != http.StatusSeeOther || a.location != path {
			t.Errorf("cancel: %d to %s\n%s", a.status, a.location, a.body)
		}
		u.shows(path, http.StatusOK, "2 tasks were canceled")
		if got := s.audited(audit.CancelBatch); len(got) != 1 || got[0].Target != "spring" || got[0].Count != 2 || got[0].By != "key:"+operateKey || got[0].Via != audit.Console {
			t.Errorf("audit %+v", got)
		}
	})
}

// TestBatchReport is a CSV of all tasks, whose cells a spreadsheet shows as they are.
func TestBatchReport(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		s.batchOf(testApp, "spring", 4)
		s.endOf("spring", 0, tasks.OutcomeRejected, 47003, "=cmd|'/C calc'!A0")
		s.endOf("spring", 1, tasks.OutcomeAccepted, 0, "ok")
		path := "/batches/" + testApp + "/spring/report.csv"
		s.as(readKey).shows("/batches/"+testApp+"/none/report.csv", http.StatusNotFound, "no such batch")
		a := s.as(readKey).get(path)
		s.hides(a)
		if a.status != http.StatusOK || a.header.Get("Content-Type") != "text/csv; charset=utf-8" || !strings.Contains(a.header.Get("Content-Disposition"), "attachment") {
			t.Fatalf("status %d, %v", a.status, a.header)
		}
		text, marked := strings.CutPrefix(a.body, "\uFEFF")
		rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil || len(rows) != 5 || !marked {
			t.Fatalf("%d rows, marked %v, %v\n%s", len(rows), marked, err, a.body)
		}
		for _, cell := range []string{"'=cmd|'/C calc'!A0", "\t" + testMsgID, "waiting", "rejected"} {
			found := false
			for _, row := range rows {
				for _, c := range row {
					found = found || c == cell
				}
			}
			if !found {
				t.Errorf("no cell %q in\n%s", cell, a.body)
			}
		}
	})
}

// TestBatchViewers: twenty viewers of a batch read Redis as often as one, besides their sessions.
func TestBatchViewers(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb, openKeys)
	s.batchOf(testApp, "spring", 5)
	s.endOf("spring", 1, tasks.OutcomeFailed, 0, "")
	path := "/batches/" + testApp + "/spring"
	u := s.visitor()
	u.shows(path, http.StatusOK, "1 of 5 tasks have ended") // the secret of the forms is read
	sent := redistest.Count(rdb)
	read := func(viewers int) int64 {
		s.console.cache.mu.Lock()
		clear(s.console.cache.readings)
		s.console.cache.mu.Unlock()
		commands, _ := sent.During(func() {
			var all sync.WaitGroup
			for range viewers {
				all.Go(func() {
					if a := s.visitor().get(path); a.status != http.StatusOK {
						t.Errorf("status %d", a.status)
					}
				})
			}
			all.Wait()
		})
		return commands
	}
	read(1)
	if one, twenty := read(1), read(20); one != twenty || one == 0 {
		t.Errorf("one viewer costs %d commands, twenty %d", one, twenty)
	}
}

// TestBatchEnd estimates by the pace, the quota that is left of today and the hours, and says what is
// the cause.
func TestBatchEnd(t *testing.T) {
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, calendar.Shanghai())
	urgent, bulk := inspect.Queue{Type: tasks.TypeSubscribe}, inspect.Queue{Type: tasks.TypeSubscribe, Bulk: true}
	worker := heartbeat.Replica{Kind: heartbeat.Worker}
	lane := func(windows ...ratelimit.Usage) []inspect.LaneUsage {
		return []inspect.LaneUsage{{Lane: inspect.Lane{App: testApp, Type: tasks.TypeSubscribe, Waiting: 600}, Windows: windows}}
	}
	day := ratelimit.Usage{Name: tasks.TypeSubscribe, Window: ratelimit.PerDay, Limit: 1000, Used: 700, Reserved: 200, Factor: 1}
	for name, c := range map[string]struct {
		queue    inspect.Queue
		rate     float64
		lanes    []inspect.LaneUsage
		holds    []hold.Hold
		replicas []heartbeat.Replica
		end      batchEnd
	}{
		"at its pace":       {urgent, 10, lane(), nil, []heartbeat.Replica{worker}, batchEnd{Known: true, Left: time.Minute, Bound: campaign.ByRate}},
		"no worker":         {urgent, 10, lane(), nil, []heartbeat.Replica{{Kind: heartbeat.Gateway}, {Kind: heartbeat.Worker, Lost: true}}, batchEnd{}},
		"the quota of days": {urgent, 10, lane(day), nil, []heartbeat.Replica{worker}, batchEnd{Known: true, Left: 14*time.Hour + 30*time.Second, Bound: campaign.ByDay}},
		"held": {
			urgent, 10, lane(),
			[]hold.Hold{{App: testApp, Scope: hold.WholeApp, Reason: "operator", By: "me"}},
			[]heartbeat.Replica{worker},
			batchEnd{Bound: campaign.ByHold},
		},
		"bulk, held by the reserve": {
			bulk, 10, lane(),
			[]hold.Hold{{App: testApp, Scope: hold.BulkScope(tasks.TypeSubscribe), By: hold.OurCount, Until: now.Add(time.Hour)}},
			[]heartbeat.Replica{worker},
			batchEnd{Known: true, Left: time.Hour + time.Minute, Bound: campaign.ByRate},
		},
		"of another app": {
			urgent, 10, lane(),
			[]hold.Hold{{App: otherApp, Scope: hold.WholeApp, By: "me"}},
			[]heartbeat.Replica{worker},
			batchEnd{Known: true, Left: time.Minute, Bound: campaign.ByRate},
		},
	} {
		s := batchSituation{
			now: now, state: inspect.State{Lanes: c.lanes, Holds: c.holds, Replicas: c.replicas},
			concurrency: func(string, string) int { return 100 },
		}
		b := batchReading{inspect.Batch{App: testApp, Batch: "b", Total: 1000, Done: 400, Open: 600, Rate: c.rate}, map[inspect.Queue]float64{c.queue: 1}}
		end := s.end(b)
		if off := (end.Left - c.end.Left).Abs(); end.Known != c.end.Known || end.Bound != c.end.Bound || off > 2*time.Second {
			t.Errorf("%s: %+v, want %+v", name, end, c.end)
		}
		if stops, want := len(s.stop(b)) > 0, strings.Contains(name, "held"); stops != want {
			t.Errorf("%s: it is stopped: %v", name, stops)
		}
	}
}
