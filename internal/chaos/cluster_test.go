package chaos

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestCluster runs all functions on a Redis Cluster of three masters: enqueuing, pace, tokens,
// delivery, retries, images, holds, canceling, status, results and check.
func TestCluster(t *testing.T) {
	t.Parallel()
	n := size(t, 300, 10)
	var addrs []string
	nodes := redistest.StartMasters(t, "--appendonly", "yes")
	for _, node := range nodes {
		addrs = append(addrs, node.Addr())
	}
	w := newWorld(t, settings{redis: configs.Redis{Addrs: addrs}, tasks: n, limits: limitsFor(n, max(5, n/100)), latency: 50 * time.Millisecond})
	w.injectFaults()
	all, file := w.mixed(n)
	fleet := w.fleet(2)
	w.enqueue(file)
	redistest.Until(t, time.Minute, "half of the calls were made", func() bool { return w.sends() > n/2 })
	w.wx.Revoke(mini)
	w.settle(fleet, n, 3*time.Minute)
	a := w.audit(all)
	a.noDuplicates()
	a.unknownsWereInFlight()
	for _, node := range nodes {
		if keys := node.Client(t).DBSize(t.Context()).Val(); keys == 0 {
			t.Errorf("%s has no keys", node.Addr())
		}
	}
	w.images()
	w.holdAndCancel()
	w.commandsAnswer(n)
	fleet.stop()
	for _, log := range fleet.logs() {
		if strings.Contains(log, "CROSSSLOT") {
			t.Errorf("a script has keys on several nodes:\n%s", tail(log))
		}
	}
}

// images checks types whose images have keys of their own: a code and an image check.
func (w *world) images() {
	w.t.Helper()
	spec, _ := tasks.Lookup(tasks.TypeImageCheck)
	for id, e := range map[string]tasks.Envelope{
		"code":  {Type: tasks.TypeUnlimitedCode, Body: []byte(`{"scene":"id=code"}`)},
		"check": {Type: tasks.TypeImageCheck, Body: []byte(spec.Example)},
	} {
		e.App, e.ID = mini, id
		if got := w.outcome(e); got.Outcome != tasks.OutcomeAccepted {
			w.t.Errorf("%s: %s %s", id, got.Outcome, got.Reason)
		}
	}
	if image, err := w.client.Image(w.t.Context(), mini, "code"); err != nil || len(image) == 0 {
		w.t.Errorf("the image: %d bytes, %v", len(image), err)
	}
}

// outcome submits a task and waits for its result.
func (w *world) outcome(e tasks.Envelope) tasks.Result {
	w.t.Helper()
	_, err := w.client.Submit(w.t.Context(), e)
	must(w.t, err)
	return w.wait(e.App, e.ID)
}

func (w *world) wait(app, id string) (result tasks.Result) {
	w.t.Helper()
	redistest.Until(w.t, time.Minute, id+" has an outcome", func() bool {
		var err error
		result, err = w.client.Result(w.t.Context(), app, id)
		return err == nil && result.Outcome != ""
	})
	return result
}

// holdAndCancel checks that a hold applies to all replicas, that a batch canceled during the hold is
// not sent, and that delivery continues after the release.
func (w *world) holdAndCancel() {
	t, ctx := w.t, w.t.Context()
	t.Helper()
	holds := hold.NewStore(w.rdb)
	_, err := holds.Set(ctx, hold.Hold{App: third, Scope: hold.WholeApp, Reason: "maintenance", By: "a test"})
	must(t, err)
	before := w.wx.Count(sandbox.Filter{App: third, Path: "/cgi-bin/message/subscribe/send"})
	for batch, count := range map[string]int{"taken-back": 5, "kept": 1} {
		for i := range count {
			id := fmt.Sprintf("%s-%d", batch, i)
			_, err := w.client.Submit(ctx, tasks.Envelope{
				Type: tasks.TypeSubscribe, App: third, ID: id, Batch: batch, Body: fmt.Appendf(nil, bodies[tasks.TypeSubscribe], id),
			})
			must(t, err)
		}
	}
	left, err := w.client.CancelBatch(ctx, third, "taken-back")
	if err != nil || left != 5 {
		t.Errorf("%d tasks of the batch are canceled, %v", left, err)
	}
	if now := w.wx.Count(sandbox.Filter{App: third, Path: "/cgi-bin/message/subscribe/send"}); now != before {
		t.Errorf("%d calls for an app that is held", now-before)
	}
	if !strings.Contains(w.output("status"), "maintenance") {
		t.Error("status does not show the hold")
	}
	_, err = holds.Lift(ctx, third, hold.WholeApp)
	must(t, err)
	if got := w.wait(third, "kept-0"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("a task that was not canceled: %+v", got)
	}
	for i := range 5 {
		if got := w.wait(third, fmt.Sprintf("taken-back-%d", i)); got.Outcome != tasks.OutcomeCanceled {
			t.Errorf("a canceled task: %+v", got)
		}
	}
}

// commandsAnswer checks the output of results, check and run.
func (w *world) commandsAnswer(n int) {
	w.t.Helper()
	results := make(map[string]bool)
	for line := range strings.Lines(w.output("results", "--json")) {
		var r tasks.Result
		must(w.t, json.Unmarshal([]byte(line), &r))
		results[r.ID] = true
	}
	if len(results) < n {
		w.t.Errorf("results lists %d tasks of %d", len(results), n)
	}
	if text := w.output("check"); strings.Contains(text, "FAIL") || !strings.Contains(text, "ok    redis maxmemory-policy: noeviction") {
		w.t.Errorf("check prints\n%s", text)
	}
	file := filepath.Join(w.t.TempDir(), "one.jsonl")
	must(w.t, os.WriteFile(file, []byte(`{"type":"send:subscribe","app":"`+mini+`","id":"by-run","body":`+fmt.Sprintf(bodies[tasks.TypeSubscribe], "by-run")+"}\n"), 0o600))
	if text := w.output("run", file); !strings.Contains(text, `"outcome":"accepted"`) {
		w.t.Errorf("run prints\n%s", text)
	}
}
