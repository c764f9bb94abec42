package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// Two apps. Their secrets must not appear in any output.
const (
	mini        = "wx00000000000000a1"
	official    = "wx00000000000000b2"
	miniSecret  = "mini-secret-6f1d0c" //nolint:gosec // the sandbox's
	officSecret = "official-secret-93ab7e"
)

func TestMain(m *testing.M) { os.Exit(e2e.Run(m)) }

// world is a sandbox, a Redis, and a configuration that points to both.
type world struct {
	t          *testing.T
	wx         *sandbox.Server
	url        string // of wx
	redis      *redistest.Server
	config     string
	e2e.Output // standard output and standard error of all programs
}

func newWorld(t *testing.T) *world { return newPatientWorld(t, time.Second) }

// newPatientWorld is newWorld with a timeout of calls to WeChat. A dead replica's tasks wait for it.
func newPatientWorld(t *testing.T, timeout time.Duration) *world {
	w := &world{t: t, redis: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")}
	w.wx = sandbox.New(sandbox.Options{Apps: map[string]string{mini: miniSecret, official: officSecret}, Latency: 5 * time.Millisecond})
	url, stop := w.wx.Start()
	t.Cleanup(stop)
	w.url = url
	w.config = filepath.Join(t.TempDir(), "wxcourier.yaml")
	secretFile := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secretFile, []byte(officSecret+"\n"), 0o600))
	must(t, os.WriteFile(w.config, fmt.Appendf(nil, `
redis: {addrs: [%q]}
wechat: {base_url: %q, timeout: %v, attempt_timeout: %v}
worker: {shutdown_timeout: 10s}
apps:
  - {id: %s, secret: %s}
  - {id: %s, secret_file: %q}
`, w.redis.Addr(), url, timeout, 2*timeout, mini, miniSecret, official, secretFile), 0o600))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the built program; its output goes to w.Output.
func (w *world) start(args ...string) *exec.Cmd {
	w.t.Helper()
	path, err := e2e.Binary()
	must(w.t, err)
	cmd := exec.CommandContext(context.Background(), path, append([]string{args[0], "--config", w.config}, args[1:]...)...) //nolint:gosec // the test's own arguments
	cmd.Stdout, cmd.Stderr = w, w
	must(w.t, cmd.Start())
	w.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

// exec runs the built program to its end and returns its standard output.
func (w *world) exec(args ...string) string {
	w.t.Helper()
	path, err := e2e.Binary()
	must(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), path, append([]string{args[0], "--config", w.config}, args[1:]...)...) //nolint:gosec // the test's own arguments
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, w
	err = cmd.Run()
	_, _ = w.Write(out.Bytes())
	if err != nil {
		w.t.Fatalf("%v: %v\n%s", args, err, w.String())
	}
	return out.String()
}

// want is a task and its expected end.
type want struct {
	line      string
	outcome   tasks.Outcome
	openid    string
	path      string
	calls     int // 0: any number
	delivered int
}

