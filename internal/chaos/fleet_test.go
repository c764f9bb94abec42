package chaos

import (
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// A fault is an injected fault with its time span. Tasks in flight during it may end as unknown.
type fault struct {
	what     string
	from, to time.Time
	replica  string // the killed replica; "": another fault
}

// faults is the list of all injected faults.
type faults struct {
	mu  sync.Mutex
	all []fault // guarded by mu
}

func (f *faults) add(one fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, one)
}

func (f *faults) list() []fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]fault(nil), f.all...)
}

// replica is a process of the built program.
type replica struct {
	cmd  *exec.Cmd
	log  e2e.Output
	done chan struct{} // closed when the process has exited
	err  error         // of Wait; set before done is closed
}

// id returns the replica's id from its log; "" before it has started.
func (r *replica) id() string {
	if found := regexp.MustCompile(`worker started" replica=(\w+)`).FindStringSubmatch(r.log.String()); found != nil {
		return found[1]
	}
	return ""
}

func (w *world) replica(args ...string) *replica {
	w.t.Helper()
	r := &replica{cmd: w.command(append([]string{"worker"}, args...)...), done: make(chan struct{})}
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	must(w.t, r.cmd.Start())
	go func() {
		r.err = r.cmd.Wait()
		close(r.done)
	}()
	w.t.Cleanup(func() { _ = r.cmd.Process.Kill(); <-r.done })
	return r
}

// fleet keeps a number of replicas running, and restarts those that exit by themselves, as an
// orchestrator does. It is not safe for concurrent use.
type fleet struct {
	w       *world
	args    []string   // of the command worker
	running []*replica // oldest first
	gone    []*replica
}

func (w *world) fleet(n int, args ...string) *fleet {
	w.t.Helper()
	f := &fleet{w: w, args: args}
	for range n {
		f.running = append(f.running, w.replica(args...))
	}
	return f
}

// kill kills the oldest replica with SIGKILL and starts a new one.
func (f *fleet) kill() {
	f.w.t.Helper()
	victim := f.running[0]
	at := time.Now()
	_ = victim.cmd.Process.Kill()
	<-victim.done
	f.w.faults.add(fault{what: "kill -9 of a replica", from: at, to: time.Now(), replica: victim.id()})
	f.replace(0)
}

// roll stops the oldest replica with SIGTERM and starts a new one.
func (f *fleet) roll() {
	f.w.t.Helper()
	oldest := f.running[0]
	f.end(oldest)
	f.replace(0)
}

func (f *fleet) end(r *replica) {
	f.w.t.Helper()
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(30 * time.Second):
		f.w.t.Fatalf("a replica does not exit\n%s", r.log.String())
	}
	if r.err != nil {
		f.w.t.Errorf("a replica exited with %v\n%s", r.err, tail(r.log.String()))
	}
}

// restartEnded restarts replicas that exited by themselves. That is allowed only at their start, when
// Redis is unreachable.
func (f *fleet) restartEnded() {
	f.w.t.Helper()
	for i, r := range f.running {
		select {
		case <-r.done:
			if r.id() != "" || !strings.Contains(r.log.String(), "Redis") {
				f.w.t.Fatalf("a replica exited by itself: %v\n%s", r.err, tail(r.log.String()))
			}
			f.replace(i)
		default:
		}
	}
}

func (f *fleet) replace(i int) {
	f.gone = append(f.gone, f.running[i])
	f.running = append(append(f.running[:i:i], f.running[i+1:]...), f.w.replica(f.args...))
}

// stop stops all replicas with SIGTERM.
func (f *fleet) stop() {
	f.w.t.Helper()
	for _, r := range f.running {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, r := range f.running {
		f.end(r)
	}
}

// logs returns the output of each replica so far.
func (f *fleet) logs() (all []string) {
	for _, r := range append(append([]*replica(nil), f.gone...), f.running...) {
		all = append(all, r.log.String())
	}
	return all
}

// ready waits until every replica is ready.
func (f *fleet) ready() {
	f.w.t.Helper()
	for _, r := range f.running {
		redistest.Until(f.w.t, 30*time.Second, "the replica is ready", func() bool { return r.probe(f.w.t.Context()) == http.StatusOK })
	}
}

// logsAreClean checks that no replica panicked or wrote a secret, a token, an openid or a text.
func (f *fleet) logsAreClean() {
	f.w.t.Helper()
	forbidden := []string{"panic", "goroutine ", secret, openidPrefix, textPrefix}
	for _, app := range []string{mini, official, third} {
		for _, token := range f.w.wx.Tokens(app) {
			forbidden = append(forbidden, token.Value)
		}
	}
	for _, log := range f.logs() {
		for line := range strings.Lines(log) {
			for _, word := range forbidden {
				if strings.Contains(line, word) {
					f.w.t.Errorf("a replica wrote %q: %s", word, line)
				}
			}
		}
	}
}

func tail(text string) string { return text[max(0, len(text)-4000):] }
