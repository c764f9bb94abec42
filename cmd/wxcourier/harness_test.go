package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	testApp = "wx0123456789abcdef"
	secret  = "the-app-secret-0123456789"
	openid  = "oPerson"
)

// commandResult is the exit status and the output of a command.
type commandResult struct {
	status         int
	stdout, stderr string
}

// command runs the program in this process to its end. It fails the test when the output holds
// the secret or the openid.
func command(t *testing.T, env []string, stdin string, args ...string) commandResult {
	t.Helper()
	return commandUntil(t.Context(), t, env, stdin, args...)
}

func commandUntil(ctx context.Context, t *testing.T, env []string, stdin string, args ...string) commandResult {
	t.Helper()
	var stdout, stderr buffer
	m := Main{Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr, Env: env}
	status := m.Run(ctx, args)
	r := commandResult{status, stdout.String(), stderr.String()}
	for _, hidden := range []string{secret, openid} {
		if strings.Contains(r.stdout+r.stderr, hidden) {
			t.Errorf("%q was printed:\n%s%s", hidden, r.stdout, r.stderr)
		}
	}
	return r
}

// background runs the program in a goroutine; stop ends it as the first signal does, and returns
// its exit status.
func background(t *testing.T, env []string, args ...string) (stdout, stderr *buffer, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, stderr = &buffer{}, &buffer{}
	done := make(chan int, 1)
	go func() {
		m := Main{Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr, Env: env}
		done <- m.Run(ctx, args)
	}()
	stop = sync.OnceValue(func() int { cancel(); return <-done })
	t.Cleanup(func() { stop() })
	return stdout, stderr, stop
}

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// results decodes the lines of standard output, by id.
func (r commandResult) results(t *testing.T) map[string]tasks.Result {
	t.Helper()
	all := make(map[string]tasks.Result)
	d := json.NewDecoder(strings.NewReader(r.stdout))
	for {
		var result tasks.Result
		if err := d.Decode(&result); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("standard output is not JSON Lines: %v\n%s", err, r.stdout)
		}
		if _, twice := all[result.ID]; twice {
			t.Errorf("task %s was printed twice", result.ID)
		}
		all[result.ID] = result
	}
}

// mentions checks that text contains each of the wanted texts.
func mentions(t *testing.T, where, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not contain %q:\n%s", where, want, text)
		}
	}
}

// line is the JSON line of a send:subscribe task to a receiver.
func line(id, to string) string {
	return `{"type":"send:subscribe","app":"` + testApp + `","id":"` + id + `","body":{"touser":"` + to +
		`","template_id":"T1","data":{"thing1":{"value":"订单 & 发货"}}}}` + "\n"
}

func writeTasks(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tasks.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newEnv starts a Redis and a sandbox, and returns the environment that points to them.
func newEnv(t *testing.T) (env []string, wx *sandbox.Server) {
	t.Helper()
	mini, _ := redistest.Mini(t)
	return newEnvOn(t, mini.Addr())
}

func newEnvOn(t *testing.T, redisAddr string) (env []string, wx *sandbox.Server) {
	t.Helper()
	env, wx, _ = newEnvToStop(t, redisAddr)
	return env, wx
}

// newEnvToStop is newEnvOn with a function that stops the sandbox, which ends its hanging calls.
func newEnvToStop(t *testing.T, redisAddr string) (env []string, wx *sandbox.Server, stop func()) {
	t.Helper()
	wx = sandbox.New(sandbox.Options{Apps: map[string]string{testApp: secret}})
	url, stop := wx.Start()
	t.Cleanup(stop)
	return []string{
		"WXCOURIER_REDIS_ADDRS=" + redisAddr, "WXCOURIER_WECHAT_BASE_URL=" + url,
		"WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + secret,
	}, wx, stop
}
