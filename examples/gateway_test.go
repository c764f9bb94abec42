package examples_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/subprocess"
	"github.com/wxcourier/wxcourier/sandbox"
)

const (
	app    = "wx0123456789abcdef"
	secret = "the-app-secret-0123456789"
	// within bounds one run of an example: a JVM and npm are slow on a busy machine.
	within = 3 * time.Minute
)

// A deployment is a Redis, a stand-in for WeChat, a worker and a gateway with keys, as processes.
type deployment struct {
	t      *testing.T
	wx     *sandbox.Server
	config string
	url    string // of the gateway
}

// deploy starts a Redis and a stand-in for WeChat, and writes the configuration.
func deploy(t *testing.T) *deployment {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	d := &deployment{t: t, wx: sandbox.New(sandbox.Options{Apps: map[string]string{app: secret}})}
	wechat, stop := d.wx.Start()
	t.Cleanup(stop)
	dir := t.TempDir()
	d.config = filepath.Join(dir, "wxcourier.yaml")
	// An empty keys file: the gateway reads the keys that are added later.
	keys := filepath.Join(dir, "keys")
	text := fmt.Sprintf(`
redis: {addrs: [%q]}
wechat: {base_url: %q}
gateway: {listen: "127.0.0.1:0", keys_file: %q}
apps: [{id: %s, secret: %s}]
`, redistest.Start(t).Addr(), wechat, keys, app, secret)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// start starts the gateway and, if asked, a worker.
func (d *deployment) start(worker bool) {
	d.t.Helper()
	if worker {
		d.process("worker", "worker started")
	}
	d.url = "http://" + d.process("gateway", `msg=listening addr=(\S+)`)[1]
}

// process starts a command of the program, and waits until its log matches a pattern.
func (d *deployment) process(command, pattern string) []string {
	d.t.Helper()
	path, err := e2e.Binary()
	if err != nil {
		d.t.Fatal(err)
	}
	// It is stopped at the end, after the test's context has ended.
	p, err := subprocess.Start(context.WithoutCancel(d.t.Context()), subprocess.Command{Name: command, Path: path, Args: []string{command, "-c", d.config}, Env: os.Environ()})
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		if d.t.Failed() {
			d.t.Logf("%s:\n%s", command, p.Output())
		}
		if err := p.Stop(); err != nil {
			d.t.Errorf("%s: %v", command, err)
		}
	})
	ctx, cancel := context.WithTimeout(d.t.Context(), within)
	defer cancel()
	found, err := p.WaitForOutput(ctx, regexp.MustCompile(pattern))
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", command, err, p.Output())
	}
	return found
}

// newKey adds a key with scopes to the keys file, as an operator does.
func (d *deployment) newKey(id, scopes string) string {
	d.t.Helper()
	path, err := e2e.Binary()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.CommandContext(d.t.Context(), path, "key", "new", "-c", d.config, "--id", id, "--app", app, "--scope", scopes) //nolint:gosec // our own program
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	key, err := cmd.Output()
	if err != nil {
		d.t.Fatalf("key new: %v\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(key))
}

// An example is the command line of one, and how to find out whether it can run here.
type example struct {
	name    string
	command []string // without its arguments
	probe   []string // exits with 0 where the command can run
}

func producers() []example {
	return []example{
		{"Python", []string{"python3", "http/producer.py"}, []string{"python3", "-c", "import json, urllib.request"}},
		{"Java", []string{"java", "-XX:TieredStopAtLevel=1", "http/Producer.java"}, []string{"javac", "--release", "17", "-version"}},
		{"PHP", []string{"php", "http/producer.php"}, []string{"php", "-r", `exit(extension_loaded("curl") ? 0 : 1);`}},
		{"Node", []string{"node", "http/producer.mjs"}, []string{"node", "-e", "process.exit(typeof fetch === 'function' ? 0 : 1)"}},
		{"curl", []string{"sh", "http/producer.sh"}, []string{"curl", "--retry-all-errors", "--version"}},
	}
}

// skipWithout skips the test where an interpreter is missing or too old.
func skipWithout(t *testing.T, probe []string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), probe[0], probe[1:]...).CombinedOutput(); err != nil { //nolint:gosec // the test's own arguments
		t.Skipf("skipped: %s is not installed, or cannot run the example: %v %s", probe[0], err, bytes.TrimSpace(out))
	}
}

