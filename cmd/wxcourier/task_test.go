package main

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// onEachRedis runs a test with miniredis and with a real Redis.
func onEachRedis(t *testing.T, fn func(t *testing.T, env []string, wx *sandbox.Server, rdb redis.UniversalClient)) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Chdir(t.TempDir())
		env, wx := newEnvOn(t, rdb.(*redis.Client).Options().Addr) //nolint:forcetypeassert // redistest.Each
		fn(t, env, wx, rdb)
	})
}

// showTask runs the command, as JSON and then as text.
func showTask(t *testing.T, env []string, id string) (text string, task inspect.Task) {
	t.Helper()
	got := command(t, env, "", "task", "--app", testApp, id, "--json")
	shown := command(t, env, "", "task", "--app", testApp, id)
	if shown.status != statusDone || got.status != statusDone {
		t.Fatalf("task %s: %+v, %+v", id, shown, got)
	}
	if err := json.Unmarshal([]byte(got.stdout), &task); err != nil {
		t.Fatalf("%v\n%s", err, got.stdout)
	}
	if task.ID != id || task.App != testApp {
		t.Errorf("%+v", task)
	}
	return shown.stdout, task
}

// typed is a line for a task of another type than line's, with fields of the envelope.
func typed(id, typ, body, fields string) string {
	return `{"type":"` + typ + `","app":"` + testApp + `","id":"` + id + `",` + fields + `"body":` + body + "}\n"
}

