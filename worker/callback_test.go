package worker_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
	"github.com/wxcourier/wxcourier/worker"
)

// mediaChecks is the handler of a gateway, and the results that it recorded.
type mediaChecks struct {
	*pushes.MediaChecks
	r *rig

	mu      sync.Mutex
	results []tasks.Result // guarded by mu
}

func (r *rig) mediaChecks() *mediaChecks {
	h := &mediaChecks{r: r}
	h.MediaChecks = pushes.NewMediaChecks(pushes.MediaChecksDeps{
		Redis: r.rdb, Policy: worker.RecordPolicy(r.results, r.wechat.AttemptTimeout),
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
		OnOutcome: func(result tasks.Result) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.results = append(h.results, result)
		},
	})
	return h
}

// recorded returns how many outcomes the gateway recorded.
func (h *mediaChecks) recorded() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.results)
}

// push delivers verdicts to the gateway.
func (h *mediaChecks) push(checks ...callback.MediaCheck) {
	h.r.t.Helper()
	var all []callback.Push
	for _, m := range checks {
		all = append(all, callback.Push{Type: "event", Event: callback.EventMediaCheck, MediaCheck: &m})
	}
	if err := h.Handle(h.r.t.Context(), app, all); err != nil {
		h.r.t.Fatal(err)
	}
}

func mediaCheck(id string) tasks.Envelope {
	return tasks.Envelope{
		Type: tasks.TypeMediaCheck, ID: id, Batch: "b",
		Body: []byte(`{"media_url":"https://example.com/` + id + `.png","media_type":2,"version":2,"scene":1,"openid":"o` + id + `"}`),
	}
}

// trace waits until a task waits for its callback, and returns its trace_id.
func (r *rig) trace(id string) string {
	r.t.Helper()
	var trace string
	r.eventually("the task "+id+" waits for its callback", func() bool {
		_, trace, _ = strings.Cut(r.rdb.HGet(r.t.Context(), ledger.TaskKey(app, id), "trace").Val(), " ")
		got, err := r.client.Result(r.t.Context(), app, id)
		return err == nil && trace != "" && got.WaitsFor == tasks.WaitsForCallback
	})
	return trace
}

// eventually waits for a condition.
func (r *rig) eventually(what string, condition func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("not within 30 s: %s\n%s", what, r.log)
		}
	}
}

// entries returns the entries of the stream for a task, without its state before the end.
func (r *rig) entries(id string) (all []tasks.Result) {
	r.t.Helper()
	for _, e := range r.rdb.XRange(r.t.Context(), ledger.StreamKey(app), "-", "+").Val() {
		var result tasks.Result
		if err := json.Unmarshal([]byte(e.Values["result"].(string)), &result); err != nil {
			r.t.Fatal(err)
		}
		if result.ID == id {
			all = append(all, result)
		}
	}
	return all
}

// copyGone waits until asynq has no copy of a task.
func (r *rig) copyGone(id string) {
	r.t.Helper()
	r.eventually("asynq's copy of "+id+" is gone", func() bool {
		copied, err := asynqwire.ReadCopy(r.t.Context(), r.rdb, app+":"+tasks.TypeMediaCheck, app+":"+id)
		return err == nil && copied == nil
	})
}

// TestMediaCheck: a check ends with WeChat's push, once, however often that comes, and its copy leaves
// asynq at once.
func TestMediaCheck(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h, p := r.mediaChecks(), r.replica(nil)
		r.submit(mediaCheck("a"))
		trace := r.trace("a")
		waiting, err := r.client.Result(t.Context(), app, "a")
		if err != nil || waiting.State != tasks.StateWaiting || waiting.Attempts != 1 || waiting.Reason != "" ||
			time.Until(waiting.NextAt) < 29*time.Minute || time.Until(waiting.NextAt) > 31*time.Minute {
			t.Errorf("before the push: %+v, %v", waiting, err)
		}
		push := callback.MediaCheck{TraceID: trace, Suggest: "risky", Label: "20002"}
		h.push(callback.MediaCheck{TraceID: "of another", Suggest: "pass"}, push, push)
		h.push(push)
		got := r.outcome("a")
		if got.Outcome != tasks.OutcomeAccepted || got.Suggest != "risky" || got.Label != "20002" || got.TraceID != trace || got.ErrCode != 0 ||
			got.Attempts != 1 || got.Batch != "b" || got.EnqueuedAt.IsZero() || got.FinishedAt.Before(got.EnqueuedAt) || got.Reason != "" || got.WaitsFor != "" {
			t.Errorf("%+v", got)
		}
		r.copyGone("a")
		if all := r.entries("a"); len(all) != 1 || h.recorded() != 1 {
			t.Errorf("%d entries of the stream, %d outcomes counted by the gateway", len(all), h.recorded())
		}
		if n, err := testutil.GatherAndCount(p.registry, "wxcourier_outcomes_total"); n != 0 || err != nil {
			t.Errorf("the worker counted the outcome, too: %d, %v", n, err)
		}
		if c, err := r.client.Batch(t.Context(), app, "b"); err != nil || c["done"] != 1 || c["accepted"] != 1 || c["total"] != 1 {
			t.Errorf("batch %v, %v", c, err)
		}
		if left := r.rdb.HExists(t.Context(), ledger.TaskKey(app, "a"), "trace").Val(); left {
			t.Error("the record still has the trace")
		}
		noLeak(t, r)
	})
}

