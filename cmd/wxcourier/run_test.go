package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/app/filerun"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestSandboxRunOfEveryType(t *testing.T) {
	t.Chdir(t.TempDir())
	var text strings.Builder
	var want []string
	for _, spec := range tasks.Catalog() {
		id := strings.ReplaceAll(spec.Type, ":", "-")
		e := tasks.Envelope{Type: spec.Type, App: testApp, ID: id, Body: json.RawMessage(spec.Example)}
		payload, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(payload, '\n'))
		want = append(want, id)
	}
	got := command(t, nil, text.String(), "run", "--sandbox", "--images", "codes", "-")
	if got.status != statusDone {
		t.Fatalf("status %d\n%s", got.status, got.stderr)
	}
	results := got.results(t)
	for _, id := range want {
		outcome := tasks.OutcomeAccepted
		if id == "send-uniform" { // WeChat has retired it
			outcome = tasks.OutcomeRejected
		}
		if r := results[id]; r.Outcome != outcome || r.Attempts != 1 {
			t.Errorf("%s: %+v", id, r)
		}
	}
	mentions(t, "the summary", got.stderr, "send:uniform", "accepted", "rejected", "15 tasks in", "warning: WeChat retired uniform_send")
	images, err := os.ReadDir("codes")
	if err != nil || len(images) != 3 {
		t.Fatalf("%d images, %v", len(images), err)
	}
	for _, image := range images {
		content, err := os.ReadFile(filepath.Join("codes", image.Name()))
		if err != nil || tasks.ImageType(content) == "" || !strings.HasPrefix(image.Name(), testApp+"-code-") {
			t.Errorf("%s: %q, %v", image.Name(), tasks.ImageType(content), err)
		}
	}
}

func TestBadLinesAreReportedAndSkipped(t *testing.T) {
	t.Chdir(t.TempDir())
	text := line("good-1", openid) + // 1
		"\n" + // 2
		"{not json\n" + // 3
		strings.Replace(line("x", openid), "send:subscribe", "send:subscibe", 1) + // 4
		strings.Replace(line("x", openid), `"app"`, `"appp"`, 1) + // 5
		line("good-1", openid) + // 6: again
		strings.Replace(line("late", openid), `"body"`, `"not_after":"2020-01-01T00:00:00Z","body"`, 1) + // 7
		`{"type":"seccheck:text","app":"` + testApp + `","body":{"content":"` + strings.Repeat("x", 5<<20) + `"}}` + "\n" + // 8
		strings.Replace(line("x", openid), testApp, "wx0123456789abcdeg", 1) + // 9
		"\x00\xff\x80\n" + // 10
		line("unsub", "unsubscribed-"+openid) + // 11
		line("good-2", openid) // 12
	file := writeTasks(t, text)
	got := command(t, nil, "", "run", "--sandbox", file)
	if got.status != statusFailed {
		t.Errorf("status %d", got.status)
	}
	results := got.results(t)
	want := map[string]tasks.Outcome{"good-1": "accepted", "good-2": "accepted", "late": "expired", "unsub": "refused"}
	for id, outcome := range want {
		if results[id].Outcome != outcome {
			t.Errorf("%s: %+v", id, results[id])
		}
	}
	if len(results) != len(want) {
		t.Errorf("%d results", len(results))
	}
	for _, n := range []int{3, 4, 5, 8, 9, 10} {
		mentions(t, "standard error", got.stderr, file+":"+strconv.Itoa(n)+": ")
	}
	mentions(t, "standard error", got.stderr, file+":6: already enqueued", `send:subscribe`, `did you mean "app"`, "6 lines skipped as invalid", "1 line already enqueued by an earlier line", "6 lines could not be sent")
	if strings.Contains(got.stderr, file+":2:") || strings.Contains(got.stderr, file+":12:") {
		t.Errorf("good or blank lines are reported:\n%s", got.stderr)
	}
}

func TestEmptyAndBinaryFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := command(t, nil, "", "run", "--sandbox", writeTasks(t, "")); got.status != statusDone || got.stdout != "" {
		t.Errorf("an empty file: %+v", got)
	}
	binary := bytes.Repeat([]byte("\x89PNG\r\n\x1a\n\x00\x01"), 50)
	if got := command(t, nil, "", "run", "--sandbox", writeTasks(t, string(binary))); got.status != statusFailed || got.stdout != "" {
		t.Errorf("a binary file: status %d, %q", got.status, got.stdout)
	}
}