// TestTaskWithoutWorker: the command shows where a task is that no worker has run.
func TestTaskWithoutWorker(t *testing.T) {
	onEachRedis(t, func(t *testing.T, env []string, _ *sandbox.Server, rdb redis.UniversalClient) {
		bulk := strings.Replace(line("bulk", openid), `"body"`, `"priority":"bulk","batch":"spring","body"`, 1)
		later := strings.Replace(line("later", openid), `"body"`, `"process_at":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`","body"`, 1)
		if got := command(t, env, line("a", openid)+line("b", openid)+line("c", openid)+bulk+later, "enqueue", "-"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		inspector := asynq.NewInspectorFromRedisClient(rdb)
		queue := tasks.QueueName(testApp, tasks.TypeSubscribe, tasks.Urgent)

		text, task := showTask(t, env, "a")
		if task.Place != inspect.PlaceWaiting || task.WaitsFor != tasks.WaitsForTurn || task.Position == nil || task.Position.Before != 0 {
			t.Errorf("a: %+v", task)
		}
		mentions(t, "a", text, "a: waiting in its queue", "its turn in the queue", "the next one", "attempts", "enqueued")
		if text, task = showTask(t, env, "c"); task.Position == nil || task.Position.Before != 2 || !strings.Contains(text, "about 2 tasks before it") {
			t.Errorf("c: %+v\n%s", task, text)
		}
		if text, task = showTask(t, env, "bulk"); task.Position == nil || task.Position.Before != 3 || task.Priority != tasks.Bulk || !strings.Contains(text, "spring") {
			t.Errorf("bulk: %+v\n%s", task, text)
		}
		if text, task = showTask(t, env, "later"); task.Place != inspect.PlaceScheduled || task.WaitsFor != tasks.WaitsForProcessAt || time.Until(task.NextAt) < 50*time.Minute || !strings.Contains(text, "its process_at, until ") {
			t.Errorf("later: %+v\n%s", task, text)
		}

		// Marked tasks, and tasks of a plain asynq client, under a hold.
		plain, err := tasks.NewSubscribeTask(testApp, tasks.SubscribePayload{ToUser: openid, TemplateID: "T1", Data: map[string]tasks.Value{"thing1": {Value: "x"}}}, tasks.ID("plain"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asynq.NewClientFromRedisClient(rdb).Enqueue(plain); err != nil {
			t.Fatal(err)
		}
		if text, task = showTask(t, env, "plain"); task.Type != tasks.TypeSubscribe || task.WaitsFor != tasks.WaitsForTurn || task.Position == nil || task.Position.Before != 3 {
			t.Errorf("plain: %+v\n%s", task, text)
		}
		if got := command(t, env, "", "hold", "--app", testApp, "--reason", "stopped by legal"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		text, task = showTask(t, env, "plain")
		if task.WaitsFor != tasks.WaitsForHold || task.Reason != "stopped by legal" || !task.NextAt.IsZero() || len(task.Holds) != 1 {
			t.Errorf("held: %+v", task)
		}
		mentions(t, "held", text, "the end of a hold: stopped by legal, until it is released", "set by ")
		if got := command(t, env, "", "release", "--app", testApp); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		if got := command(t, env, "", "hold", "--app", testApp, "--template", "T1"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		if text, task = showTask(t, env, "a"); task.WaitsFor != tasks.WaitsForTurn || len(task.Holds) != 1 || !strings.Contains(text, "tasks with this template end as rejected") {
			t.Errorf("held template: %+v\n%s", task, text)
		}

		if err := inspector.PauseQueue(queue); err != nil {
			t.Fatal(err)
		}
		if text, task = showTask(t, env, "a"); task.WaitsFor != tasks.WaitsForPause || !strings.Contains(text, "paused its queue in the asynq web UI") {
			t.Errorf("paused: %+v\n%s", task, text)
		}
		if got := command(t, env, "", "cancel", "--app", testApp, "--id", "b"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		if text, task = showTask(t, env, "b"); task.Place != inspect.PlaceCanceled || task.Reason != "canceled" || !strings.Contains(text, "b: canceled") {
			t.Errorf("canceled: %+v\n%s", task, text)
		}
		if got := command(t, env, "", "cancel", "--app", testApp, "--batch", "spring"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		if _, task = showTask(t, env, "bulk"); task.Place != inspect.PlaceCanceled {
			t.Errorf("in a canceled batch: %+v", task)
		}
		if err := inspector.ArchiveTask(queue, testApp+":a"); err != nil {
			t.Fatal(err)
		}
		if text, task = showTask(t, env, "a"); task.Place != inspect.PlaceArchived || task.WaitsFor != tasks.WaitsForArchive {
			t.Errorf("archived: %+v\n%s", task, text)
		}
		if err := inspector.DeleteTask(queue, testApp+":b"); err != nil {
			t.Fatal(err)
		}
		rdb.HSet(t.Context(), "wxcourier:{"+testApp+"}:task:b", "enqueued", strconv.FormatInt(time.Now().Add(-time.Minute).UnixMicro(), 36))
		if text, task = showTask(t, env, "b"); task.Place != inspect.PlaceDeleted || task.WaitsFor != tasks.WaitsForSweep {
			t.Errorf("deleted: %+v\n%s", task, text)
		}

		elsewhere := command(t, env[:2], "", "task", "--app", testApp, "c") // without the app's secret
		if elsewhere.status != statusDone || elsewhere.stdout == "" {
			t.Errorf("%+v", elsewhere)
		}
		mentions(t, "an app of another configuration", elsewhere.stderr, "app "+testApp+" is not configured here")

		unknown := command(t, env, "", "task", "--app", testApp, "unknown-id")
		if unknown.status != statusFailed || unknown.stdout != "" {
			t.Errorf("an unknown id: %+v", unknown)
		}
		mentions(t, "an unknown id", unknown.stderr, "app "+testApp+" has no task unknown-id")
		for _, args := range [][]string{
			{"--app", testApp, "a b"},
			{"--app", "wx1", "a"},
			{"--app", testApp, "-"},
			{"a"},
			{"--app", testApp},
			{"--app", testApp, "a", "--rid", "r"},
			{"--openid", openid, "--msgid", "1"},
			{"--app", "wx1", "--rid", "r"},
		} {
			if got := command(t, env, "", append([]string{"task"}, args...)...); got.status != statusUsage {
				t.Errorf("%q: %+v", args, got)
			}
		}
	})
}

// TestTaskWithWorker: the command shows retries, holds, limits, hours and redrives, with WeChat's
// last answer.
func TestTaskWithWorker(t *testing.T) {
	onEachRedis(t, func(t *testing.T, env []string, wx *sandbox.Server, _ redis.UniversalClient) {
		config := `apps:
  - id: ` + testApp + `
    limits: {"send:subscribe": {per_day: 2}}
    hours: {"send:custom": "` + closedNow() + `"}
`
		if err := os.WriteFile("wxcourier.yaml", []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		content := func(to string) string {
			return `{"touser":"` + to + `","template_id":"T","data":{"thing1":{"value":"x"}}}`
		}
		if _, err := wx.AddFault(sandbox.Fault{ErrCode: 45009, Path: "/wxa/generate_urllink"}); err != nil {
			t.Fatal(err)
		}
		if _, err := wx.AddFault(sandbox.Fault{ErrCode: 43117, Path: "/cgi-bin/message/subscribe/bizsend"}); err != nil {
			t.Fatal(err)
		}
		bad, err := wx.AddFault(sandbox.Fault{ErrCode: 47001, Path: "/wxa/generatescheme"})
		if err != nil {
			t.Fatal(err)
		}
		input := line("s1", openid+"1") + line("s2", openid+"2") + line("s3", openid+"3") +
			typed("busy", "send:template", content("busy9-"+openid), `"batch":"spring",`) +
			typed("gone", "send:template", content("hang9-"+openid), "") +
			typed("night", "send:custom", `{"touser":"`+openid+`","msgtype":"text","text":{"content":"x"}}`, "") +
			typed("person", "send:bizsubscribe", content(openid), "") +
			typed("link", "scheme:urllink", `{"path":"/p"}`, "") +
			typed("again", "scheme:generate", `{"jump_wxa":{"path":"/p"}}`, "")
		if got := command(t, append(env, "WXCOURIER_WECHAT_TIMEOUT=1s", "WXCOURIER_WECHAT_ATTEMPT_TIMEOUT=2s"), input, "enqueue", "-"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		_, stderr, stop := background(t, append(env, "WXCOURIER_WECHAT_TIMEOUT=1s", "WXCOURIER_WECHAT_ATTEMPT_TIMEOUT=2s"), "worker")
		until := func(id string, cond func(inspect.Task) bool) (text string, task inspect.Task) {
			t.Helper()
			redistest.Until(t, 30*time.Second, id, func() bool {
				text, task = showTask(t, env, id)
				return cond(task)
			})
			return text, task
		}

		text, task := until("busy", func(task inspect.Task) bool { // the next attempt may have begun since its place was read
			return task.Place == inspect.PlaceRetrying && task.State == tasks.StateRetrying
		})
		if task.WaitsFor != tasks.WaitsForRetry || time.Until(task.NextAt) > 10*time.Minute || task.Attempts < 1 || task.Failed < 1 || task.Batch != "spring" || task.State != tasks.StateRetrying {
			t.Errorf("busy: %+v", task)
		}
		if l := task.Last; l == nil || l.ErrCode != -1 || l.Class != "busy" || l.RID == "" || time.Since(l.At).Abs() > time.Minute {
			t.Errorf("busy: last %+v", l)
		}
		mentions(t, "busy", text, "the next attempt", "last answer", "-1 ", "(busy), rid ", "failed")
		if _, task = until("gone", func(task inspect.Task) bool { return task.Place == inspect.PlaceRetrying }); task.Last == nil || task.Last.ErrCode != 0 || task.Last.Class != "no_answer" || task.Last.ErrMsg == "" {
			t.Errorf("gone: %+v %+v", task, task.Last)
		}
		text, task = until("link", func(task inspect.Task) bool { return task.WaitsFor == tasks.WaitsForHold })
		if task.Reason != "quota_day" || task.Last == nil || task.Last.ErrCode != 45009 || time.Until(task.NextAt) > 25*time.Hour || task.Place != inspect.PlaceWaiting {
			t.Errorf("link: %+v %+v", task, task.Last)
		}
		mentions(t, "link", text, "the end of a hold: quota day, until ", "45009", "(errcode 45009)", "the next one")
		if text, task = until("night", func(task inspect.Task) bool { return task.Place == inspect.PlaceRetrying }); task.WaitsFor != tasks.WaitsForHours || time.Until(task.NextAt) > 2*time.Hour+time.Minute || task.Attempts != 0 {
			t.Errorf("night: %+v\n%s", task, text)
		}

		text, task = until("person", func(task inspect.Task) bool { return task.Place == inspect.PlaceRetrying })
		if task.WaitsFor != tasks.WaitsForReceiver || task.Last == nil || task.Last.ErrCode != 43117 || time.Until(task.NextAt) > 90*time.Minute || task.Failed != 0 {
			t.Errorf("person: %+v %+v", task, task.Last)
		}
		mentions(t, "person", text, "WeChat's limit for one receiver, until ", "43117")

		redistest.Until(t, 30*time.Second, "two are sent", func() bool { return wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) == 2 })
		var waiting int
		for _, id := range []string{"s1", "s2", "s3"} {
			text, task = showTask(t, env, id)
			if task.Place == inspect.PlaceDone {
				continue
			}
			waiting++
			if len(task.Limits) != 1 || task.Limits[0].Used != 2 || task.NextAt.IsZero() || time.Until(task.NextAt) > 25*time.Hour {
				t.Errorf("%s: %+v", id, task)
			}
			mentions(t, id, text, "a limit that is used up by our own count: send:subscribe per day", "send:subscribe per day: 2 of 2 used")
		}
		if waiting != 1 {
			t.Errorf("%d of 3 tasks wait for the day's limit", waiting)
		}

		until("again", func(task inspect.Task) bool { return task.Outcome == tasks.OutcomeRejected })
		wx.RemoveFault(bad)
		if got := command(t, env, "", "redrive", "--outcome", "rejected", "--id", "again", "--app", testApp); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		text, task = until("again", func(task inspect.Task) bool { return task.Outcome == tasks.OutcomeAccepted })
		if task.Place != inspect.PlaceDone || task.Generation != 1 || len(task.History) != 1 || task.History[0].Result.ErrCode != 47001 || task.WaitsFor != "" || task.Last != nil {
			t.Errorf("again: %+v", task)
		}
		mentions(t, "again", text, "again: done", "generation 0  rejected 47001", "; redriven")

		checkFailures(t, env)
		checkFind(t, env, task.History[0].Result.RID)

		batch := command(t, env, "", "status", "--batch", "spring")
		if batch.status != statusDone {
			t.Errorf("%+v", batch)
		}
		mentions(t, "the batch", batch.stdout, "Batch spring of "+testApp+": 0 of 1 task ended (0 %)", "rate:     unknown", "held:")
		if code := stop(); code != statusDone {
			t.Errorf("worker: status %d\n%s", code, stderr)
		}
	})
}

// checkFailures: a task shows the attempts that failed, and nothing of what it sends.
func checkFailures(t *testing.T, env []string) {
	t.Helper()
	_, task := showTask(t, env, "busy")
	if len(task.Failures) < 1 || task.Failures[0].ErrCode != -1 || task.Failures[0].Class != "busy" || task.Failures[0].RID == "" || task.Failures[0].Wait != 0 || task.Failures[0].WaitSeconds <= 0 {
		t.Errorf("busy: failures %+v", task.Failures)
	}
	for _, id := range []string{"busy", "gone", "person"} {
		got := command(t, env, "", "task", "--app", testApp, id, "--json")
		if strings.Contains(got.stdout, openid) || strings.Contains(got.stdout, "thing1") {
			t.Errorf("%s: the answer has the receiver or the text: %s", id, got.stdout)
		}
	}
}

// checkFind: tasks are found by their receiver, and results by what WeChat called them.
func checkFind(t *testing.T, env []string, rid string) {
	t.Helper()
	person := command(t, env, "", "task", "--openid", openid)
	if person.status != statusDone || strings.Contains(person.stdout, openid) {
		t.Errorf("%+v", person)
	}
	mentions(t, "by openid", person.stdout, "ENQUEUED", testApp, "person", "send:bizsubscribe", "night", "send:custom", "retrying")
	if n := strings.Count(person.stdout, "\n"); n != 3 {
		t.Errorf("by openid: %d lines\n%s", n, person.stdout)
	}
	var found inspect.FoundTasks
	if got := command(t, env, "", "task", "--openid", openid, "--app", testApp, "--json"); json.Unmarshal([]byte(got.stdout), &found) != nil || len(found.Items) != 2 {
		t.Errorf("as JSON: %+v", got)
	}
	mentions(t, "by rid", command(t, env, "", "task", "--rid", rid).stdout, "again: done", "generation 0  rejected 47001")
	for _, id := range []string{"s1", "s2", "s3"} {
		if _, task := showTask(t, env, id); task.MsgID != "" {
			mentions(t, "by msgid", command(t, env, "", "task", "--msgid", task.MsgID, "--app", testApp).stdout, id+": done", "accepted")
		}
	}
	for _, args := range [][]string{{"--openid", "oNobody"}, {"--rid", "none"}, {"--msgid", "1"}} {
		got := command(t, env, "", append([]string{"task"}, args...)...)
		if got.status != statusFailed || got.stdout != "" || strings.Contains(got.stderr, args[1]) && args[0] == "--openid" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

// TestFailedAttemptsText: earlier attempts are listed apart from the last answer.
func TestFailedAttemptsText(t *testing.T) {
	at := time.Now().Add(-time.Hour)
	task := inspect.Task{Place: inspect.PlaceRetrying, Failures: []inspect.Failure{
		{At: at, Class: "no_answer", ErrMsg: "timeout", Wait: 5 * time.Second},
		{At: at.Add(time.Minute), ErrCode: -1, Class: "busy", ErrMsg: "system error", RID: "r-1", Wait: 90 * time.Second},
	}}
	task.Last = &tasks.LastAnswer{ErrCode: -1, ErrMsg: "system error", RID: "r-1", Class: "busy", At: at.Add(time.Minute)}
	text := func() string {
		var out strings.Builder
		if err := writeTask(&out, task, time.Now()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	got := text()
	mentions(t, "while it waits", got, "failed attempt  timeout (no answer), at ", "; handed back for 5s", "last answer     -1 system error (busy), rid r-1, at ")
	if strings.Count(got, "failed attempt") != 1 {
		t.Errorf("the last answer is listed twice\n%s", got)
	}
	task.Outcome, task.Last = tasks.OutcomeAccepted, nil
	mentions(t, "after the end", text(), "failed attempt  timeout (no answer)", "failed attempt  -1 system error (busy), rid r-1, at ", "; handed back for 1m30s")
}

// TestStatusBatch: the progress, the outcomes, the rate and the time left of a batch.
func TestStatusBatch(t *testing.T) {
	onEachRedis(t, func(t *testing.T, env []string, wx *sandbox.Server, _ redis.UniversalClient) {
		var input strings.Builder
		for i := range 12 {
			to := openid + strconv.Itoa(i)
			if i%4 == 0 {
				to = "unsubscribed-" + to
			}
			if i >= 8 {
				to = "busy9-" + to
			}
			input.WriteString(strings.Replace(line("m"+strconv.Itoa(i), to), `"body"`, `"batch":"spring","body"`, 1))
		}
		if got := command(t, env, input.String(), "enqueue", "-"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		_, stderr, stop := background(t, env, "worker")
		var seen struct {
			Batches []inspect.Batch `json:"batches"`
		}
		redistest.Until(t, 30*time.Second, "eight have ended", func() bool {
			got := command(t, env, "", "status", "--batch", "spring", "--json")
			if err := json.Unmarshal([]byte(got.stdout), &seen); err != nil {
				t.Fatalf("%v: %+v", err, got)
			}
			return len(seen.Batches) == 1 && seen.Batches[0].Done == 8
		})
		b := seen.Batches[0]
		if b.Total != 12 || b.Open != 4 || b.Outcomes[tasks.OutcomeAccepted] != 6 || b.Outcomes[tasks.OutcomeRefused] != 2 || len(b.Outcomes) != 2 {
			t.Errorf("%+v", b)
		}
		if b.Rate <= 0 || b.Rate > 8 || b.SecondsLeft != 4/b.Rate {
			t.Errorf("rate %v, %v s left", b.Rate, b.SecondsLeft)
		}
		mentions(t, "status", command(t, env, "", "status", "--batch", "spring", "--app", testApp).stdout,
			"8 of 12 tasks ended (66 %)", "6 accepted, 2 refused", " a second; at this rate the last of 4 open tasks ends in about ")
		if got := command(t, env, "", "status", "--batch", "spring", "--app", "wxfedcba9876543210"); got.status != statusFailed || !strings.Contains(got.stderr, "there is no batch spring") {
			t.Errorf("of another app: %+v", got)
		}
		if got := command(t, env, "", "status", "--batch", "a b"); got.status != statusUsage {
			t.Errorf("%+v", got)
		}
		if got := command(t, env, "", "cancel", "--app", testApp, "--batch", "spring"); got.status != statusDone {
			t.Fatalf("%+v", got)
		}
		redistest.Until(t, 60*time.Second, "all have ended", func() bool {
			return strings.Contains(command(t, env, "", "status", "--batch", "spring").stdout, "12 of 12 tasks ended (100 %)\n  outcomes: 6 accepted, 2 refused, 4 canceled\n")
		})
		if code := stop(); code != statusDone {
			t.Errorf("worker: status %d\n%s", code, stderr)
		}
		if n := wx.Count(sandbox.Filter{Delivered: true}); n != 6 {
			t.Errorf("%d delivered", n)
		}
	})
}

// TestTaskTexts: each place and each reason has words.
func TestTaskTexts(t *testing.T) {
	for _, reason := range tasks.WaitReasons() {
		if waitTexts()[reason] == "" {
			t.Errorf("no words for %s", reason)
		}
	}
	for _, state := range tasks.States() {
		if placeTexts()[inspect.Place(state)] == "" {
			t.Errorf("no words for %s", state)
		}
	}
	if len(waitTexts()) != len(tasks.WaitReasons()) || len(placeTexts()) != len(tasks.States())+3 {
		t.Errorf("%d and %d texts", len(waitTexts()), len(placeTexts()))
	}
}
