package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestKilledEnqueueCanBeRepeated: enqueue is killed half-way through its file and repeated.
// Each line is enqueued once, also equal lines without ids.
func TestKilledEnqueueCanBeRepeated(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	const n = 20_000
	server := redistest.Start(t)
	rdb := server.Client(t)
	path, err := e2e.Binary()
	must(t, err)
	const sender = "wx0123456789abcdef"
	var text strings.Builder
	for i := range n { // every third line is equal to the one before
		fmt.Fprintf(&text, `{"type":"send:subscribe","app":%q,"body":{"touser":"o%d","template_id":"T1","data":{"thing1":{"value":"a"}}}}`+"\n", sender, i-i%3/2)
	}
	file := filepath.Join(t.TempDir(), "tasks.jsonl")
	must(t, os.WriteFile(file, []byte(text.String()), 0o600))
	queue := tasks.QueueName(sender, tasks.TypeSubscribe, tasks.Urgent)
	pending := func() int64 { return rdb.LLen(t.Context(), "asynq:{"+queue+"}:pending").Val() }
	enqueue := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), path, "enqueue", file) //nolint:gosec // our own program
		cmd.Env = []string{"WXCOURIER_REDIS_ADDRS=" + server.Addr(), "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=s"}
		return cmd
	}

	first := enqueue()
	must(t, first.Start())
	redistest.Until(t, 30*time.Second, "500 tasks are enqueued", func() bool { return pending() > 500 })
	_ = first.Process.Kill()
	_ = first.Wait()
	if got := pending(); got >= n {
		t.Fatalf("all %d tasks were enqueued before the kill: the test is inconclusive", got)
	}
	if out, err := enqueue().CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := pending(); got != n {
		t.Errorf("%d tasks of %d lines", got, n)
	}
}