// output is what a run of an example printed.
type output struct {
	status         int
	stdout, stderr string
}

// run runs a command to its end, with a gateway and a key in the environment.
func run(t *testing.T, gateway, key, dir string, command ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // the test's own arguments
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	cmd.Env = append(os.Environ(), "GATEWAY_URL="+gateway, "GATEWAY_KEY="+key, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	t.Logf("%s: status %d\n%s%s", command, cmd.ProcessState.ExitCode(), &stdout, &stderr)
	if strings.Contains(stdout.String()+stderr.String(), key) {
		t.Error("the key was printed")
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// faultyFront is a proxy in front of a gateway. It refuses the first request that enqueues with
// 503, and passes on the second one, whose answer it loses. The others it passes on.
func faultyFront(t *testing.T, gateway string) (front string, posts *atomic.Int64) {
	t.Helper()
	target, err := url.Parse(gateway)
	if err != nil {
		t.Fatal(err)
	}
	posts = &atomic.Int64{}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy.ModifyResponse = func(answer *http.Response) error {
		if answer.Request.Method == http.MethodPost && posts.Load() == 2 {
			return errors.New("lost")
		}
		return nil
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_ = conn.Close()
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && posts.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, posts
}

// TestProducers runs each example against a gateway with keys. One answer is 503, and one is lost: the
// examples repeat the task, and one message arrives. A refusal of the gateway is printed.
func TestProducers(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	key := d.newKey("shop", "enqueue,read")
	d.start(true)
	for _, e := range producers() {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			skipWithout(t, e.probe)
			openid, order := "o"+e.name, strings.ToLower(e.name)+"-42"
			front, posts := faultyFront(t, d.url)
			want := "order-" + order + "-shipped accepted ok\n"
			if got := run(t, front, key, "", append(e.command, app, openid, order)...); got.status != 0 || got.stdout != want {
				t.Errorf("%+v, want %q", got, want)
			}
			if n := posts.Load(); n < 3 {
				t.Errorf("the task was posted %d times", n)
			}
			if n := d.wx.Count(sandbox.Filter{OpenID: openid, Delivered: true}); n != 1 {
				t.Errorf("%d messages arrived", n)
			}
			if got := run(t, d.url, key, "", append(e.command, app, "", order+"-b")...); got.status != 1 || got.stdout != "" || !strings.Contains(got.stderr, "body.touser") {
				t.Errorf("without a receiver: %+v", got)
			}
		})
	}
}

// TestSDKs runs public SDKs against the paths of WeChat of a gateway. They get the answers of
// WeChat, and their one key is all that they know.
func TestSDKs(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	skipWithout(t, []string{"npm", "--version"})
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("sdk")); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "no-key-yet", dir, "npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts"); got.status != 0 {
		t.Skipf("skipped: npm cannot install the SDKs: %s", got.stderr)
	}
	key := d.newKey("sdk", "call")
	d.start(false)
	for name, want := range map[string]string{
		"co-wechat-api":   `^message 0 ok\ncode written to code.jpg\n$`,
		"node-easywechat": `^check pass\nlink weixin://dl/business/\S+\n$`,
	} {
		got := run(t, d.url, key, dir, "node", name+".mjs", app, "oReader")
		if got.status != 0 || !regexp.MustCompile(want).MatchString(got.stdout) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if n := d.wx.Count(sandbox.Filter{Path: "/cgi-bin/token"}) + d.wx.Count(sandbox.Filter{Path: "/cgi-bin/stable_token"}); n != 1 {
		t.Errorf("%d tokens were requested from WeChat", n)
	}
	image, err := os.ReadFile(filepath.Join(dir, "code.jpg")) //nolint:gosec // in a folder of this test
	if err != nil || http.DetectContentType(image) != "image/jpeg" {
		t.Errorf("code.jpg: %v, %s", err, http.DetectContentType(image))
	}
}
