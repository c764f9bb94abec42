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

// probe is what a replica's /readyz answers: 0 when nobody listens.
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

// TestRollingRestart: three replicas are replaced one after the other by SIGTERM, while
// they send. Each says that it is not ready before it goes, finishes what it has in hand
// and ends with status 0. Nothing is doubled, and nothing is unknown.
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
		t.Error("all was sent before the last replica was replaced: this test shows nothing")
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

// shutDown ends a replica by SIGTERM: it is not ready from then on, and ends in order.
func (r *replica) shutDown(t *testing.T) {
	t.Helper()
	must(t, r.cmd.Process.Signal(syscall.SIGTERM))
	said503 := false
	for {
		select {
		case <-r.done:
			if r.err != nil {
				t.Errorf("it ended with %v\n%s", r.err, tail(r.log.String()))
			}
			if !said503 {
				t.Error("it ended without having said that it is not ready")
			}
			return
		default:
		}
		switch code := r.probe(t.Context()); {
		case code == http.StatusServiceUnavailable:
			said503 = true
		case code == http.StatusOK && said503:
			t.Error("ready again after it was not")
		}
	}
}

// TestShutdownWhileRedisHangs: a replica that is asked to stop while Redis says nothing
// ends all the same, with status 1, when worker.shutdown_timeout is up. What it had in
// hand ends once, by another replica.
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
			t.Errorf("it ended after %v: it cannot have waited for what it had in hand", took)
		} else {
			t.Logf("it ended after %v", took.Round(10*time.Millisecond))
		}
		if code := hung.cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("status %d\n%s", code, tail(hung.log.String()))
		}
	case <-time.After(3 * shutdown):
		t.Errorf("it does not end\n%s", tail(hung.log.String()))
	}
	thaw()
	w.faults.add(fault{what: "a replica ended while Redis hung", from: from, to: time.Now(), replica: hung.id()})
	fleet.replace(0)
	w.settle(fleet, n, 5*time.Minute)
	fleet.stop()
	a := w.audit(all)
	a.noDuplicates()
	a.unknownsWereInFlight()
}
