package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// journalRun runs the built program with a journal, in a folder of its own.
type journalRun struct {
	t   *testing.T
	dir string
	env []string
}

func (r journalRun) start(stdout, stderr *e2e.Output) *exec.Cmd {
	r.t.Helper()
	path, err := e2e.Binary()
	must(r.t, err)
	cmd := exec.CommandContext(context.Background(), path, "run", "--journal", "tasks.journal", "tasks.jsonl") //nolint:gosec // the test's own arguments
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.dir, r.env, stdout, stderr
	must(r.t, cmd.Start())
	r.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// results decodes the output of a run by id; the last line may be incomplete.
func (r journalRun) results(text string) map[string]tasks.Result {
	r.t.Helper()
	all := make(map[string]tasks.Result)
	for l := range strings.Lines(text) {
		var one tasks.Result
		if json.Unmarshal([]byte(l), &one) == nil {
			all[one.ID] = one
		}
	}
	return all
}

// unanswered returns the ids of the journal's requests without an answer.
func (r journalRun) unanswered() map[string]bool {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, "tasks.journal"))
	must(r.t, err)
	open := make(map[string]bool)
	for l := range strings.Lines(string(text)) {
		var line struct{ Sending, Returned, Result *struct{ ID string } }
		if json.Unmarshal([]byte(l), &line) != nil {
			continue
		}
		switch {
		case line.Sending != nil:
			open[line.Sending.ID] = true
		case line.Returned != nil:
			delete(open, line.Returned.ID)
		case line.Result != nil:
			delete(open, line.Result.ID)
		}
	}
	return open
}

// TestKilledRunWithJournal: a run is killed three times with SIGKILL while calls are in flight,
// and repeated until it completes.
func TestKilledRunWithJournal(t *testing.T) {
	t.Parallel()
	wx := sandbox.New(sandbox.Options{Apps: map[string]string{mini: miniSecret}, Latency: 150 * time.Millisecond})
	url, stop := wx.Start()
	t.Cleanup(stop)
	r := journalRun{t, t.TempDir(), []string{"WXCOURIER_WECHAT_BASE_URL=" + url, "WXCOURIER_APPS_" + strings.ToUpper(mini) + "_SECRET=" + miniSecret}}
	const n = 500
	kinds := []string{"send:subscribe", "send:subscribe", "send:subscribe", "send:template", "scheme:generate"}
	var lines bytes.Buffer
	for i := range n {
		kind, body := kinds[i%len(kinds)], fmt.Sprintf(`{"touser":"person-%d","template_id":"T1","data":{"number1":{"value":"%d"}}}`, i, i)
		if kind == tasks.TypeScheme {
			body = fmt.Sprintf(`{"jump_wxa":{"path":"pages/index/index","query":"n=%d"}}`, i)
		}
		fmt.Fprintf(&lines, `{"type":%q,"app":%q,"id":"task-%d","body":%s}`+"\n", kind, mini, i, body)
	}
	must(t, os.WriteFile(filepath.Join(r.dir, "tasks.jsonl"), lines.Bytes(), 0o600))

	mayBeUnknown := make(map[string]bool)
	printed := make(map[string]tasks.Result)
	for kill := 1; kill <= 3; kill++ {
		calls := wx.Count(sandbox.Filter{})
		var stdout, stderr e2e.Output
		cmd := r.start(&stdout, &stderr)
		redistest.Until(t, time.Minute, "calls are under way", func() bool { return wx.Count(sandbox.Filter{}) > calls+60 })
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		for id := range r.unanswered() {
			mayBeUnknown[id] = true
		}
		for id, result := range r.results(stdout.String()) {
			if before, ok := printed[id]; ok && !reflect.DeepEqual(before, result) {
				t.Errorf("%s was printed as %+v, and then as %+v", id, before, result)
			}
			printed[id] = result
		}
	}
	if len(mayBeUnknown) == 0 {
		t.Error("no call was in flight")
	}

	var stdout, stderr e2e.Output
	if err := r.start(&stdout, &stderr).Wait(); err == nil {
		t.Error("a run with unknown tasks exited with 0")
	}
	results, unknown := r.results(stdout.String()), 0
	for i := range n {
		id := fmt.Sprintf("task-%d", i)
		got := results[id]
		switch {
		case got.Outcome == tasks.OutcomeUnknown && mayBeUnknown[id] && got.Type == tasks.TypeSubscribe:
			unknown++
		case got.Outcome != tasks.OutcomeAccepted:
			t.Errorf("%s: %+v", id, got)
		}
		if before, ok := printed[id]; ok && before != got {
			t.Errorf("%s was printed as %+v, and then as %+v", id, before, got)
		}
	}
	if d := wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were delivered twice: %+v", len(d), d[0])
	}
	if len(results) != n || unknown == 0 {
		t.Errorf("%d results, %d unknown\n%s", len(results), unknown, stderr.String())
	}
	t.Logf("%d of %d tasks are unknown after three kills", unknown, n)

	calls := wx.Count(sandbox.Filter{})
	var last, lastErr e2e.Output
	_ = r.start(&last, &lastErr).Wait()
	if again := r.results(last.String()); len(again) != n || wx.Count(sandbox.Filter{}) != calls {
		t.Errorf("the last run printed %d results and made %d calls\n%s", len(again), wx.Count(sandbox.Filter{})-calls, lastErr.String())
	}
}