// mixed makes n tasks for both apps; some receivers trigger a fault of the sandbox.
func mixed(n int) map[string]want {
	kinds := []struct {
		typ, app, fault string
		outcome         tasks.Outcome
		calls           int
		delivered       int
	}{
		{tasks.TypeSubscribe, mini, "", tasks.OutcomeAccepted, 0, 1},
		{tasks.TypeTemplate, official, "", tasks.OutcomeAccepted, 0, 1},
		{tasks.TypeCustom, official, "", tasks.OutcomeAccepted, 0, 1},
		{tasks.TypeSubscribe, mini, "unsubscribed-", tasks.OutcomeRefused, 1, 0},
		{tasks.TypeSubscribe, mini, "busy-", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeSubscribe, mini, "lost-", tasks.OutcomeUnknown, 1, 1},
		{tasks.TypeSubscribe, mini, "reset-", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeTemplate, official, "lost-", tasks.OutcomeAccepted, 0, 1},
		{tasks.TypeCustom, official, "hangafter-", tasks.OutcomeUnknown, 1, 1},
		{tasks.TypeSubscribe, mini, "BAD", tasks.OutcomeRejected, 1, 0},
		{tasks.TypeTextCheck, mini, "reset-", tasks.OutcomeAccepted, 0, 1},
		{tasks.TypeSubscribe, mini, "concurrent-", tasks.OutcomeAccepted, 2, 1},
		{tasks.TypeCustom, official, "inactive-", tasks.OutcomeRefused, 1, 0},
		{tasks.TypeSubscribe, mini, "garbage-", tasks.OutcomeUnknown, 1, 0},
		{tasks.TypeScheme, mini, "", tasks.OutcomeAccepted, 0, 0},
		{tasks.TypeUnlimitedCode, mini, "", tasks.OutcomeAccepted, 0, 0},
	}
	bodies := map[string]string{
		tasks.TypeSubscribe:     `{"touser":"%[1]s","template_id":"%[2]s","data":{"thing1":{"value":"A & B <%[3]d>"}}}`,
		tasks.TypeTemplate:      `{"touser":"%[1]s","template_id":"%[2]s","data":{"thing1":{"value":"订单 & %[3]d"}}}`,
		tasks.TypeCustom:        `{"touser":"%[1]s","msgtype":"text","text":{"content":"\u4f60\u597d & %[3]d"}}`,
		tasks.TypeTextCheck:     `{"openid":"%[1]s","version":2,"scene":1,"content":"text %[3]d"}`,
		tasks.TypeScheme:        `{"jump_wxa":{"path":"pages/index/index","query":"id=%[3]d"},"is_expire":true,"expire_type":1,"expire_interval":30}`,
		tasks.TypeUnlimitedCode: `{"scene":"id=%[3]d"}`,
	}
	all := make(map[string]want, n)
	for i := range n {
		k := kinds[i%len(kinds)]
		openid, template := fmt.Sprintf("%sopenid-of-person-%d", k.fault, i), "T1"
		if k.fault == "BAD" {
			template = "BAD"
		}
		id := fmt.Sprintf("task-%d", i)
		spec, _ := tasks.Lookup(k.typ)
		all[id] = want{
			line:    fmt.Sprintf(`{"type":%q,"app":%q,"id":%q,"body":%s}`, k.typ, k.app, id, fmt.Sprintf(bodies[k.typ], openid, template, i)),
			outcome: k.outcome, openid: openid, path: spec.Path, calls: k.calls, delivered: k.delivered,
		}
	}
	return all
}

// TestFourHundredTasks: the built program with three replicas and a real Redis delivers 400
// mixed tasks, while WeChat is busy, resets connections, hangs after accepting, refuses
// messages and revokes the token half-way.
func TestFourHundredTasks(t *testing.T) {
	t.Parallel()
	w := newPatientWorld(t, 3*time.Second) // on a machine with much load an answer may take a second
	if _, err := w.wx.AddFault(sandbox.Fault{ErrCode: 47003, ErrMsg: "argument invalid! data.thing1.value invalid", Template: "BAD"}); err != nil {
		t.Fatal(err)
	}
	all := mixed(400)
	var replicas []*exec.Cmd
	for range 3 {
		replicas = append(replicas, w.start("worker", "--log-level", "debug"))
	}
	w.enqueue(all)
	redistest.Until(t, time.Minute, "100 calls were made", func() bool { return w.wx.Count(sandbox.Filter{}) > 100 })
	w.wx.Revoke(mini)
	w.wx.Revoke(official)

	results := w.results(all, 2*time.Minute)
	for id, want := range all {
		got := results[id]
		if got.Outcome != want.outcome {
			t.Errorf("%s to %s: %s, want %s (%d %s %s)", id, want.openid, got.Outcome, want.outcome, got.ErrCode, got.ErrMsg, got.Reason)
		}
		app := got.App
		tally := w.wx.CallCount(app, want.openid, want.path)
		stale := len(w.wx.Calls(sandbox.Filter{OpenID: want.openid, ErrCodes: []int{40001}})) // resent at once
		if want.calls > 0 && tally.Calls-stale != want.calls {
			t.Errorf("%s to %s: %d calls, want %d", id, want.openid, tally.Calls-stale, want.calls)
		}
		if tally.Delivered > 1 || want.delivered == 1 && tally.Delivered != 1 {
			t.Errorf("%s to %s: delivered %d times, want %d", id, want.openid, tally.Delivered, want.delivered)
		}
	}
	w.permanentFailuresAreCalledOnce()
	for _, replica := range replicas {
		must(t, replica.Process.Signal(syscall.SIGTERM))
	}
	for _, replica := range replicas {
		if err := replica.Wait(); err != nil {
			t.Errorf("a replica ended with %v", err)
		}
	}
	for _, app := range []string{mini, official} {
		if n := w.wx.TokensIssued(app, sandbox.Stable); n > 2 {
			t.Errorf("%s: %d tokens were issued", app, n)
		}
	}
	if d := w.wx.Duplicates(); len(d) > 0 {
		t.Errorf("delivered twice: %+v", d)
	}
	w.nothingLeaks()
}

