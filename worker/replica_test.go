package worker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// TestShutdownFinishesCallsInFlight: calls in flight finish and their outcomes are recorded,
// waiting tasks are handed back, no outcome is unknown and no message is sent twice.
func TestShutdownFinishesCallsInFlight(t *testing.T) {
	onEach(t, sandbox.Options{Latency: 300 * time.Millisecond}, func(t *testing.T, r *rig) {
		const n = 150
		first := r.replica(nil)
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		redistest.Until(t, 10*time.Second, "calls are under way", func() bool {
			return r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) > 0
		})
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		if first.Ready() {
			t.Error("ready after the shutdown")
		}
		queue := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
		if left := r.rdb.LLen(t.Context(), "asynq:{"+queue+"}:active").Val(); left != 0 {
			t.Errorf("%d tasks are active without a handler until their leases expire", left)
		}
		r.replica(nil)
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("m%d: %s %s", i, got.Outcome, got.Reason)
			}
		}
		if d := r.wx.Duplicates(); len(d) > 0 {
			t.Errorf("%d messages were delivered twice", len(d))
		}
		if delivered := r.wx.Count(sandbox.Filter{Delivered: true, Path: "/cgi-bin/message/subscribe/send"}); delivered != n {
			t.Errorf("%d delivered, want %d", delivered, n)
		}
	})
}

// TestForeignClient: tasks of a plain asynq.Client are delivered and counted in their batch.
func TestForeignClient(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
			ToUser: "a", TemplateID: "T1", Data: map[string]tasks.Value{"thing1": {Value: "订单已发货"}},
		}, tasks.ID("foreign"), tasks.InBatch("b"))
		if err != nil {
			t.Fatal(err)
		}
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		if _, err := plain.EnqueueContext(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 10*time.Second, "the task has an outcome", func() bool {
			got, err := r.client.Result(t.Context(), app, "foreign")
			return err == nil && got.Outcome == tasks.OutcomeAccepted
		})
		if c, err := r.client.Batch(t.Context(), app, "b"); err != nil || c["total"] != 1 || c["accepted"] != 1 {
			t.Errorf("batch %v, %v", c, err)
		}
	})
}

