package chaos

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// The apps, each on another node of a cluster, and their common secret.
const (
	mini     = "wx00000000000000a1"
	official = "wx00000000000000b2"
	third    = "wx00000000000000c3"
	secret   = "the-secret-of-all-apps"
)

// Timeouts of the program and latency of WeChat. They are short, so that dead runs are soon detected.
const (
	callTimeout    = 2 * time.Second
	attemptTimeout = 3 * time.Second
	latency        = 250 * time.Millisecond
)

// seed of the sandbox's random faults.
const seed = 20260101

func TestMain(m *testing.M) {
	redis.SetLogger(discardLogger{})
	log.SetOutput(io.Discard) // asynqmon logs each task that a button did not affect
	os.Exit(e2e.Run(m))
}

// discardLogger discards go-redis' log: its errors are returned from each call.
type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

// world is a sandbox, a Redis client, and a configuration that points to both.
type world struct {
	t      *testing.T
	wx     *sandbox.Server
	redis  configs.Redis
	rdb    redis.UniversalClient
	client *tasks.Client
	config string // path of the configuration file
	tries  int    // attempts after which a task ends as failed
	faults faults
}

// settings configures a world.
type settings struct {
	redis    configs.Redis
	tasks    int
	limits   map[string]int // calls per second, by type
	latency  time.Duration  // of WeChat; 0: latency
	shutdown time.Duration  // shutdown_timeout; 0: 10 s
	attempts int            // before a task ends as failed; 0: the default, which no task reaches
}

// size returns the number of tasks of a test: usually, or CHAOS_TASKS / share if that is more.
func size(t *testing.T, usually, share int) int {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short, it waits for lost leases")
	}
	text := os.Getenv("CHAOS_TASKS")
	if text == "" {
		return usually
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CHAOS_TASKS=%s is not a number of tasks", text)
	}
	return max(usually, n/share)
}

func newWorld(t *testing.T, s settings) *world {
	t.Helper()
	w := &world{t: t, redis: s.redis, tries: s.attempts}
	if s.latency == 0 {
		s.latency = latency
	}
	if s.shutdown == 0 {
		s.shutdown = 10 * time.Second
	}
	w.wx = sandbox.New(sandbox.Options{
		Apps: map[string]string{mini: secret, official: secret, third: secret},
		Seed: seed, Latency: s.latency, KeepCalls: 4*s.tasks + 1000,
	})
	url, stop := w.wx.Start()
	t.Cleanup(stop)
	w.rdb = s.redis.NewClient()
	t.Cleanup(func() { _ = w.rdb.Close() })
	w.client = tasks.NewClient(w.rdb)
	var limits []string
	for typ, n := range s.limits {
		limits = append(limits, fmt.Sprintf("%q: {per_second: %d}", typ, n))
	}
	text := fmt.Sprintf("redis: {addrs: [\"%s\"], master_name: %q}\nwechat: {base_url: %q, timeout: %v, attempt_timeout: %v}\nworker: {shutdown_timeout: %v, attempts: %d}\napps:\n",
		strings.Join(s.redis.Addrs, `", "`), s.redis.MasterName, url, callTimeout, attemptTimeout, s.shutdown, cmp.Or(s.attempts, worker.DefaultConfig().Attempts))
	for _, app := range []string{mini, official, third} {
		text += fmt.Sprintf("  - {id: %s, secret: %s, limits: {%s}}\n", app, secret, strings.Join(limits, ", "))
	}
	w.config = filepath.Join(t.TempDir(), "wxcourier.yaml")
	must(t, os.WriteFile(w.config, []byte(text), 0o600))
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command returns a command of the built program, not yet started.
func (w *world) command(args ...string) *exec.Cmd {
	w.t.Helper()
	path, err := e2e.Binary()
	must(w.t, err)
	return exec.CommandContext(context.Background(), path, append([]string{args[0], "--config", w.config}, args[1:]...)...) //nolint:gosec // the test's own arguments
}

// output runs the built program to its end and returns its standard output.
func (w *world) output(args ...string) string {
	w.t.Helper()
	var stdout, stderr e2e.Output
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("%v: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// enqueue enqueues a file with the enqueue command. It repeats a command that failed, as a producer
// should: tasks are not enqueued twice.
func (w *world) enqueue(file string) {
	for n := range 20 {
		var stderr e2e.Output
		cmd := w.command("enqueue", file)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil {
			return
		}
		w.t.Logf("enqueue failed, repeated (%d): %s", n+1, firstLine(stderr.String()))
		time.Sleep(500 * time.Millisecond) // as a supervisor's restart takes
	}
	w.t.Error("the tasks could not be enqueued") // no FailNow: it may run in another goroutine
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// sends returns the number of calls so far, without those for tokens.
func (w *world) sends() (n int) {
	for _, c := range w.wx.Counts() {
		if !strings.Contains(c.Path, "token") {
			n += c.Calls
		}
	}
	return n
}
