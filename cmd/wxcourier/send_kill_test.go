package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// TestKilledSend: send is killed with SIGKILL half-way through its table, while a worker delivers,
// and repeated. Each person gets one message. SEND_ROWS sets the size of the table.
func TestKilledSend(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	rows := 6000
	if text := os.Getenv("SEND_ROWS"); text != "" {
		var err error
		rows, err = strconv.Atoi(text)
		must(t, err)
	}
	server, dir := redistest.Start(t), t.TempDir()
	wx := sandbox.New(sandbox.Options{Apps: map[string]string{mini: miniSecret}, NoLimits: true})
	url, stop := wx.Start()
	t.Cleanup(stop)
	env := []string{"WXCOURIER_REDIS_ADDRS=" + server.Addr(), "WXCOURIER_WECHAT_BASE_URL=" + url, "WXCOURIER_APPS_" + strings.ToUpper(mini) + "_SECRET=" + miniSecret}
	var table strings.Builder
	table.WriteString("openid,姓名,券\n")
	for i := range rows {
		fmt.Fprintf(&table, "person-%09d,王小明,SF%09d\n", i, i)
	}
	must(t, os.WriteFile(filepath.Join(dir, "people.csv"), []byte(table.String()), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "message.yaml"), []byte("body:\n  touser: '{{openid}}'\n  template_id: T1\n  data:\n    thing1: {value: '{{姓名}}'}\n    character_string2: {value: '{{券}}'}\n"), 0o600))
	path, err := e2e.Binary()
	must(t, err)
	program := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path, args...) //nolint:gosec // our own program
		cmd.Dir, cmd.Env = dir, env
		return cmd
	}
	args := []string{"send", "--app", mini, "--type", "send:subscribe", "--batch", "spring", "--table", "people.csv", "--template", "message.yaml", "--yes", "--report", "report.csv"}
	worker := program("worker")
	must(t, worker.Start())
	t.Cleanup(func() { _ = worker.Process.Kill(); _ = worker.Wait() })

	rdb := server.Client(t)
	sent := func() int64 {
		return rdb.StrLen(t.Context(), "wxcourier:{"+mini+"}:batch:spring:campaign:sent").Val() / 8
	}
	first := program(args...)
	must(t, first.Start())
	redistest.Until(t, time.Minute, "some rows are enqueued", func() bool { return sent() >= int64(rows)/4 })
	_ = first.Process.Kill()
	_ = first.Wait()
	t.Logf("killed after %d rows", sent())
	started := time.Now()
	out, err := program(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("continued in %v\n%s", time.Since(started), out)
	if n := wx.Count(sandbox.Filter{Delivered: true, Path: "/cgi-bin/message/subscribe/send"}); n != rows || len(wx.Duplicates()) > 0 {
		t.Errorf("%d messages for %d rows, twice: %v", n, rows, wx.Duplicates())
	}
	report, err := os.ReadFile(filepath.Join(dir, "report.csv")) //nolint:gosec // the test's own file
	must(t, err)
	if n := strings.Count(string(report), ",done,accepted,0,"); n != rows {
		t.Errorf("%d rows of the report are accepted", n)
	}
	if strings.Contains(string(out), "person-") {
		t.Errorf("an openid was printed:\n%s", out)
	}
}