// TestACanceledBatchAndAPlainClient: a task that a plain client adds to a canceled batch, all
// of whose tasks have ended, is sent.
func TestACanceledBatchAndAPlainClient(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		enqueue := func(id string) {
			t.Helper()
			e := message(id, id)
			e.App, e.Batch = app, "daily"
			task, err := tasks.NewTask(e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := plain.EnqueueContext(t.Context(), task); err != nil {
				t.Fatal(err)
			}
			redistest.Until(t, 10*time.Second, id+" has an outcome", func() bool {
				got, err := r.client.Result(t.Context(), app, id)
				return err == nil && got.Outcome != ""
			})
		}
		enqueue("before")
		if n, err := r.client.CancelBatch(t.Context(), app, "daily"); err != nil || n != 0 {
			t.Fatalf("canceled %d, %v", n, err)
		}
		canceledAt := time.Now().Truncate(time.Millisecond)
		redistest.Until(t, time.Second, "the millisecond of the cancellation is over", func() bool {
			return time.Now().Truncate(time.Millisecond).After(canceledAt)
		})
		enqueue("after")
		if got := r.outcome("after"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// TestPoisonedTasks: tasks that cannot be decoded end with one outcome each, asynq archives
// them, and the lane continues.
func TestPoisonedTasks(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		queue := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
		for id, payload := range map[string]string{
			"not-json": "\xff\x00{", "no-body": `{"type":"send:subscribe","app":"` + app + `","id":"no-body"}`,
			"other-id": `{"type":"send:subscribe","app":"` + app + `","id":"somebody","body":{}}`,
		} {
			_, err := plain.EnqueueContext(t.Context(), asynq.NewTask(tasks.TypeSubscribe, []byte(payload)),
				asynq.Queue(queue), asynq.TaskID(app+":"+id), asynq.MaxRetry(tasks.MaxRetry), asynq.Timeout(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
		}
		r.submit(message("good", "a"))
		if got := r.outcome("good"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("another task of the lane: %+v", got)
		}
		inspector := asynq.NewInspectorFromRedisClient(r.rdb)
		for _, id := range []string{"not-json", "no-body", "other-id"} {
			redistest.Until(t, 10*time.Second, id+" has an outcome", func() bool {
				got, err := r.client.Result(t.Context(), app, id)
				return err == nil && got.Outcome == tasks.OutcomeFailed && got.Reason == "undecodable"
			})
			redistest.Until(t, 10*time.Second, id+" is archived", func() bool {
				info, err := inspector.GetTaskInfo(queue, app+":"+id)
				return err == nil && info.State == asynq.TaskStateArchived
			})
		}
		if n := strings.Count(r.log.String(), "cannot be decoded"); n != 3 {
			t.Errorf("%d log lines, want 3", n)
		}
	})
}

// TestResultsHaveTheEnqueueTime: for all producers and outcomes. A task whose mark was lost
// ends with an outcome, but without that time.
func TestResultsHaveTheEnqueueTime(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		queue := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
		began := time.Now().Truncate(time.Microsecond)
		for _, id := range []string{"sent", "canceled", "lost"} {
			r.submit(message(id, id))
		}
		if _, err := r.client.Cancel(t.Context(), app, "canceled"); err != nil {
			t.Fatal(err)
		}
		if n := r.rdb.HDel(t.Context(), ledger.WaitingKey(app, "lost"), "lost").Val(); n != 1 {
			t.Fatal("the task has no mark")
		}
		if _, err := ledger.New(r.rdb, ledger.Policy{}).Mark(t.Context(), ledger.Ref{App: app, ID: "bad"}, queue, "waiting"); err != nil {
			t.Fatal(err)
		}
		plainly := message("foreign", "b")
		plainly.App = app
		foreign, err := tasks.NewTask(plainly)
		if err != nil {
			t.Fatal(err)
		}
		bad := asynq.NewTask(tasks.TypeSubscribe, []byte("{"), asynq.Queue(queue), asynq.TaskID(app+":bad"), asynq.MaxRetry(tasks.MarkedRetry))
		for _, task := range []*asynq.Task{foreign, bad} {
			if _, err := plain.EnqueueContext(t.Context(), task); err != nil {
				t.Fatal(err)
			}
		}
		enqueued := time.Now()
		r.replica(nil)
		for id, want := range map[string]tasks.Outcome{
			"sent": tasks.OutcomeAccepted, "canceled": tasks.OutcomeCanceled, "foreign": tasks.OutcomeAccepted,
			"bad": tasks.OutcomeFailed, "lost": tasks.OutcomeUnknown,
		} {
			var got tasks.Result
			redistest.Until(t, 10*time.Second, id+" has an outcome", func() bool {
				got, err = r.client.Result(t.Context(), app, id)
				return err == nil && got.Outcome != ""
			})
			known := !got.EnqueuedAt.Before(began) && !got.EnqueuedAt.After(enqueued)
			if got.Outcome != want || known != (id != "lost") || id == "lost" && (!got.EnqueuedAt.IsZero() || got.Reason != "record_lost") {
				t.Errorf("%s, enqueued between %v and %v: %+v", id, began, enqueued, got)
			}
		}
	})
}

// TestRedisComesBack: a replica continues after a restart of Redis, and loses no task.
func TestRedisComesBack(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, it may wait for leases to expire")
	}
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	r := newRig(t, server.Addr(), sandbox.Options{Latency: 20 * time.Millisecond})
	p := r.replica(nil)
	const n = 300
	for i := range n {
		r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
	}
	redistest.Until(t, 10*time.Second, "calls are under way", func() bool {
		return r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) > 20
	})
	server.Kill()
	probe := httptest.NewRecorder()
	p.Handler(p.registry).ServeHTTP(probe, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
	if probe.Code != http.StatusServiceUnavailable {
		t.Errorf("ready without Redis: %d", probe.Code)
	}
	server.Restart()
	ended := make(map[tasks.Outcome]int)
	for i := range n {
		id := fmt.Sprintf("m%d", i)
		redistest.Until(t, 3*time.Minute, id+" has an outcome", func() bool {
			got, err := r.client.Result(context.WithoutCancel(t.Context()), app, id)
			if err == nil && got.Outcome != "" {
				ended[got.Outcome]++
				return true
			}
			return false
		})
	}
	if d := r.wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were delivered twice", len(d))
	}
	if ended[tasks.OutcomeAccepted]+ended[tasks.OutcomeUnknown] != n {
		t.Errorf("outcomes %v", ended)
	}
	t.Logf("outcomes %v", ended)
}

