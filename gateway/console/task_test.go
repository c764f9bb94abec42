package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

var subscribeQueue = tasks.QueueName(testApp, tasks.TypeSubscribe, tasks.Urgent)

// open gives a waiting task to a replica.
func (s *site) open(id string) {
	s.Helper()
	s.move(id, asynqwire.Active)
	o, err := s.ledger().Open(s.Context(), ledger.Ref{App: testApp, ID: id}, ledger.OpenRequest{Runner: "r", Queue: subscribeQueue, Fenced: true, Marked: true})
	if err != nil || o.Admission != ledger.Proceed {
		s.Fatal(o, err)
	}
}

// move moves a pending task to another state of asynq.
func (s *site) move(id, state string) {
	s.Helper()
	name, key := testApp+":"+id, asynqwire.Key(subscribeQueue, state)
	s.Redis.LRem(s.Context(), asynqwire.Key(subscribeQueue, asynqwire.Pending), 1, name)
	s.Redis.LRem(s.Context(), asynqwire.Key(subscribeQueue, asynqwire.Active), 1, name)
	if state == asynqwire.Active {
		s.Redis.LPush(s.Context(), key, name)
	} else {
		s.Redis.ZAdd(s.Context(), key, redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: name})
	}
	if err := s.Redis.HSet(s.Context(), asynqwire.TaskKey(subscribeQueue, name), "state", state).Err(); err != nil {
		s.Fatal(err)
	}
}

// audited returns what the audit has of an action.
func (s *site) audited(action audit.Action) []audit.Entry {
	s.Helper()
	entries, _, err := audit.List(s.Context(), s.Redis, audit.Query{Match: func(e audit.Entry) bool { return e.Action == action }})
	if err != nil {
		s.Fatal(err)
	}
	return entries
}

// TestTaskPage: the page of a task in each place says where it is, what it waits for, and what WeChat
// said, in both languages; and never what the message says.
func TestTaskPage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		all := []tasks.Envelope{
			envelope(testApp, "waits", testOpenID), envelope(testApp, "sent", testOpenID), envelope(testApp, "retried", testOpenID),
			envelope(testApp, "done", testOpenID), envelope(testApp, "refused", testOpenID), envelope(testApp, "lost", testOpenID),
			envelope(testApp, "archived", testOpenID), envelope(testApp, "later", testOpenID), envelope(otherApp, "foreign", testOpenID),
		}
		all[0].Batch = "spring"
		all[7].ProcessAt = time.Now().Add(time.Hour)
		s.enqueue(all...)
		s.open("sent")
		s.open("retried")
		err := s.ledger().Defer(t.Context(), ledger.Ref{App: testApp, ID: "retried"}, ledger.DeferRequest{
			Runner: "r", State: string(tasks.StateRetrying), Wait: time.Minute, NotAccepted: true,
			Last: ledger.Answer{Code: -1, Msg: "system error " + script, RID: testRID, Class: "busy", At: time.Now()},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.move("retried", asynqwire.Retry)
		s.move("archived", asynqwire.Archived)
		s.end(tasks.Result{App: testApp, ID: "done", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeAccepted, Attempts: 2, MsgID: testMsgID})
		s.end(tasks.Result{App: testApp, ID: "refused", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRefused, Attempts: 1, ErrCode: 43101, ErrMsg: script})
		s.end(tasks.Result{App: testApp, ID: "lost", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeUnknown, Attempts: 1, Reason: "no_answer"})
		if _, err := s.Holds.Set(t.Context(), hold.Hold{App: testApp, Scope: tasks.TypeSubscribe, Reason: "quota_day", Until: time.Now().Add(time.Hour), By: "worker x"}); err != nil {
			t.Fatal(err)
		}
		u := s.as(operateKey)
		page := "/tasks/" + testApp + "/"
		for id, texts := range map[string][]string{
			"waits":    {"waits for its turn", "the end of a hold", "today's quota is used up", "spring", "data.thing1", "T1", "Cancel the task"},
			"sent":     {"being sent now", "Cancel the task"},
			"retried":  {"tried again", "system busy", "system error " + script, testRID, "WeChat was busy", "Next try"},
			"done":     {"WeChat took it", testMsgID, "Cannot be redriven: WeChat accepted it", "calls to WeChat: 2"},
			"refused":  {"43101", "person has not subscribed", script, "Cannot be redriven: the person's choice"},
			"lost":     {"nobody knows whether it arrived", "no answer came", "data.thing1", "/lost/redrive"},
			"archived": {"archived it in the asynq web UI", "does not end by itself"},
			"later":    {"waits for its time", "the time that its producer set"},
		} {
			if a := u.shows(page+id, http.StatusOK, texts...); strings.Contains(a.body, script) {
				t.Errorf("%s is not escaped", id)
			}
			u.speaking("zh-CN").shows(page+id, http.StatusOK, "经过", "微信")
		}
		u.speaking("zh-CN").shows(page+"refused", http.StatusOK, "用户没有订阅、订阅次数已用完或拒收")
		u.shows(page+"nobody", http.StatusNotFound, "There is no task nobody")
		u.shows("/tasks/x/y", http.StatusNotFound)
		s.as(oneAppKey).shows("/tasks/"+otherApp+"/foreign", http.StatusForbidden, "may not use the app")
		reader := s.as(readKey)
		for _, id := range []string{"waits", "lost"} {
			if a := reader.shows(page+id, http.StatusOK); strings.Contains(a.body, page+id+"/cancel") || strings.Contains(a.body, page+id+"/redrive") {
				t.Errorf("a key that may only read has buttons on %s", id)
			}
		}
	})
}