// answering is a transport that calls a function with the trace_id of each answer, before the client
// gets the answer.
type answering struct{ before func(trace string) }

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil || !strings.HasSuffix(req.URL.Path, "media_check_async") {
		return resp, err
	}
	text, err := io.ReadAll(resp.Body)
	var answer struct {
		TraceID string `json:"trace_id"`
	}
	if err = errors.Join(err, resp.Body.Close(), json.Unmarshal(text, &answer)); err != nil {
		return nil, err
	}
	a.before(answer.TraceID)
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

// TestEarlyCallback: a push that comes before the answer was recorded is not lost.
func TestEarlyCallback(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h := r.mediaChecks()
		r.dials = answering{func(trace string) {
			push := callback.MediaCheck{TraceID: trace, Suggest: "pass", Label: "100"}
			h.push(push, push)
		}}
		p := r.replica(nil)
		r.submit(mediaCheck("a"))
		got := r.outcome("a")
		if got.Outcome != tasks.OutcomeAccepted || got.Suggest != "pass" || got.Label != "100" || got.TraceID == "" || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		r.copyGone("a")
		h.push(callback.MediaCheck{TraceID: got.TraceID, Suggest: "pass", Label: "100"})
		if all := r.entries("a"); len(all) != 1 || h.recorded() != 0 {
			t.Errorf("%d entries of the stream, %d outcomes counted by the gateway", len(all), h.recorded())
		}
		if n, err := testutil.GatherAndCount(p.registry, "wxcourier_outcomes_total"); n != 1 || err != nil {
			t.Errorf("the worker counted %d, %v", n, err)
		}
	})
}

// TestLateCallback: a check without a push ends as unknown. A later push replaces that, unless the task
// was redriven: then only the push of its new request counts.
func TestLateCallback(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h := r.mediaChecks()
		traces := make(chan string, 10)
		r.dials = answering{func(trace string) { traces <- trace }}
		p, closeParts := r.unstarted(r.newRedis(), nil)
		worker.SetCallbackTimeoutForTest(p.Replica, time.Millisecond)
		r.start(p, closeParts)
		for _, id := range []string{"late", "redriven"} {
			r.submit(mediaCheck(id))
			got, trace := r.outcome(id), <-traces
			if got.Outcome != tasks.OutcomeUnknown || got.Reason != "no_callback" || got.TraceID != trace || got.Attempts != 1 {
				t.Errorf("%+v", got)
			}
			if id == "redriven" {
				if done, err := r.inspector.Redrive(t.Context(), app, id, redriveOf(tasks.OutcomeUnknown)); err != nil || done != tasks.RedriveDone {
					t.Fatalf("%s, %v", done, err)
				}
			}
			h.push(callback.MediaCheck{TraceID: trace, Suggest: "pass"})
		}
		if got := r.outcome("late"); got.Outcome != tasks.OutcomeAccepted || got.Supersedes != tasks.OutcomeUnknown || got.Suggest != "pass" {
			t.Errorf("after a late push: %+v", got)
		}
		if all := r.entries("late"); len(all) != 2 || h.recorded() != 1 {
			t.Errorf("%d entries of the stream, %d outcomes by the gateway", len(all), h.recorded())
		}
		if got := r.redriven("redriven"); got.Outcome != tasks.OutcomeUnknown || got.TraceID != <-traces {
			t.Errorf("the push of an earlier generation ended %+v", got)
		}
		if c, err := r.client.Batch(t.Context(), app, "b"); err != nil || c["accepted"] != 1 || c["unknown"] != 1 || c["done"] != 2 {
			t.Errorf("batch %v, %v", c, err)
		}
	})
}