// TestIdleLanesDequeueNothing: lanes without work send no dequeues.
func TestIdleLanesDequeueNothing(t *testing.T) {
	server := redistest.Start(t)
	r := newRig(t, server.Addr(), sandbox.Options{})
	r.replica(nil)
	r.submit(message("one", "a"))
	r.outcome("one")
	dequeues := func() int64 {
		info, err := redisinfo.Read(t.Context(), r.rdb, "commandstats")
		if err != nil {
			t.Fatal(err)
		}
		return info.Calls()["rpoplpush"]
	}
	before := dequeues()
	// The outcomes of another lane show that time has passed.
	for i := range 5 {
		id := fmt.Sprintf("c%d", i)
		r.submit(addressed(tasks.TypeCustom, id, id))
		r.outcome(id)
	}
	if n := dequeues() - before; n > 25 {
		t.Errorf("%d dequeues for five tasks", n)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	p := r.replica(nil)
	r.submit(message("one", "openid-of-somebody"))
	r.submit(message("two", "unsubscribed-b"))
	r.outcome("one")
	r.outcome("two")
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		p.Handler(p.registry).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	wanted := []string{
		`wxcourier_calls_total{api="/cgi-bin/message/subscribe/send",app="` + app + `",class="ok"} 1`,
		`wxcourier_calls_total{api="/cgi-bin/message/subscribe/send",app="` + app + `",class="refused"} 1`,
		`wxcourier_outcomes_total{app="` + app + `",outcome="accepted",type="send:subscribe"} 1`,
		`wxcourier_outcomes_total{app="` + app + `",outcome="refused",type="send:subscribe"} 1`,
		`wxcourier_delivery_seconds_count{type="send:subscribe"} 2`,
		`wxcourier_call_seconds_count{api="/cgi-bin/message/subscribe/send"} 2`,
		`wxcourier_lane_active{app="` + app + `",type="send:subscribe"} 0`,
		`wxcourier_quota_used{api="/cgi-bin/message/subscribe/send",app="` + app + `",window="day"} 2`,
		`wxcourier_quota_limit{api="/cgi-bin/message/subscribe/send",app="` + app + `",window="day"} 1e+07`,
		`wxcourier_pace_factor{api="/cgi-bin/message/subscribe/send",app="` + app + `"} 1`,
		`wxcourier_permit_wait_seconds_count{api="/cgi-bin/message/subscribe/send"}`, `wxcourier_build_info{`,
	}
	var text string
	missing := func() []string {
		_, text = get("/metrics")
		return slices.DeleteFunc(slices.Clone(wanted), func(want string) bool { return strings.Contains(text, want) })
	}
	// Outcomes are counted after they are recorded, and the lane returns its unused permit later.
	for began := time.Now(); len(missing()) > 0 && time.Since(began) < 5*time.Second; {
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range missing() {
		t.Errorf("not in /metrics: %s", want)
	}
	for _, secret := range []string{"openid-of-somebody", "unsubscribed-b", "T1", secret} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in /metrics", secret)
		}
	}
	if problems, err := testutil.GatherAndLint(p.registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// TestImages: the image of a check is in the payload, or is fetched from an allowed host. No
// image stays in Redis after its task.
func TestImages(t *testing.T) {
	host := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/ok.png":
			_, _ = w.Write([]byte("\x89PNG\r\n\x1a\n0000"))
		case "/text":
			_, _ = w.Write([]byte("hello"))
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(host.Close)
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.config.MediaHosts = []string{strings.TrimPrefix(host.URL, "https://")}
		p := r.replica(nil)
		worker.TrustForTest(p.Replica, host.Client())
		check := func(id, body string) {
			r.submit(tasks.Envelope{Type: tasks.TypeImageCheck, ID: id, Body: []byte(body)})
		}
		spec, _ := tasks.Lookup(tasks.TypeImageCheck)
		check("inline", spec.Example)
		check("fetched", `{"media_url":"`+host.URL+`/ok.png"}`)
		check("no-image", `{"media_url":"`+host.URL+`/text"}`)
		check("missing", `{"media_url":"`+host.URL+`/missing"}`)
		check("elsewhere", `{"media_url":"https://127.0.0.1:1/ok.png"}`)
		for id, want := range map[string]tasks.Outcome{
			"inline": tasks.OutcomeAccepted, "fetched": tasks.OutcomeAccepted,
			"no-image": tasks.OutcomeRejected, "missing": tasks.OutcomeRejected, "elsewhere": tasks.OutcomeRejected,
		} {
			if got := r.outcome(id); got.Outcome != want {
				t.Errorf("%s: %s %s", id, got.Outcome, got.Reason)
			}
		}
		if keys := r.rdb.Keys(t.Context(), "wxcourier:*:blob:*").Val(); len(keys) > 0 {
			t.Errorf("images of ended tasks: %v", keys)
		}
	})
}

