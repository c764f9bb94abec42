package main_test

import (
	"bytes"
	"fmt"
	"net/http"
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
)

// inSandbox posts to the control API of the sandbox.
func (w *world) inSandbox(path, body string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(body))
	must(w.t, err)
	response, err := http.DefaultClient.Do(request)
	must(w.t, err)
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %s", path, body, response.Status)
	}
}

// try runs the built program to its end and returns its exit status and standard output.
func (w *world) try(args ...string) (status int, stdout string) {
	w.t.Helper()
	path, err := e2e.Binary()
	must(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), path, append([]string{args[0], "--config", w.config}, args[1:]...)...) //nolint:gosec // the test's own arguments
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, w
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String()
}

// statusWith returns the first output of status that contains a text.
func (w *world) statusWith(text string) (status string) {
	w.t.Helper()
	redistest.Until(w.t, 30*time.Second, "status shows "+text, func() bool {
		status = w.exec("status")
		return strings.Contains(status, text)
	})
	return status
}

func (w *world) says(where, text string, wanted ...string) {
	w.t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			w.t.Errorf("%s does not contain %q:\n%s", where, want, text)
		}
	}
}

// TestTheSecretIsChangedAtNight: the app's secret is reset at WeChat while messages flow, and the
// tokens are revoked. One look at status names the cause and the remedy, and check agrees. Ten
// seconds after a restart with the right secret messages flow, although the next probe is far.
func TestTheSecretIsChangedAtNight(t *testing.T) {
	t.Parallel()
	const changed = "changed-secret-4e8b21"
	w := newWorld(t)
	night := w.start("worker")
	w.enqueueNumbers("before", 200)
	redistest.Until(t, 30*time.Second, "messages flow", func() bool { return w.wx.Count(sandbox.Filter{App: mini, Delivered: true}) == 200 })

	w.inSandbox("/sandbox/secret", fmt.Sprintf(`{"app":%q,"secret":%q}`, mini, changed))
	w.inSandbox("/sandbox/revoke", fmt.Sprintf(`{"app":%q}`, mini))
	w.enqueueNumbers("after", 500)
	const next = "next probe"
	w.says("status", w.statusWith(next), "all types", "app config", "40125", next, "the app secret is wrong or was reset", "the workers take over a changed configuration")
	if n := w.wx.Count(sandbox.Filter{App: mini, ErrCodes: []int{40001}}); n < 1 || n > 64 {
		t.Errorf("%d calls were made with the refused token; 64 can have been in flight", n)
	}
	// Later in the night the probes are far apart.
	rdb := w.redis.Client(t)
	must(t, rdb.HSet(t.Context(), "wxcourier:{"+mini+"}:hold:*", "until", time.Now().Add(25*time.Minute).UnixMilli()).Err())

	status, found := w.try("check")
	if status != 1 {
		t.Errorf("check exits with %d while the secret is wrong and the app is held", status)
	}
	w.says("check", found, "FAIL  app "+mini+": no token", "40125", "FAIL  app "+mini+": held", next, "ok    app "+official)

	config, err := os.ReadFile(w.config)
	must(t, err)
	must(t, os.WriteFile(w.config, bytes.Replace(config, []byte(miniSecret), []byte(changed), 1), 0o600)) //nolint:gosec // a file of the test
	status, found = w.try("check")
	if status != 1 {
		t.Errorf("check exits with %d while the app is held", status)
	}
	w.says("check", found, "ok    app "+mini+": WeChat gave a token", "FAIL  app "+mini+": held", "the workers take over a changed configuration")

	must(t, night.Process.Signal(syscall.SIGTERM))
	if err := night.Wait(); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	mended := time.Now()
	morning := w.start("worker")
	redistest.Until(t, 10*time.Second, "messages flow", func() bool { return w.wx.Count(sandbox.Filter{App: mini, Delivered: true}) > 250 })
	t.Logf("messages flow %v after the restart", time.Since(mended).Round(time.Millisecond))
	redistest.Until(t, 30*time.Second, "all messages are delivered", func() bool { return w.wx.Count(sandbox.Filter{App: mini, Delivered: true}) == 700 })
	// The same from the network's side: an IP that is not on the list, put there, and released.
	w.inSandbox("/sandbox/ip", fmt.Sprintf(`{"app":%q,"blocked":true}`, mini))
	w.inSandbox("/sandbox/revoke", fmt.Sprintf(`{"app":%q}`, mini))
	w.enqueueNumbers("again", 200)
	w.says("status", w.statusWith("40164"), "IP whitelist", "wxcourier release --app "+mini)
	w.inSandbox("/sandbox/ip", fmt.Sprintf(`{"app":%q,"blocked":false}`, mini))
	w.exec("release", "--app", mini)
	redistest.Until(t, 10*time.Second, "messages flow", func() bool { return w.wx.Count(sandbox.Filter{App: mini, Delivered: true}) == 900 })
	if status, found = w.try("check"); status != 0 {
		t.Errorf("check exits with %d in the end:\n%s", status, found)
	}
	must(t, morning.Process.Signal(syscall.SIGTERM))
	_ = morning.Wait()
	for _, hidden := range []string{changed, miniSecret} {
		if strings.Contains(w.String(), hidden) {
			t.Error("a secret was written")
		}
	}
}

// enqueueNumbers enqueues n messages for the mini program.
func (w *world) enqueueNumbers(name string, n int) {
	w.t.Helper()
	var lines bytes.Buffer
	for i := range n {
		fmt.Fprintf(&lines, `{"type":"send:subscribe","app":%q,"id":"%s-%d","body":{"touser":"%[2]s-%[3]d","template_id":"T1","data":{"number1":{"value":"%[3]d"}}}}`+"\n", mini, name, i)
	}
	file := filepath.Join(w.t.TempDir(), "tasks.jsonl")
	must(w.t, os.WriteFile(file, lines.Bytes(), 0o600))
	w.exec("enqueue", file)
}
