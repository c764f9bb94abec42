package console

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

// What no page, URL or log may have.
const (
	testOpenID = "oSecretPerson0123456789abcde" // in WeChat's form
	devOpenID  = "slow-oSample7"                // as the sandbox has them
	testText   = "message to a person"
)

const (
	testRID   = "6b0104dc-369eae0b-0ca19112"
	testMsgID = "3395159288267931652"
)

func (s *site) ledger() *ledger.Ledger {
	return ledger.New(s.Redis, ledger.Policy{Retention: time.Hour, StreamMax: 100_000, DeadAfter: time.Minute, LostLimit: 3, IndexOpenIDs: true})
}

// envelope is a message to a person.
func envelope(app, id, openid string) tasks.Envelope {
	body, _ := json.Marshal(map[string]any{
		"touser": openid, "template_id": "T1", "page": "pages/index", "data": map[string]any{"thing1": map[string]string{"value": testText}},
	})
	return tasks.Envelope{Type: tasks.TypeSubscribe, App: app, ID: id, Body: body}
}

// enqueue enqueues tasks as a producer does.
func (s *site) enqueue(all ...tasks.Envelope) {
	s.Helper()
	for _, r := range s.Tasks.SubmitMany(s.Context(), all) {
		if r.Err != nil {
			s.Fatal(r.Err)
		}
	}
}

// end ends an enqueued task as a worker does.
func (s *site) end(r tasks.Result) {
	s.Helper()
	queue := tasks.QueueName(r.App, r.Type, tasks.Urgent)
	waiting := asynq.NewInspectorFromRedisClient(s.Redis)
	info, err := waiting.GetTaskInfo(queue, r.App+":"+r.ID)
	if err != nil {
		s.Fatal(err)
	}
	ref := ledger.Ref{App: r.App, ID: r.ID, Batch: r.Batch}
	opened, err := s.ledger().Open(s.Context(), ref, ledger.OpenRequest{Runner: "r", Queue: queue, Marked: true})
	if err != nil || opened.Admission != ledger.Proceed {
		s.Fatal(opened, err)
	}
	r.State, r.FinishedAt, r.EnqueuedAt, r.Generation = tasks.StateDone, time.Now(), opened.Enqueued, opened.Generation
	_, err = s.ledger().Settle(s.Context(), ref, ledger.SettleRequest{
		Outcome: string(r.Outcome), Result: r.Encode(), Queue: queue, Generation: opened.Generation,
		Content: ledger.TaskContent{Payload: info.Payload, Headers: info.Headers},
	})
	if err == nil {
		err = waiting.DeleteTask(queue, info.ID)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// hides fails the test if an answer or the log has something that only a receiver may see.
func (s *site) hides(a answered) {
	s.Helper()
	for where, text := range map[string]string{"the page": a.body, "the URL": a.location, "the log": s.log.String()} {
		for _, hidden := range []string{testOpenID, devOpenID, testText} {
			if strings.Contains(text, hidden) {
				s.Errorf("%s has %q:\n%s", where, hidden, text)
			}
		}
	}
}

// shows opens a page and checks what it shows.
func (u *user) shows(path string, status int, texts ...string) answered {
	u.Helper()
	a := u.get(path)
	u.hides(a)
	if a.status != status {
		u.Errorf("%s: status %d, want %d\n%s\n%s", path, a.status, status, a.body, u.log)
	}
	for _, text := range texts {
		if !strings.Contains(html.UnescapeString(a.body), text) {
			u.Errorf("%s does not show %q\n%s", path, text, a.body)
		}
	}
	return a
}

// find searches by the form.
func (u *user) find(text string) answered {
	u.Helper()
	a := u.post("/find", url.Values{"q": {text}})
	if a.status == http.StatusSeeOther {
		u.hides(a)
	}
	return a
}

// TestFind: the search form finds tasks by what an operator has, and an openid is in no URL.
func TestFind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		s.enqueue(envelope(testApp, "order-1", testOpenID), envelope(testApp, "order-2", testOpenID), envelope(otherApp, "order-1", devOpenID))
		s.end(tasks.Result{App: testApp, ID: "order-1", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeAccepted, Attempts: 1, MsgID: testMsgID, RID: testRID})
		u := s.as(operateKey)
		for text, want := range map[string]string{
			"order-2": "/tasks/" + testApp + "/order-2", "  order-2 ": "/tasks/" + testApp + "/order-2", "order-1": "/find?id=order-1",
			testOpenID: "/find?person=" + ledger.PersonOf(testOpenID), devOpenID: "/tasks/" + otherApp + "/order-1",
			testRID: "/tasks/" + testApp + "/order-1", strings.ToUpper(testRID): "/tasks/" + testApp + "/order-1",
			testMsgID: "/tasks/" + testApp + "/order-1", "": "/find",
			"oNobody": "/find?person=" + ledger.PersonOf("oNobody"), "no~such~id": "/find?id=no~such~id",
		} {
			if a := u.find(text); a.status != http.StatusSeeOther || a.location != want {
				t.Errorf("%q leads to %d %s, want %s", text, a.status, a.location, want)
			}
		}
		if a := u.find("two words " + script); a.status != http.StatusUnprocessableEntity || strings.Contains(a.body, script) || !strings.Contains(a.body, "neither an id") {
			t.Errorf("a text that is nothing: %d %s", a.status, a.body)
		}
		u.shows("/find?id=order-1", http.StatusOK, testApp, otherApp, "accepted", "waiting")
		person := "/find?person=" + ledger.PersonOf(testOpenID)
		u.shows(person, http.StatusOK, "order-1", "order-2", "Tasks of one person")
		if a := u.shows(person+"&status=accepted&app="+testApp, http.StatusOK, "order-1"); strings.Contains(a.body, "order-2") {
			t.Error("a filter leaves nothing out")
		}
		u.speaking("zh-CN").shows("/find?person="+ledger.PersonOf("oNobody"), http.StatusOK, "没有找到")
		u.shows("/find?id=no~such~id", http.StatusOK, "No task has this id")

		one := s.as(oneAppKey) // does not see the other app
		if a := one.find("order-1"); a.location != "/tasks/"+testApp+"/order-1" {
			t.Errorf("with a key of one app: %s", a.location)
		}
		if a := one.shows("/find", http.StatusOK); strings.Contains(a.body, otherApp) {
			t.Error("a key of one app sees another")
		}
		one.shows("/find?app="+otherApp, http.StatusForbidden, "may not use the app")
		s.as(readKey).shows("/find", http.StatusOK, "order-1")
	})
}