// TestFailedMediaCheck: a check whose file WeChat could not download is rejected, and can be redriven.
func TestFailedMediaCheck(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h := r.mediaChecks()
		r.replica(nil)
		for i, tt := range []struct {
			code    int
			outcome tasks.Outcome
			reason  string
		}{{-1008, tasks.OutcomeRejected, "media_download"}, {-2, tasks.OutcomeFailed, "check_failed"}} {
			id := string(rune('a' + i))
			r.submit(mediaCheck(id))
			first := r.trace(id)
			h.push(callback.MediaCheck{TraceID: first, ErrCode: tt.code})
			if got := r.outcome(id); got.Outcome != tt.outcome || got.Reason != tt.reason || got.ErrCode != tt.code || got.ErrMsg == "" || got.Suggest != "" {
				t.Errorf("%+v", got)
			}
			if done, err := r.inspector.Redrive(t.Context(), app, id, redriveOf(tt.outcome)); err != nil || done != tasks.RedriveDone {
				t.Fatalf("%s, %v", done, err)
			}
			second := r.trace(id)
			if second == first {
				t.Error("no new request after the redrive")
			}
			h.push(callback.MediaCheck{TraceID: first, Suggest: "risky"}, callback.MediaCheck{TraceID: second, Suggest: "pass"})
			if got := r.redriven(id); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "pass" {
				t.Errorf("after the redrive: %+v", got)
			}
		}
	})
}

// TestCanceledMediaCheck: WeChat checks what it has accepted, so a cancellation comes too late, of the
// task as of its batch.
func TestCanceledMediaCheck(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h := r.mediaChecks()
		r.replica(nil)
		r.submit(mediaCheck("a"))
		trace := r.trace("a")
		if n, err := r.client.Cancel(t.Context(), app, "a"); err != nil || n.Sending != 1 {
			t.Errorf("%+v, %v", n, err)
		}
		if _, err := r.client.CancelBatch(t.Context(), app, "b"); err != nil {
			t.Error(err)
		}
		if got, err := r.client.Result(t.Context(), app, "a"); err != nil || got.WaitsFor != tasks.WaitsForCallback || got.Reason != "" {
			t.Errorf("%+v, %v", got, err)
		}
		h.push(callback.MediaCheck{TraceID: trace, Suggest: "review"})
		if got := r.outcome("a"); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "review" {
			t.Errorf("%+v", got)
		}
	})
}

// TestReplicaDiedAfterTheAnswer: another replica goes on where one died that had recorded the answer:
// it makes no second call.
func TestReplicaDiedAfterTheAnswer(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		h := r.mediaChecks()
		l := ledger.New(r.rdb, worker.RecordPolicy(r.results, r.wechat.AttemptTimeout))
		ids := map[string]string{"early": `{"trace_id":"early","suggest":"pass"}`, "waiting": "", "lost": ""}
		for id, early := range ids {
			r.submit(mediaCheck(id))
			ref := ledger.Ref{App: app, ID: id, Batch: "b"}
			queue := app + ":" + tasks.TypeMediaCheck
			opened, err := l.Open(t.Context(), ref, ledger.OpenRequest{Runner: "dead-1", Queue: queue, Marked: true})
			if err != nil || opened.Admission != ledger.Proceed {
				t.Fatalf("%+v, %v", opened, err)
			}
			if early != "" {
				if _, known, err := l.FindTrace(t.Context(), app, id, []byte(early)); err != nil || known {
					t.Fatalf("%v, %v", known, err)
				}
			}
			base := tasks.Result{ID: id, App: app, Type: tasks.TypeMediaCheck, Batch: "b", Attempts: 1, TraceID: id}
			request := ledger.AwaitRequest{Runner: "dead-1", Queue: queue, TraceID: id, Result: base.Encode(), Timeout: time.Hour}
			if id == "lost" {
				request.Timeout = 0
			}
			for range 2 { // go-redis repeats a command whose reply was lost
				if a, err := l.Await(t.Context(), ref, request); err != nil || a.Lost || string(a.Early) != early {
					t.Fatalf("%+v, %v", a, err)
				}
			}
			request.Runner = "dead-2"
			if a, err := l.Await(t.Context(), ref, request); err != nil || !a.Lost {
				t.Fatalf("%+v, %v", a, err)
			}
		}
		r.replica(nil)
		if got := r.outcome("early"); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "pass" || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		if got := r.outcome("lost"); got.Outcome != tasks.OutcomeUnknown || got.Reason != "no_callback" || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		r.trace("waiting")
		h.push(callback.MediaCheck{TraceID: "waiting", Suggest: "risky"}, callback.MediaCheck{TraceID: "lost", Suggest: "pass"})
		if got := r.outcome("waiting"); got.Outcome != tasks.OutcomeAccepted || got.Suggest != "risky" || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		if got := r.outcome("lost"); got.Supersedes != tasks.OutcomeUnknown || got.Suggest != "pass" {
			t.Errorf("%+v", got)
		}
		if calls := r.wx.Calls(sandbox.Filter{Path: "/wxa/media_check_async"}); len(calls) > 0 {
			t.Errorf("%d calls to WeChat, want none", len(calls))
		}
	})
}
