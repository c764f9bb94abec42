package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// restartedGateway is the built program as a gateway, which a test kills and starts again.
type restartedGateway struct {
	*testing.T
	addr   string
	env    []string
	output e2e.Output

	cmd *exec.Cmd
}

// startRestartedGateway starts a gateway on a Redis, at an address that its restarts keep.
func startRestartedGateway(t *testing.T, redisAddr string) *restartedGateway {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	g := &restartedGateway{T: t, addr: listener.Addr().String(), env: []string{
		"WXCOURIER_REDIS_ADDRS=" + redisAddr, "WXCOURIER_APPS_" + strings.ToUpper(mini) + "_SECRET=" + miniSecret,
	}}
	must(t, listener.Close())
	g.start()
	return g
}

func (g *restartedGateway) start() {
	g.Helper()
	path, err := e2e.Binary()
	must(g.T, err)
	g.cmd = exec.CommandContext(context.Background(), path, "gateway", "--listen", g.addr) //nolint:gosec // our own program
	g.cmd.Env, g.cmd.Stdout, g.cmd.Stderr = g.env, &g.output, &g.output
	must(g.T, g.cmd.Start())
	process := g.cmd.Process
	g.Cleanup(func() { _ = process.Kill() })
	redistest.Until(g.T, time.Minute, "the gateway listens", func() bool {
		conn, err := (&net.Dialer{}).DialContext(g.Context(), "tcp", g.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// stop ends the process with a signal and returns its exit status.
func (g *restartedGateway) stop(signal os.Signal) int {
	g.Helper()
	must(g.T, g.cmd.Process.Signal(signal))
	_ = g.cmd.Wait()
	return g.cmd.ProcessState.ExitCode()
}

// post sends a body and returns the status of the answer; 0 without one.
func (g *restartedGateway) post(path, body string) (status int) {
	r, err := http.NewRequestWithContext(g.Context(), http.MethodPost, "http://"+g.addr+path, strings.NewReader(body))
	if err != nil {
		g.Error(err)
		return 0
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return 0
	}
	return response.StatusCode
}

func customTask(id string) string {
	return fmt.Sprintf(`{"type":"send:custom","app":%q,"id":%q,"body":{"touser":"oSecretPerson","msgtype":"text","text":{"content":"to-a-person"}}}`, mini, id)
}

// TestKilledGateway: a gateway is killed twice while clients enqueue, each of which repeats a
// request until it is answered. No task is lost or doubled. At a SIGTERM a request that waits is
// answered.
func TestKilledGateway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	g := startRestartedGateway(t, server.Addr())
	const clients, each = 8, 100
	var answered, repeated atomic.Int64
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for n := range each {
				for status := 0; status != http.StatusAccepted && status != http.StatusOK; repeated.Add(1) {
					if status = g.post("/v1/tasks", customTask(fmt.Sprintf("t-%d-%d", c, n))); status == 0 {
						time.Sleep(5 * time.Millisecond) // between a client's attempts while the gateway is down
					}
				}
				answered.Add(1)
			}
		})
	}
	all.Go(func() { // one client sends it all as a batch
		var lines bytes.Buffer
		for n := range clients * each {
			lines.WriteString(customTask(fmt.Sprintf("b-%d", n)) + "\n")
		}
		for status := 0; status != http.StatusOK; {
			if status = g.post("/v1/tasks:batch?results=faults", lines.String()); status == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	for kill := range int64(2) {
		redistest.Until(t, time.Minute, "tasks are enqueued", func() bool { return answered.Load() >= (kill+1)*clients*each/4 })
		g.stop(os.Kill)
		g.start()
	}
	all.Wait()
	if repeated.Load() <= clients*each {
		t.Error("no request was repeated: the test is inconclusive")
	}
	queue := tasks.QueueName(mini, tasks.TypeCustom, tasks.Urgent)
	ids := rdb.LRange(t.Context(), "asynq:{"+queue+"}:pending", 0, -1).Val()
	slices.Sort(ids)
	if total := len(ids); total != 2*clients*each || len(slices.Compact(ids)) != total {
		t.Errorf("%d tasks, %d different ones, of %d", total, len(slices.Compact(ids)), 2*clients*each)
	}

	waited := make(chan int, 1)
	go func() {
		waited <- g.post("/v1/tasks?wait=60s", customTask("waits"))
	}()
	redistest.Until(t, time.Minute, "the task that is waited for is enqueued", func() bool {
		return rdb.LLen(t.Context(), "asynq:{"+queue+"}:pending").Val() == 2*clients*each+1
	})
	if status := g.stop(os.Interrupt); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if status := <-waited; status != http.StatusAccepted {
		t.Errorf("the request that waited: %d", status)
	}
	for _, hidden := range []string{"oSecretPerson", "to-a-person", "wait=60s", miniSecret} {
		if strings.Contains(g.output.String(), hidden) {
			t.Errorf("%s is in the log:\n%s", hidden, g.output.String())
		}
	}
}
