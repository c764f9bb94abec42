package worker_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// endsOnce checks that a task has one outcome in the stream, and one log line at level warn
// or above.
func (r *rig) endsOnce(id string) {
	r.t.Helper()
	n := 0
	for result, err := range tasks.NewInspector(r.rdb).Results(r.t.Context(), app, "", false) {
		if err != nil {
			r.t.Fatal(err)
		}
		if result.ID == id {
			n++
		}
	}
	if n != 1 {
		r.t.Errorf("%s has %d outcomes", id, n)
	}
	var lines []string
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, "task="+id+" ") && (strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR")) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 {
		r.t.Errorf("%s has %d log lines:\n%s", id, len(lines), strings.Join(lines, ""))
	}
}

// TestATaskThatKillsItsProcess: after three runs that died a task ends as failed, so that it
// does not crash a fourth process. A message ends as unknown after the first such run, since
// it may have been sent.
func TestATaskThatKillsItsProcess(t *testing.T) {
	t.Parallel()
	m, rdb := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	link, text := "link", "text"
	spec, _ := tasks.Lookup(tasks.TypeScheme)
	r.submit(tasks.Envelope{Type: tasks.TypeScheme, ID: link, Body: []byte(spec.Example)})
	r.submit(message(text, "o"))
	book := ledger.New(rdb, ledger.Policy{DeadAfter: time.Minute, LostLimit: 3})
	now := time.Now()
	for run := range 3 {
		m.SetTime(now.Add(time.Duration(run) * 2 * time.Minute))
		for id, want := range map[string]ledger.Admission{link: ledger.Proceed, text: ledger.Proceed} {
			if id == text && run > 0 {
				want = ledger.Unknown
			}
			opened, err := book.Open(t.Context(), ledger.Ref{App: app, ID: id}, ledger.OpenRequest{
				Runner: fmt.Sprintf("dead-%d", run), Fenced: id == text, Marked: true,
			})
			if err != nil || opened.Admission != want {
				t.Fatalf("run %d of %s: %+v, %v", run, id, opened, err)
			}
		}
	}
	m.SetTime(now.Add(8 * time.Minute))
	r.replica(nil)
	if got := r.outcome(link); got.Outcome != tasks.OutcomeFailed || got.Reason != "runners_lost" {
		t.Errorf("%+v", got)
	}
	if got := r.outcome(text); got.Outcome != tasks.OutcomeUnknown || got.Reason != "runner_lost" {
		t.Errorf("%+v", got)
	}
	r.endsOnce(link)
	r.endsOnce(text)
	if n := r.wx.Count(sandbox.Filter{Path: sendPath}) + r.wx.Count(sandbox.Filter{Path: spec.Path}); n != 0 {
		t.Errorf("%d calls", n)
	}
	r.submit(message("good", "o"))
	if got := r.outcome("good"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("another task of the lane: %+v", got)
	}
}

// TestAnEndlessAnswer: a proxy sends 100 MB in place of WeChat's answer. The client reads
// little of it, the task ends as unknown, and the lane continues.
func TestAnEndlessAnswer(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		var written atomic.Int64
		wx, err := url.Parse(r.url)
		if err != nil {
			t.Fatal(err)
		}
		behind := httputil.NewSingleHostReverseProxy(wx)
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			body, err := io.ReadAll(req.Body)
			if err != nil || !bytes.Contains(body, []byte("endless")) {
				req.Body = io.NopCloser(bytes.NewReader(body))
				behind.ServeHTTP(w, req)
				return
			}
			for range 100 {
				n, err := w.Write(bytes.Repeat([]byte(" "), 1<<20))
				written.Add(int64(n))
				if err != nil {
					return
				}
			}
		}))
		t.Cleanup(front.Close)
		r.wechat.BaseURL = front.URL
		r.wechat.Timeout, r.wechat.AttemptTimeout = 5*time.Second, 6*time.Second
		r.replica(nil)
		r.submit(message("endless", "endless"))
		if got := r.outcome("endless"); got.Outcome != tasks.OutcomeUnknown {
			t.Errorf("%+v", got)
		}
		r.submit(message("good", "o"))
		if got := r.outcome("good"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("another task of the lane: %+v", got)
		}
		r.endsOnce("endless")
		if n := written.Load(); n > 50<<20 {
			t.Errorf("%d bytes of the answer were read", n)
		}
	})
}

// TestAPanicInAHookLosesNothing: after a panic in OnResult the task keeps its outcome and the
// lane continues. The log does not contain the value of the panic.
func TestAPanicInAHookLosesNothing(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hooks = worker.Hooks{OnResult: func(got tasks.Result) {
			if got.ID == "panics" {
				panic("openid-of-somebody")
			}
		}}
		r.replica(nil)
		r.submit(message("panics", "o"))
		r.submit(message("good", "p"))
		for _, id := range []string{"panics", "good"} {
			if got := r.outcome(id); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%+v", got)
			}
		}
		queue := "asynq:{" + tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent) + "}:"
		redistest.Until(t, 30*time.Second, "asynq has deleted the task", func() bool {
			return r.rdb.Exists(t.Context(), queue+"t:"+app+":panics", queue+"active", queue+"retry").Val() == 0
		})
		if n := strings.Count(r.log.String(), "panic in a delivery"); n != 1 || strings.Contains(r.log.String(), "openid-of-somebody") {
			t.Errorf("%d log lines of the panic, or its value is in the log:\n%s", n, r.log)
		}
		if n := r.wx.Count(sandbox.Filter{Path: sendPath, Delivered: true}); n != 2 {
			t.Errorf("%d delivered", n)
		}
	})
}