// TestKilledReplica: a replica is killed with SIGKILL while requests are in flight. Every task
// ends, none is delivered twice, and only tasks in flight may end as unknown.
func TestKilledReplica(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, it waits for lost leases")
	}
	w := newWorld(t)
	w.wx.SetLatency(100 * time.Millisecond)
	all := make(map[string]want)
	for i := range 300 {
		id := fmt.Sprintf("task-%d", i)
		all[id] = want{line: fmt.Sprintf(`{"type":"send:subscribe","app":%q,"id":%q,"body":{"touser":"person-%d","template_id":"T1","data":{"number1":{"value":"%d"}}}}`, mini, id, i, i)}
	}
	victim, survivor := w.start("worker"), w.start("worker")
	w.enqueue(all)
	redistest.Until(t, time.Minute, "calls are under way", func() bool { return w.wx.Count(sandbox.Filter{}) > 80 })
	must(t, victim.Process.Kill())
	_ = victim.Wait()
	counts := make(map[tasks.Outcome]int)
	for id, got := range w.results(all, 4*time.Minute) {
		counts[got.Outcome]++
		if got.Outcome != tasks.OutcomeAccepted && got.Outcome != tasks.OutcomeUnknown {
			t.Errorf("%s: %s %s", id, got.Outcome, got.Reason)
		}
	}
	if counts[tasks.OutcomeUnknown] > 128 {
		t.Errorf("%d tasks are unknown, more than can have been in flight", counts[tasks.OutcomeUnknown])
	}
	if d := w.wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were delivered twice", len(d))
	}
	t.Logf("outcomes after a kill -9: %v", counts)
	must(t, survivor.Process.Signal(syscall.SIGTERM))
	if err := survivor.Wait(); err != nil {
		t.Errorf("the other replica ended with %v", err)
	}
}

// enqueue enqueues all lines with `wxcourier enqueue`.
func (w *world) enqueue(all map[string]want) {
	w.t.Helper()
	var lines bytes.Buffer
	for _, want := range all {
		lines.WriteString(want.line + "\n")
	}
	file := filepath.Join(w.t.TempDir(), "tasks.jsonl")
	must(w.t, os.WriteFile(file, lines.Bytes(), 0o600))
	w.exec("enqueue", file)
}

// results waits until every task has an outcome, and returns them as `results` prints them.
func (w *world) results(all map[string]want, within time.Duration) map[string]tasks.Result {
	w.t.Helper()
	deadline := time.Now().Add(within)
	for {
		ended := make(map[string]tasks.Result)
		for line := range strings.Lines(w.exec("results", "--json")) {
			var r tasks.Result
			must(w.t, json.Unmarshal([]byte(line), &r))
			if first, twice := ended[r.ID]; twice && r.Supersedes == "" {
				w.t.Fatalf("%s has two outcomes: %s and %s", r.ID, first.Outcome, r.Outcome)
			}
			ended[r.ID] = r
		}
		if len(ended) == len(all) {
			return ended
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d of %d tasks have an outcome\n%s", len(ended), len(all), w.exec("status"))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (w *world) permanentFailuresAreCalledOnce() {
	w.t.Helper()
	seen := make(map[string]int)
	for _, call := range w.wx.Calls(sandbox.Filter{ErrCodes: []int{43101, 47003}}) {
		seen[call.OpenID]++
	}
	for openid, n := range seen {
		if n != 1 {
			w.t.Errorf("%s was called %d times after a permanent error", openid, n)
		}
	}
	if len(seen) != 50 {
		w.t.Errorf("%d people got a permanent error, want 50", len(seen))
	}
}

// nothingLeaks checks that results and debug logs hold no secret, token, openid or text.
func (w *world) nothingLeaks() {
	w.t.Helper()
	hidden := []string{miniSecret, officSecret, "A & B", "订单", "你好"}
	for _, app := range []string{mini, official} {
		for _, token := range w.wx.Tokens(app) {
			hidden = append(hidden, token.Value)
		}
	}
	hidden = append(hidden, "openid-of-person")
	lines := bufio.NewScanner(strings.NewReader(w.String()))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, h := range hidden {
			if strings.Contains(lines.Text(), h) {
				w.t.Fatalf("%q was written: %s", h, lines.Text())
			}
		}
	}
	must(w.t, lines.Err())
	for _, call := range w.wx.Calls(sandbox.Filter{}) {
		if call.Escaped {
			w.t.Errorf("%s: a body with \\u escapes: %s", call.Path, call.Body)
		}
	}
}