// TestFindFilters: filters combine, are in the URL, and the list goes back page by page.
func TestFindFilters(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		var all []tasks.Envelope
		for i := range findRows + 2 {
			e := envelope(testApp, fmt.Sprintf("m%03d", i), testOpenID)
			e.Batch = "spring"
			all = append(all, e)
		}
		later := envelope(otherApp, "later", testOpenID)
		later.ProcessAt = time.Now().Add(time.Hour)
		s.enqueue(append(all, envelope(otherApp, "other", testOpenID), envelope(otherApp, "waits", testOpenID), later)...)
		for _, e := range all {
			s.end(tasks.Result{App: testApp, ID: e.ID, Type: e.Type, Batch: "spring", Outcome: tasks.OutcomeRefused, ErrCode: 43101, ErrMsg: script, Attempts: 1})
		}
		ended := time.Now()
		redistest.Until(t, 20*time.Second, "the next entry is later", func() bool { return time.Since(ended) > 5*time.Millisecond })
		s.end(tasks.Result{App: otherApp, ID: "other", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRejected, ErrCode: 47003, Attempts: 1})
		u := s.as(operateKey)
		links := regexp.MustCompile(`href="/tasks/[^"]*/([^"]*)"`)
		ids := func(path string) (found []string) {
			t.Helper()
			for _, m := range links.FindAllStringSubmatch(u.shows(path, http.StatusOK).body, -1) {
				found = append(found, m[1])
			}
			return found
		}
		hour := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		for path, want := range map[string]int{
			"/find": findRows, "/find?errcode=47003": 1, "/find?status=rejected&type=send:subscribe": 1, "/find?status=accepted": 0,
			"/find?batch=spring&errcode=43101&app=" + testApp: findRows, "/find?batch=spring&app=" + otherApp: 0,
			"/find?until=" + url.QueryEscape(hour): 0, "/find?errcode=47003&from=" + url.QueryEscape(hour): 1,
			"/find?status=waiting": 1, "/find?status=scheduled&type=send:subscribe": 1, "/find?status=scheduled&batch=spring": 0, "/find?status=retrying": 0,
		} {
			if got := ids(path); len(got) != want {
				t.Errorf("%s lists %d tasks, want %d: %v", path, len(got), want, got)
			}
		}
		if got := ids("/find"); got[0] != "other" || got[1] != all[len(all)-1].ID {
			t.Errorf("the newest is not first: %v", got[:2])
		}
		next := regexp.MustCompile(`href="([^"]*)" rel="next"`).FindStringSubmatch(u.get("/find?batch=spring&status=refused").body)
		if next == nil || !strings.Contains(next[1], "status=refused") {
			t.Fatalf("the link to older tasks is %v", next)
		}
		if got := ids(html.UnescapeString(next[1])); len(got) != 2 || got[1] != "m000" {
			t.Errorf("the second page has %v", got)
		}
		for field, value := range map[string]string{"errcode": "x", "from": "yesterday", "until": "1", "type": "send:x", "status": "lost", "batch": script, "app": "x"} {
			a := u.shows("/find?"+url.Values{field: {value}}.Encode(), http.StatusOK, `class="fault"`)
			if strings.Contains(a.body, script) {
				t.Errorf("%s is not escaped", field)
			}
		}
		u.shows("/find?before=x", http.StatusBadRequest, "Start at the newest")
		u.shows("/find?status=waiting&before=x", http.StatusBadRequest, "Start at the newest")
	})
}

// TestFindBounds: a search that reads many results says how far it went, and goes on from there.
func TestFindBounds(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	s := newSite(t, rdb)
	p := rdb.Pipeline()
	for i := range resultlog.MaxScan + 5 {
		r := tasks.Result{App: testApp, ID: fmt.Sprint("m", i), Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeAccepted, FinishedAt: time.UnixMilli(int64(i + 1))}
		if i == 0 {
			r.Outcome, r.RID = tasks.OutcomeRejected, testRID
		}
		p.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(testApp), ID: fmt.Sprintf("%d-0", i+1), Values: []any{"result", r.Encode()}})
	}
	if _, err := p.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := s.as(readKey)
	path, further := "/find?app="+testApp+"&status=rejected", regexp.MustCompile(`href="([^"]*)" rel="next"`)
	for range resultlog.MaxScan / findScan {
		a := u.shows(path, http.StatusOK, "Nothing was found so far", "Searched back to 1970-01-01 08:00:", "Search further back")
		next := further.FindStringSubmatch(a.body)
		if next == nil {
			t.Fatal("there is no link to search further")
		}
		path = html.UnescapeString(next[1])
	}
	u.shows(path, http.StatusOK, ">m0<")
	if a := u.find(testRID); a.location != "/find?rid="+testRID {
		t.Errorf("a rid that was not found yet leads to %s", a.location)
	}
}
