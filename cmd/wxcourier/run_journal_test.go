package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// newEnvWithoutRedis starts a sandbox and returns an environment that names no Redis.
func newEnvWithoutRedis(t *testing.T) (env []string, wx *sandbox.Server) {
	t.Helper()
	wx = sandbox.New(sandbox.Options{Apps: map[string]string{testApp: secret}})
	url, stop := wx.Start()
	t.Cleanup(stop)
	t.Chdir(t.TempDir())
	return []string{"WXCOURIER_WECHAT_BASE_URL=" + url, "WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + secret}, wx
}

func lines(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(line("t"+strconv.Itoa(i), openid+strconv.Itoa(i)))
	}
	return text.String()
}

func templateLine(id, to string) string {
	return strings.Replace(line(id, to), tasks.TypeSubscribe, tasks.TypeTemplate, 1)
}

// journalLines counts the lines of a journal by kind (sending, returned, result) and by id. It
// fails the test when the journal holds the openid, the secret or a text.
func journalLines(t *testing.T, path string) map[string]map[string]int {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // the test's own file
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{openid, secret, "订单"} {
		if strings.Contains(string(text), hidden) {
			t.Errorf("%q is in the journal", hidden)
		}
	}
	all := make(map[string]map[string]int)
	for l := range strings.Lines(string(text)) {
		var parts map[string]struct{ ID string }
		if json.Unmarshal([]byte(l), &parts) != nil {
			continue // the header, or an incomplete line
		}
		for what, part := range parts {
			if all[what] == nil {
				all[what] = make(map[string]int)
			}
			all[what][part.ID]++
		}
	}
	return all
}

func TestRepeatedRunWithJournal(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	text := lines(20) + line("no", "unsubscribed-"+openid) + `{"type":"scheme:generate","app":"` + testApp + `","body":{"jump_wxa":{"path":"pages/index/index"}}}` + "\n"
	first := command(t, env, text, "run", "--journal", "j", "-")
	second := command(t, env, text+line("new", openid+"new"), "run", "--journal", "j", "-")
	if first.status != statusDone || second.status != statusDone {
		t.Fatalf("%d %s\n%d %s", first.status, first.stderr, second.status, second.stderr)
	}
	before, after := first.results(t), second.results(t)
	if len(before) != 22 || len(after) != 23 {
		t.Errorf("%d results, and then %d", len(before), len(after))
	}
	for id, r := range before {
		if !reflect.DeepEqual(after[id], r) {
			t.Errorf("%s: first %+v, then %+v", id, r, after[id])
		}
	}
	mentions(t, "the second run", second.stderr, "22 tasks with an outcome", "22 lines already ended according to the journal")
	if n := wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 22 {
		t.Errorf("%d messages were sent", n)
	}
	if n := wx.Count(sandbox.Filter{Path: "/wxa/generatescheme"}); n != 1 {
		t.Errorf("%d links were made", n)
	}
	got := journalLines(t, "j")
	if len(got["sending"]) != 22 || len(got["result"]) != 23 || got["result"]["t0"] != 1 {
		t.Errorf("%d sendings, %d results", len(got["sending"]), len(got["result"]))
	}
}

