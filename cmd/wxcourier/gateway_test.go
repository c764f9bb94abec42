package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const gatewayApp = "wx0123456789abcdef"

// keyedGateway is a gateway in a process of its own.
type keyedGateway struct {
	*testing.T
	env  []string
	cmd  *exec.Cmd
	out  e2e.Output
	addr string
}

// newKeyedGateway returns a gateway with keys on a Redis of its own; start starts it.
func newKeyedGateway(t *testing.T, env ...string) *keyedGateway {
	t.Helper()
	server := redistest.Start(t)
	g := &keyedGateway{T: t}
	g.env = append(os.Environ(), "WXCOURIER_REDIS_ADDRS="+server.Addr(), "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=any",
		"WXCOURIER_GATEWAY_LISTEN=127.0.0.1:0", "WXCOURIER_GATEWAY_KEYS_FILE="+filepath.Join(t.TempDir(), "keys"))
	g.env = append(g.env, env...)
	return g
}

// run runs a command to its end.
func (g *keyedGateway) run(args ...string) (stdout, stderr string, status int) {
	g.Helper()
	path, err := e2e.Binary()
	must(g.T, err)
	cmd := exec.CommandContext(g.Context(), path, args...) //nolint:gosec // our own program
	cmd.Env, cmd.Dir = g.env, g.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), exitStatus(err)
}

func exitStatus(err error) int {
	if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // as Run returns it
		return exit.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// key makes a key.
func (g *keyedGateway) key(id string, options ...string) string {
	g.Helper()
	out, errs, status := g.run(append([]string{"key", "new", "--id", id}, options...)...)
	if status != 0 {
		g.Fatalf("key new: %d\n%s", status, errs)
	}
	return strings.TrimSpace(out)
}

// start starts the process and waits until it listens.
func (g *keyedGateway) start() {
	g.Helper()
	path, err := e2e.Binary()
	must(g.T, err)
	g.cmd = exec.CommandContext(context.Background(), path, "gateway", "--log-level", "debug") //nolint:gosec // our own program
	g.cmd.Env, g.cmd.Dir = g.env, g.TempDir()
	g.cmd.Stdout, g.cmd.Stderr = &g.out, &g.out
	must(g.T, g.cmd.Start())
	g.Cleanup(func() { _ = g.cmd.Process.Kill(); _ = g.cmd.Wait() })
	var found []string
	redistest.Until(g.T, time.Minute, "the gateway listens", func() bool {
		found = regexp.MustCompile(`msg=listening addr=(\S+)`).FindStringSubmatch(g.out.String())
		return found != nil
	})
	g.addr = found[1]
}

// do sends a request with a key.
func (g *keyedGateway) do(method, path, key string, body io.Reader, header ...string) (status int, text string) {
	g.Helper()
	r, err := http.NewRequestWithContext(g.Context(), method, "http://"+g.addr+path, body)
	must(g.T, err)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		g.Error(err) // not Fatal: also called by goroutines
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		g.Error(err)
	}
	return response.StatusCode, string(answer)
}

func gatewayTask(id string) string {
	return fmt.Sprintf(`{"type":"send:custom","app":%q,"id":%q,"body":{"touser":"oSecretPerson","msgtype":"text","text":{"content":"x"}}}`+"\n", gatewayApp, id)
}

// TestGatewayRefusesToServeOthersWithoutKeys: a gateway that other machines can reach does not start
// without a key, and says how to make one.
func TestGatewayRefusesToServeOthersWithoutKeys(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	g := newKeyedGateway(t, "WXCOURIER_GATEWAY_LISTEN=0.0.0.0:0")
	for file, want := range map[string]string{
		"":                                 "set gateway.keys_file",
		filepath.Join(t.TempDir(), "none"): "does not exist; `wxcourier key new --id ID` makes it",
		os.DevNull:                         "has none: make one with `wxcourier key new --id ID`",
	} {
		g.env = append(g.env, "WXCOURIER_GATEWAY_KEYS_FILE="+file)
		_, stderr, status := g.run("gateway")
		if status != 2 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "wxcourier key new --id ID") {
			t.Errorf("%q: status %d\n%s\nwant %s", file, status, stderr, want)
		}
	}
}