func TestNewReportsAllMistakes(t *testing.T) {
	_, err := worker.New(worker.Config{ShutdownTimeout: time.Millisecond, Attempts: 0}, worker.Deps{}, worker.Hooks{})
	if err == nil || !strings.Contains(err.Error(), "shutdown_timeout") || !strings.Contains(err.Error(), "attempts") {
		t.Errorf("not all mistakes: %v", err)
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Errorf("not joined: %T", err)
	}
}

// TestRedisFreezes: Redis freezes for longer than a lease while calls are under way. WeChat's
// answers are recorded afterwards.
func TestRedisFreezes(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, it waits for a lease to expire")
	}
	server := redistest.Start(t)
	r := newRig(t, server.Addr(), sandbox.Options{Latency: 500 * time.Millisecond})
	r.replica(nil)
	for i := range 20 {
		r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
	}
	redistest.Until(t, 10*time.Second, "calls are under way", func() bool {
		return r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) > 0
	})
	thaw := server.Freeze()
	time.AfterFunc(40*time.Second, thaw)
	for i := range 20 {
		id := fmt.Sprintf("m%d", i)
		redistest.Until(t, 3*time.Minute, id+" has an outcome", func() bool {
			got, err := r.client.Result(t.Context(), app, id)
			return err == nil && got.Outcome == tasks.OutcomeAccepted
		})
	}
	if d := r.wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were delivered twice", len(d))
	}
}

// TestDeadlineOfAPlainClient: a task whose deadline in asynq has passed before it runs ends
// with an outcome.
func TestDeadlineOfAPlainClient(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
			ToUser: "a", TemplateID: "T1", Data: map[string]tasks.Value{"thing1": {Value: "x"}},
		}, tasks.ID("late"))
		if err != nil {
			t.Fatal(err)
		}
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		if _, err := plain.EnqueueContext(t.Context(), task, asynq.Deadline(time.Now().Add(-time.Minute))); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 10*time.Second, "the task has an outcome", func() bool {
			got, err := r.client.Result(t.Context(), app, "late")
			return err == nil && got.Outcome == tasks.OutcomeExpired
		})
		if err := p.stop(); err != nil {
			t.Errorf("the shutdown, with a handler that never ran: %v", err)
		}
	})
}