func TestRequestsWithoutAnAnswer(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	now := time.Now()
	sending := func(id, typ string, ago time.Duration) string {
		return fmt.Sprintf(`{"sending":{"app":%q,"id":%q,"type":%q,"attempt":1,"since":%q}}`+"\n", testApp, id, typ, now.Add(-ago).Format(time.RFC3339Nano))
	}
	text := `{"wxcourier_journal":1}` + "\n" +
		sending("message", tasks.TypeSubscribe, time.Second) +
		sending("recent", tasks.TypeTemplate, 5*time.Minute) +
		sending("old", tasks.TypeTemplate, 11*time.Minute) +
		sending("refused", tasks.TypeSubscribe, time.Second) + `{"returned":{"app":"` + testApp + `","id":"refused"}}` + "\n" +
		sending("elsewhere", tasks.TypeSubscribe, time.Second) + // in another file
		`{"sending":{"app":"` + testApp // and one that was never acknowledged
	if err := os.WriteFile("j", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got := command(t, env, line("message", openid+"1")+templateLine("recent", openid+"2")+templateLine("old", openid+"3")+line("refused", openid+"4")+line("fresh", openid+"5"),
		"run", "--journal", "j", "-")
	if got.status != statusFailed {
		t.Errorf("status %d", got.status)
	}
	mentions(t, "standard error", got.stderr, "j: warning: the last line is incomplete", "4 requests without an answer", "2 tasks may or may not have reached WeChat")
	results := got.results(t)
	for id, want := range map[string]struct {
		outcome  tasks.Outcome
		attempts int
		calls    int
	}{
		"message": {tasks.OutcomeUnknown, 1, 0}, "recent": {tasks.OutcomeAccepted, 2, 1}, "old": {tasks.OutcomeUnknown, 1, 0},
		"refused": {tasks.OutcomeAccepted, 1, 1}, "fresh": {tasks.OutcomeAccepted, 1, 1},
	} {
		if r := results[id]; r.Outcome != want.outcome || r.Attempts != want.attempts {
			t.Errorf("%s: %+v", id, r)
		}
	}
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 3 {
		t.Errorf("%d messages", n)
	}
	again := command(t, env, line("message", openid+"1")+line("elsewhere", openid+"6"), "run", "--journal", "j", "-")
	if r := again.results(t); r["message"] != results["message"] || r["elsewhere"].Outcome != tasks.OutcomeUnknown {
		t.Errorf("%+v", r)
	}
}

func TestInterruptedRunContinues(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// a ends, b waits for a retry, and c for tomorrow.
	text := line("a", openid) + line("b", "busy-"+openid+"b") + strings.Replace(line("c", openid+"c"), `"body"`, `"process_at":"`+time.Now().Add(24*time.Hour).Format(time.RFC3339)+`","body"`, 1)
	var stdout, stderr buffer
	m := Main{Stdin: strings.NewReader(text), Stdout: &stdout, Stderr: &stderr, Env: env}
	done := make(chan int, 1)
	go func() { done <- m.Run(ctx, []string{"run", "--journal", "j", "-"}) }()
	redistest.Until(t, 20*time.Second, "one result, and one refusal", func() bool {
		return strings.Contains(stdout.String(), `"id":"a"`) && wx.Count(sandbox.Filter{ErrCodes: []int{-1}}) == 1
	})
	cancel()
	if status := <-done; status != statusFailed {
		t.Errorf("status %d", status)
	}
	mentions(t, "the message", stderr.String(), "interrupted", "2 tasks without an outcome", "repeat the command to continue")

	got := command(t, env, line("a", openid)+line("b", openid+"b")+line("c", openid+"c"), "run", "--journal", "j", "--strict", "-")
	if got.status != statusDone || len(got.results(t)) != 3 {
		t.Errorf("%+v", got)
	}
	if d := wx.Duplicates(); len(d) > 0 || wx.Count(sandbox.Filter{Delivered: true}) != 3 {
		t.Errorf("%d sent twice, %d sent", len(d), wx.Count(sandbox.Filter{Delivered: true}))
	}
}

func TestRefusedJournals(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	open, err := journal.Open("open")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	for name, text := range map[string]string{
		"tasks":     line("a", openid),
		"rehearsal": `{"wxcourier_journal":1,"sandbox":true}` + "\n",
		"broken":    `{"wxcourier_journal":1}` + "\n" + `{"sending":}` + "\n" + `{"returned":{"app":"x","id":"a"}}` + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		status int
		says   string
	}{
		"open":      {statusFailed, "another run has this journal open"},
		"tasks":     {statusUsage, "its first line is not"},
		"rehearsal": {statusUsage, "belongs to a rehearsal"},
		"broken":    {statusFailed, "line 2 is broken"},
		".":         {statusFailed, "directory"},
	} {
		got := command(t, env, line("a", openid), "run", "--journal", name, "-")
		if got.status != want.status || got.stdout != "" {
			t.Errorf("%s: %+v", name, got)
		}
		mentions(t, name, got.stderr, want.says)
	}
	if n := wx.Count(sandbox.Filter{}); n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestSandboxRunWithJournal(t *testing.T) {
	t.Chdir(t.TempDir())
	code := `{"type":"code:unlimited","app":"` + testApp + `","id":"code","body":{"scene":"a=1"}}` + "\n"
	text := line("a", openid) + code
	first := command(t, nil, text, "run", "--sandbox", "--journal", "j", "--images", "codes", "-")
	second := command(t, nil, text, "run", "--sandbox", "--journal", "j", "--images", "codes", "-")
	if first.status != statusDone || second.status != statusDone || first.results(t)["code"] != second.results(t)["code"] {
		t.Fatalf("%+v\n%+v", first, second)
	}
	images, err := filepath.Glob("codes/" + testApp + "-code.*")
	if err != nil || len(images) != 1 {
		t.Fatalf("%v, %v", images, err)
	}
	// The journal keeps no image.
	if err := os.Remove(images[0]); err != nil {
		t.Fatal(err)
	}
	third := command(t, nil, text, "run", "--sandbox", "--journal", "j", "--images", "codes", "-")
	if third.status != statusFailed || len(third.results(t)) != 2 {
		t.Errorf("%+v", third)
	}
	mentions(t, "the message", third.stderr, "the image of task code is not in codes")
}

// A code whose image could not be written is made again by the next run.
func TestImageWriteError(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	code := `{"type":"code:unlimited","app":"` + testApp + `","id":"code","body":{"scene":"a=1"}}` + "\n"
	for _, name := range []string{".png", ".jpg"} { // a folder in place of the file
		if err := os.MkdirAll("codes/"+testApp+"-code"+name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first := command(t, env, code, "run", "--journal", "j", "--images", "codes", "-")
	if first.status != statusFailed || len(first.results(t)) != 1 {
		t.Errorf("%+v", first)
	}
	if err := os.RemoveAll("codes"); err != nil {
		t.Fatal(err)
	}
	second := command(t, env, code, "run", "--journal", "j", "--images", "codes", "-")
	if images, _ := filepath.Glob("codes/*"); second.status != statusDone || len(images) != 1 {
		t.Errorf("%+v", second)
	}
	if n := wx.Count(sandbox.Filter{Path: "/wxa/getwxacodeunlimit"}); n != 2 {
		t.Errorf("%d calls", n)
	}
}

func TestJournalMustNotBeStandardOutput(t *testing.T) {
	env, wx := newEnvWithoutRedis(t)
	file, err := os.Create("j")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var stderr buffer
	m := Main{Stdin: strings.NewReader(line("a", openid)), Stdout: file, Stderr: &stderr, Env: env}
	if status := m.Run(t.Context(), []string{"run", "--journal", "j", "-"}); status != statusUsage || wx.Count(sandbox.Filter{}) != 0 {
		t.Errorf("status %d\n%s", status, &stderr)
	}
	mentions(t, "the message", stderr.String(), "use a separate file")
}