// TestCancel: a task that waits is canceled; of one that is being sent the truth is told.
func TestCancel(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		s.enqueue(envelope(testApp, "waits", testOpenID), envelope(testApp, "sent", testOpenID), envelope(testApp, "done", testOpenID), envelope(otherApp, "foreign", testOpenID))
		s.open("sent")
		s.end(tasks.Result{App: testApp, ID: "done", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeAccepted})
		u, page := s.as(oneAppKey), "/tasks/"+testApp+"/"
		for _, c := range []struct {
			key, path string
			status    int
			says      string
		}{
			{readKey, page + "waits", http.StatusForbidden, "does not have the scope enqueue"},
			{oneAppKey, "/tasks/" + otherApp + "/foreign", http.StatusForbidden, "may not use the app"},
			{oneAppKey, page + "nobody", http.StatusNotFound, "There is no task"},
			{oneAppKey, page + "done", http.StatusConflict, "has ended already"},
		} {
			if a := s.as(c.key).post(c.path+"/cancel", nil); a.status != c.status || !strings.Contains(a.body, c.says) {
				t.Errorf("%s cancels %s: %d\n%s", c.key, c.path, a.status, a.body)
			}
		}
		u.shows(page+"waits/cancel", http.StatusOK, "Cancel the task waits?")
		u.shows(page+"sent/cancel", http.StatusOK, "being sent now")
		u.shows(page+"done/cancel", http.StatusConflict, "has ended already")
		s.as(readKey).shows(page+"waits/cancel", http.StatusForbidden, "scope enqueue")
		for id, says := range map[string]string{"waits": "it will not be sent", "sent": "only if WeChat does not accept it"} {
			if a := u.post(page+id+"/cancel", nil); a.status != http.StatusSeeOther || a.location != page+id {
				t.Fatalf("%s: %d %s\n%s", id, a.status, a.location, a.body)
			}
			u.shows(page+id, http.StatusOK, says)
		}
		task, err := s.Reader.Task(t.Context(), testApp, "waits", nil)
		if err != nil || task.Place != inspect.PlaceCanceled {
			t.Errorf("the task is %s, %v", task.Place, err)
		}
		if entries := s.audited(audit.Cancel); len(entries) != 2 || entries[0].By != "key:"+oneAppKey || entries[0].Via != audit.Console || entries[0].App != testApp {
			t.Errorf("the audit has %+v", entries)
		}
	})
}

// TestRedriveTask: the button redrives a task once, and only with the outcome that was shown.
func TestRedriveTask(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		s.enqueue(envelope(testApp, "lost", testOpenID))
		s.end(tasks.Result{App: testApp, ID: "lost", Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeUnknown, Attempts: 1, Reason: "no_answer"})
		u, page := s.as(operateKey), "/tasks/"+testApp+"/lost"
		u.shows(page+"/redrive", http.StatusOK, `name="outcome" value="unknown"`, "may get the message twice", "Send the task lost again?")
		s.as(readKey).shows(page+"/redrive", http.StatusForbidden, "scope operate")
		for _, c := range []struct {
			key, outcome string
			status       int
		}{{readKey, "unknown", http.StatusForbidden}, {operateKey, "accepted", http.StatusUnprocessableEntity}, {operateKey, "failed", http.StatusConflict}} {
			if a := s.as(c.key).post(page+"/redrive", url.Values{"outcome": {c.outcome}}); a.status != c.status {
				t.Errorf("%s redrives %s: %d\n%s", c.key, c.outcome, a.status, a.body)
			}
		}
		if a := u.post(page+"/redrive", url.Values{"outcome": {"unknown"}}); a.status != http.StatusSeeOther || a.location != page {
			t.Fatalf("%d %s\n%s", a.status, a.location, a.body)
		}
		u.shows(page, http.StatusOK, "The task lost waits again.", "waits for its turn", "Redriven")
		if a := u.post(page+"/redrive", url.Values{"outcome": {"unknown"}}); a.status != http.StatusConflict {
			t.Errorf("again: %d\n%s", a.status, a.body)
		}
		if entries := s.audited(audit.Redrive); len(entries) != 1 || entries[0].Target != "lost" || entries[0].By != "key:"+operateKey {
			t.Errorf("the audit has %+v", entries)
		}
	})
}

// TestTaskImage: the console serves the image of a task to keys that may read its app.
func TestTaskImage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		png := []byte("\x89PNG\r\n\x1a\n" + "rest")
		queue := tasks.QueueName(testApp, tasks.TypeUnlimitedCode, tasks.Urgent)
		for _, app := range []string{testApp, otherApp} {
			r := tasks.Result{App: app, ID: "code", Type: tasks.TypeUnlimitedCode, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, Image: "image/png", FinishedAt: time.Now()}
			_, err := s.ledger().Settle(t.Context(), ledger.Ref{App: app, ID: "code"}, ledger.SettleRequest{Outcome: "accepted", Result: r.Encode(), Queue: queue, Image: png})
			if err != nil {
				t.Fatal(err)
			}
		}
		u, path := s.as(oneAppKey), "/tasks/"+testApp+"/code"
		u.shows(path, http.StatusOK, `src="`+path+`/image"`)
		if a := u.get(path + "/image"); a.status != http.StatusOK || a.body != string(png) || a.header.Get("Content-Type") != "image/png" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%d %q %v", a.status, a.body, a.header)
		}
		u.shows("/tasks/"+otherApp+"/code/image", http.StatusForbidden)
		u.shows("/tasks/"+testApp+"/nobody/image", http.StatusNotFound)
		if a := s.visitor().get(path + "/image"); a.status == http.StatusOK {
			t.Error("the image is shown to a visitor")
		}
	})
}