// TestGatewayProcess: the real program with keys: who may do what, slow clients, revocation, and a
// shutdown under requests. Neither a key nor a value of a request is in its log.
func TestGatewayProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	g := newKeyedGateway(t)
	key, other := g.key("orders"), g.key("other", "--scope", "read")
	g.start()

	for what, tt := range map[string]struct {
		path, key string
		header    []string
		want      int
	}{
		"a task":                     {"/v1/tasks", key, nil, 202},
		"without a key":              {"/v1/tasks", "", nil, 401},
		"a wrong key":                {"/v1/tasks", key + "x", nil, 401},
		"without the scope":          {"/v1/tasks", other, nil, 403},
		"a foreign host":             {"/v1/tasks", key, []string{"Host", "evil.example"}, 403},
		"by another site":            {"/v1/tasks", key, []string{"Origin", "https://evil.example"}, 403},
		"by another site, as it is":  {"/v1/tasks", key, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"with a secret in the query": {"/v1/tasks?secret=" + other, key, nil, 422},
	} {
		if status, text := g.do("POST", tt.path, tt.key, strings.NewReader(gatewayTask("a")), tt.header...); status != tt.want && (what != "a task" || status != 200) {
			t.Errorf("%s: %d %s, want %d", what, status, text, tt.want)
		}
	}
	if _, stderr, status := g.run("healthcheck", "http://"+g.addr+"/readyz"); status != 0 {
		t.Errorf("healthcheck: %d\n%s", status, stderr)
	}
	g.slowClients(key)

	if _, stderr, status := g.run("key", "revoke", "other"); status != 0 {
		t.Errorf("key revoke: %d\n%s", status, stderr)
	}
	redistest.Until(t, 30*time.Second, "the revoked key is refused", func() bool {
		status, _ := g.do("GET", "/v1/tasks/"+gatewayApp+"/a", other, nil)
		return status == 401
	})
	g.shutDown(key)
	for _, hidden := range []string{key, other, key[len(key)-20:], "oSecretPerson", "secret="} {
		if strings.Contains(g.out.String(), hidden) {
			t.Errorf("%q is in the log:\n%s", hidden, g.out.String())
		}
	}
	if !strings.Contains(g.out.String(), `route="POST /v1/tasks"`) {
		t.Errorf("no access log:\n%s", g.out.String())
	}
}

// slowClients opens a hundred connections that send their headers byte by byte. Other requests are
// served meanwhile, and the connections are closed.
func (g *keyedGateway) slowClients(key string) {
	const clients = 100
	start := time.Now()
	var slow sync.WaitGroup
	var mu sync.Mutex
	var last time.Duration
	for range clients {
		conn, err := (&net.Dialer{}).DialContext(g.Context(), "tcp", g.addr)
		must(g.T, err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, "POST /v1/tasks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
		must(g.T, err)
		slow.Go(func() {
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = io.Copy(io.Discard, conn)
			}()
			for {
				select {
				case <-gone:
					mu.Lock()
					defer mu.Unlock()
					last = max(last, time.Since(start))
					return
				case <-time.After(200 * time.Millisecond):
					_, _ = io.WriteString(conn, "x")
				}
			}
		})
	}
	var took []time.Duration
	for i := range 200 {
		begin := time.Now()
		if status, text := g.do("POST", "/v1/tasks", key, strings.NewReader(gatewayTask(fmt.Sprint("slow-", i)))); status != 202 {
			g.Errorf("a request beside slow clients: %d %s", status, text)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	all := make(chan struct{})
	go func() { slow.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(30 * time.Second):
		g.Fatal("slow clients are still connected after 30 s")
	}
	g.Logf("%d slow clients: the last was gone after %v; a request beside them took %v at the median and %v at p99",
		clients, last.Round(time.Millisecond), took[len(took)/2], took[len(took)*99/100])
}

// answered is the answer to a request.
type answered struct {
	status int
	text   string
}

// begin sends a request on a connection of its own, and returns when the gateway has the connection.
func (g *keyedGateway) begin(method, path, key string, body io.Reader) <-chan answered {
	g.Helper()
	sent, answer := make(chan struct{}), make(chan answered, 1)
	trace := &httptrace.ClientTrace{WroteHeaders: func() { close(sent) }}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(g.Context(), trace), method, "http://"+g.addr+path, body)
	must(g.T, err)
	r.Header.Set("Authorization", "Bearer "+key)
	go func() {
		response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err != nil {
			answer <- answered{text: err.Error()}
			return
		}
		defer func() { _ = response.Body.Close() }()
		text, _ := io.ReadAll(response.Body)
		answer <- answered{response.StatusCode, string(text)}
	}()
	<-sent
	conn, err := (&net.Dialer{}).DialContext(g.Context(), "tcp", g.addr) // connections are accepted in their order
	must(g.T, err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
	must(g.T, err)
	_, err = io.ReadAll(conn)
	must(g.T, err)
	return answer
}

// shutDown stops the process while a batch is being sent and a request waits. The wait is answered at
// once, and the batch at its end.
func (g *keyedGateway) shutDown(key string) {
	body, lines := io.Pipe()
	batch := g.begin("POST", "/v1/tasks:batch", key, body)
	_, err := io.WriteString(lines, gatewayTask("first"))
	must(g.T, err)
	wait := g.begin("GET", "/v1/tasks/"+gatewayApp+"/a?wait=60s", key, nil)
	must(g.T, g.cmd.Process.Signal(syscall.SIGTERM))
	if got := <-wait; got.status != 200 || !strings.Contains(got.text, `"waiting"`) {
		g.Errorf("the request that waited: %+v", got)
	}
	redistest.Until(g.T, 20*time.Second, "new connections are refused", func() bool {
		conn, err := (&net.Dialer{}).DialContext(g.Context(), "tcp", g.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	_, err = io.WriteString(lines, gatewayTask("second"))
	must(g.T, err)
	must(g.T, lines.Close())
	if got := <-batch; got.status != 200 || strings.Count(got.text, `"id":`) != 2 {
		g.Errorf("the batch: %+v", got)
	}
	if status := exitStatus(g.cmd.Wait()); status != 0 {
		g.Errorf("status %d\n%s", status, g.out.String())
	}
}