// TestNewerTypesWait: a replica does not dequeue tasks of types that it does not know.
func TestNewerTypesWait(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
		defer func() { _ = plain.Close() }()
		queue := app + ":send:telepathy"
		if _, err := plain.EnqueueContext(t.Context(), asynq.NewTask("send:telepathy", []byte("{}")), asynq.Queue(queue), asynq.TaskID(app+":1")); err != nil {
			t.Fatal(err)
		}
		r.rdb.Publish(t.Context(), "wxcourier:wake", queue)
		r.submit(message("known", "a"))
		r.outcome("known")
		if n := r.rdb.LLen(t.Context(), "asynq:{"+queue+"}:pending").Val(); n != 1 {
			t.Errorf("%d tasks of the newer type wait, want 1", n)
		}
	})
}

// TestAHeldLaneDoesNotBlockOthers: tasks of a held lane do not wait in their handlers, so
// other lanes can take their receiver's lock.
func TestAHeldLaneDoesNotBlockOthers(t *testing.T) {
	onEach(t, sandbox.Options{Latency: 100 * time.Millisecond}, func(t *testing.T, r *rig) {
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 100}})
		for i := range 10 { // the later ones wait for the receiver's lock
			r.submit(message(fmt.Sprintf("same%d", i), "somebody"))
		}
		r.outcome("same0")
		h := hold.Hold{App: app, Scope: tasks.TypeSubscribe, Reason: "maintenance", Until: time.Now().Add(time.Hour), By: "test"}
		if _, err := r.holds().Set(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		r.submit(addressed(tasks.TypeCustom, "other-lane", "somebody"))
		if got := r.outcome("other-lane"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// failsCapped enqueues a message by a plain asynq client, with MaxRetry 0, and waits until it
// fails for that reason.
func (r *rig) failsCapped(to string) {
	r.t.Helper()
	task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
		ToUser: to, TemplateID: "T1", Data: map[string]tasks.Value{"thing1": {Value: "x"}},
	}, tasks.ID("capped"))
	if err != nil {
		r.t.Fatal(err)
	}
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
	defer func() { _ = plain.Close() }()
	if _, err := plain.EnqueueContext(r.t.Context(), task, asynq.MaxRetry(0)); err != nil {
		r.t.Fatal(err)
	}
	redistest.Until(r.t, 10*time.Second, "the task has an outcome", func() bool {
		got, err := r.client.Result(r.t.Context(), app, "capped")
		return err == nil && got.Outcome == tasks.OutcomeFailed && strings.HasPrefix(got.Reason, "retries_capped")
	})
}

// TestRetryLimitOfAPlainClient: a capped task that would have to be retried ends with an
// outcome, since asynq would archive it.
func TestRetryLimitOfAPlainClient(t *testing.T) {
	onEach(t, sandbox.Options{}, func(_ *testing.T, r *rig) {
		r.replica(nil)
		r.failsCapped("busy-a")
	})
}

// TestRunnerNamesAreUnique: across replicas, too. The ledger takes a second open by the same
// runner for a repetition of the first.
func TestRunnerNamesAreUnique(t *testing.T) {
	seen := make(map[string]bool)
	for range 3 {
		m, _ := redistest.Mini(t)
		p := newRig(t, m.Addr(), sandbox.Options{}).replica(nil)
		for range 100 {
			name := worker.NewRunnerForTest(p.Replica)
			if seen[name] || strings.ContainsAny(name, ` "\`) {
				t.Fatalf("the name %q", name)
			}
			seen[name] = true
		}
	}
}