func TestStrict(t *testing.T) {
	t.Chdir(t.TempDir())
	text := line("a", "unsubscribed-"+openid) + line("b", openid)
	if got := command(t, nil, text, "run", "--sandbox", "--quiet", "-"); got.status != statusDone || got.stderr != "" {
		t.Errorf("without: status %d, %s", got.status, got.stderr)
	}
	got := command(t, nil, text, "run", "--sandbox", "--quiet", "--strict", "-")
	if got.status != statusFailed || len(got.results(t)) != 2 {
		t.Errorf("with: %+v", got)
	}
	mentions(t, "the message", got.stderr, "1 task not accepted")
}

func TestUnknownOutcomeFails(t *testing.T) {
	t.Chdir(t.TempDir())
	got := command(t, nil, line("a", "lost-"+openid), "run", "--sandbox", "-")
	if got.status != statusFailed || got.results(t)["a"].Outcome != tasks.OutcomeUnknown {
		t.Errorf("%+v", got)
	}
	mentions(t, "the message", got.stderr, "1 task may or may not have reached WeChat")
}

func TestSandboxRunServesConfiguredApps(t *testing.T) {
	t.Chdir(t.TempDir())
	env := []string{"WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + secret, "WXCOURIER_REDIS_ADDRS=127.0.0.1:1"}
	other := strings.Replace(line("b", openid), testApp, "wxfedcba9876543210", 1)
	got := command(t, env, line("a", openid)+other, "run", "--sandbox", "-")
	if got.status != statusFailed || len(got.results(t)) != 1 {
		t.Errorf("%+v", got)
	}
	mentions(t, "the message", got.stderr, "stdin:2: app: wxfedcba9876543210 is not configured")
}

func TestSandboxRunWithManyApps(t *testing.T) {
	t.Chdir(t.TempDir())
	var text strings.Builder
	for i := range 60 {
		one := "wx" + strings.Repeat("0", 14) + strconv.Itoa(10+i%20)
		text.WriteString(strings.Replace(line("t"+strconv.Itoa(i), openid+strconv.Itoa(i)), testApp, one, 1))
	}
	got := command(t, nil, text.String(), "run", "--sandbox", "--strict", "-")
	if got.status != statusDone || len(got.results(t)) != 60 {
		t.Errorf("status %d, %d results\n%s", got.status, len(got.results(t)), got.stderr)
	}
}

func TestRepeatedRunSendsNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	env, wx := newEnv(t)
	anonymous := strings.Replace(line("x", "oC"), `"id":"x",`, "", 1)
	text := line("a", "oA") + line("b", "unsubscribed-oB") + anonymous
	first := command(t, env, text, "run", "-")
	second := command(t, env, text, "run", "-")
	for name, got := range map[string]commandResult{"first": first, "second": second} {
		if got.status != statusDone || len(got.results(t)) != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	mentions(t, "the second summary", second.stderr, "3 lines already enqueued before this run")
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 3 {
		t.Errorf("%d calls", n)
	}
	if r := second.results(t)["b"]; r.Outcome != tasks.OutcomeRefused || r.ErrCode != 43101 {
		t.Errorf("%+v", r)
	}
}

func TestRunReportsTasksDeliveredByOthers(t *testing.T) {
	t.Chdir(t.TempDir())
	server := redistest.Start(t)
	env, wx := newEnvOn(t, server.Addr())
	_, stderr, stop := background(t, env, "worker", "--listen", "127.0.0.1:0")
	redistest.Until(t, 10*time.Second, "the worker listens", func() bool { return strings.Contains(stderr.String(), "listening") })
	var text strings.Builder
	for i := range 300 {
		text.WriteString(line("t"+strconv.Itoa(i), "o"+strconv.Itoa(i)))
	}
	got := command(t, env, text.String(), "run", "--strict", "-")
	if got.status != statusDone || len(got.results(t)) != 300 {
		t.Errorf("status %d, %d results\n%s", got.status, len(got.results(t)), got.stderr)
	}
	if d := wx.Duplicates(); len(d) > 0 {
		t.Errorf("%d messages were sent twice", len(d))
	}
	if status := stop(); status != statusDone {
		t.Errorf("the worker exits with %d\n%s", status, stderr)
	}
}

func TestInterruptedRun(t *testing.T) {
	t.Chdir(t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	input, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = input.Close() }()
	// The first message is accepted, the second waits for a retry, and the input stays open.
	if _, err := feed.WriteString(line("a", openid) + line("b", "busy9-"+openid)); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr buffer
	m := Main{Stdin: input, Stdout: &stdout, Stderr: &stderr}
	done := make(chan int, 1)
	go func() { done <- m.Run(ctx, []string{"run", "--sandbox", "-"}) }()
	redistest.Until(t, 20*time.Second, "the first result", func() bool { return strings.Contains(stdout.String(), `"id":"a"`) })
	cancel()
	status := <-done
	_ = feed.Close()
	if status != statusFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, "the message", stderr.String(), "interrupted", "1 task without an outcome", "1 task in")
}

