package chaos

import (
	"context"
	"net/http"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// probe returns the status of a replica's /readyz; 0 when it does not listen.
func (r *replica) probe(ctx context.Context) int {
	found := regexp.MustCompile(`msg=listening addr=(\S+)`).FindStringSubmatch(r.log.String())
	if found == nil {
		return 0
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+found[1]+"/readyz", nil)
	if err != nil {
		return 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestRollingRestart: three replicas are replaced one after the other with SIGTERM while they send.
// Each reports that it is not ready, finishes its tasks in flight and exits with status 0. No task
// is duplicated or unknown.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	n := size(t, 300, 10)
	server := redistest.Start(t, "--appendonly", "yes")
	w := newWorld(t, settings{
		redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: n, limits: limitsFor(n, sendSeconds(n, 50)), latency: time.Second,
	})
	all, file := w.mixed(n)
	replicas := make([]*replica, 3)
	for i := range replicas {
		replicas[i] = w.replica("--listen", "127.0.0.1:0")
	}
	w.enqueue(file)
	redistest.Until(t, time.Minute, "calls are under way", func() bool { return w.sends() > n/10 })
	for i, old := range replicas {
		redistest.Until(t, 30*time.Second, "the replica is ready", func() bool { return old.probe(t.Context()) == http.StatusOK })
		called := w.sends()
		replicas[i] = w.replica("--listen", "127.0.0.1:0")
		redistest.Until(t, 30*time.Second, "the new replica is ready", func() bool { return replicas[i].probe(t.Context()) == http.StatusOK })
		redistest.Until(t, 30*time.Second, "sending goes on", func() bool { return w.sends() > called })
		old.shutDown(t)
	}
	if w.ended() >= int64(n) {
		t.Error("all was sent before the last replica was replaced: the test is inconclusive")
	}
	f := &fleet{w: w, running: replicas}
	w.settle(f, n, 3*time.Minute)
	f.stop()
	a := w.audit(all)
	a.noDuplicates()
	if a.counts[tasks.OutcomeUnknown] > 0 || a.counts[tasks.OutcomeAccepted] != n {
		t.Errorf("outcomes %v", a.counts)
	}
}

// shutDown stops a replica with SIGTERM, and checks that it is not ready from then on and exits
// without an error.
func (r *replica) shutDown(t *testing.T) {
	t.Helper()
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	unready := false
	for {
		select {
		case <-r.done:
			if r.err != nil {
				t.Errorf("it exited with %v\n%s", r.err, tail(r.log.String()))
			}
			if !unready {
				t.Error("it exited without reporting that it is not ready")
			}
			return
		default:
		}
		switch code := r.probe(t.Context()); {
		case code == http.StatusServiceUnavailable:
			unready = true
		case code == http.StatusOK && unready:
			t.Error("ready again after it was not ready")
		}
	}
}

// TestShutdownWhileRedisHangs: a replica that gets SIGTERM while Redis does not answer exits with
// status 1 after worker.shutdown_timeout. Another replica ends its tasks in flight, each once.
func TestShutdownWhileRedisHangs(t *testing.T) {
	t.Parallel()
	n := size(t, 40, 1000)
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	const shutdown = 4 * time.Second
	w := newWorld(t, settings{
		redis: configs.Redis{Addrs: []string{server.Addr()}}, tasks: n, limits: limitsFor(n, 4), latency: 500 * time.Millisecond, shutdown: shutdown,
	})
	all, file := w.mixed(n)
	w.enqueue(file)
	fleet := w.fleet(1)
	redistest.Until(t, time.Minute, "calls are under way", func() bool { return w.sends() > n/4 })
	thaw := server.Freeze()
	from := time.Now()
	hung := fleet.running[0]
	must(t, hung.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-hung.done:
		if took := time.Since(from); took < shutdown/2 {
			t.Errorf("it exited after %v, without waiting for its tasks in flight", took)
		} else {
			t.Logf("it exited after %v", took.Round(10*time.Millisecond))
		}
		if code := hung.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("status %d\n%s", code, tail(hung.log.String()))
		}
	case <-time.After(3 * shutdown):
		t.Errorf("it does not exit\n%s", tail(hung.log.String()))
	}
	thaw()
	w.faults.add(fault{what: "a replica exited while Redis hung", from: from, to: time.Now(), replica: hung.id()})
	fleet.replace(0)
	w.settle(fleet, n, 5*time.Minute)
	fleet.stop()
	a := w.audit(all)
	a.noDuplicates()
	a.unknownsWereInFlight()
}