// fullWriter is an output on which every write fails.
type fullWriter struct{}

var errFull = errors.New("no space left")

func (fullWriter) Write([]byte) (int, error) { return 0, errFull }

func TestOutputWriteError(t *testing.T) {
	t.Chdir(t.TempDir())
	var stderr buffer
	m := Main{Stdin: strings.NewReader(line("a", openid)), Stdout: fullWriter{}, Stderr: &stderr}
	if status := m.Run(t.Context(), []string{"run", "--sandbox", "-"}); status != statusFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, "the message", stderr.String(), "write the results: no space left")
}

func TestResultsHaveNoNeedlessEscapes(t *testing.T) {
	t.Chdir(t.TempDir())
	got := command(t, nil, `{"type":"scheme:generate","app":"`+testApp+`","id":"a","body":{"jump_wxa":{"path":"pages/index/index","query":"a=1&b=2"}}}`, "run", "--sandbox", "-")
	if got.status != statusDone || strings.Contains(got.stdout, `\u00`) || !strings.Contains(got.stdout, `"openlink":"weixin://`) {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(strings.SplitAfter(got.stdout, "\n")[1:], []string{""}) {
		t.Errorf("more than one line: %q", got.stdout)
	}
}

// TestRunNamesAllProblems: the error names what keeps a run from success, and --strict adds the tasks
// that were not accepted.
func TestRunNamesAllProblems(t *testing.T) {
	var results summary.Summary
	for _, outcome := range []tasks.Outcome{tasks.OutcomeAccepted, tasks.OutcomeRefused, tasks.OutcomeFailed, tasks.OutcomeUnknown, tasks.OutcomeUnknown} {
		results.Add(tasks.Result{Type: tasks.TypeSubscribe, Outcome: outcome})
	}
	r := &filerun.Report{
		Lines: ingest.Counts{Lines: 9, Bad: 1}, Results: results, Unfinished: 1200, Lost: 1, ImageErrors: 2, Unjournaled: 3, Interrupted: true,
	}
	for name, tt := range map[string]struct {
		command runCommand
		want    string
	}{
		"journal": {runCommand{Journal: "j"}, "1,200 tasks without an outcome, not sent, or waiting for a retry: repeat the command to continue"},
		"sandbox": {runCommand{Sandbox: true}, "1,200 tasks without an outcome, lost with the Redis inside this process"},
		"strict":  {runCommand{Strict: true}, "1 task not accepted (--strict); 1,200 tasks without an outcome, still in Redis: workers deliver them, or repeat the command"},
	} {
		want := "interrupted; 1 line could not be sent; 1 task failed; 2 tasks may or may not have reached WeChat; 1 task lost from Redis; 2 images not written; " +
			"3 results not in the journal: keep standard output, since the same command sends these tasks again where that is harmless and reports the others as unknown; " + tt.want
		if err := tt.command.problems(r); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
	}
	if err := (&runCommand{}).problems(&filerun.Report{}); err != nil {
		t.Errorf("a run without problems: %v", err)
	}
}

func TestStatusLineAndStalls(t *testing.T) {
	now := filerun.Progress{Ended: 1200, Rate: 12.4, HasRate: true, Outcomes: map[tasks.Outcome]int{tasks.OutcomeAccepted: 1199, tasks.OutcomeRefused: 1}, Stopping: true}
	if got, want := progressText(now, 5000), "finishing the tasks in flight … 1,200 of 5,000 tasks · 12/s · 1,199 accepted · 1 refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := progressText(filerun.Progress{}, 0); got != "0 tasks" {
		t.Errorf("%q", got)
	}
	stall := filerun.Stall{For: 15200 * time.Millisecond, Unfinished: 1}
	if got, want := stallText(stall), "no result for 15s; 1 task unfinished; waiting for process_at, for a retry or for a limit"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	stall.Held = []string{"a", "b"}
	if got, want := stallText(stall), "no result for 15s; 1 task unfinished; held: a; b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
