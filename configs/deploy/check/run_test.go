package check

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/subprocess"
)

const (
	app      = "wx0123456789abcdef"
	password = "the-password-of-redis"
	within   = time.Minute
)

// machine is a folder that stands for the root of a container or machine. Its files have the paths
// of the deployment with the folder before them, and its ports are free ones.
type machine struct {
	dir   string
	ports map[string]string // of the deployment → here
	redis string            // its address in the deployment
}

func newMachine(t *testing.T, redis, redisAddr string) machine {
	t.Helper()
	return machine{t.TempDir(), map[string]string{"9090": freePort(t), "8080": freePort(t), redis: redisAddr}, redis}
}

// translate replaces the deployment's paths, ports and address of Redis by those of this machine.
func (m machine) translate(text string) string {
	pairs := []string{m.redis, m.ports[m.redis], "9090", m.ports["9090"], "8080", m.ports["8080"]}
	for _, folder := range []string{"/etc/wxcourier", "/run/secrets", "/run/keys", "/run/credentials"} {
		pairs = append(pairs, folder, m.dir+folder)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// put writes a file of the deployment.
func (m machine) put(t *testing.T, path, text string) {
	t.Helper()
	write(t, m.dir, path, m.translate(text))
}

// service is a command of the deployment and the request by which it is found ready.
type service struct {
	args, env []string
	healthURL string
	ready     func() // called when it is ready; nil: nothing
}

// start starts a command of the deployment, waits until it is ready, reloads it and stops it.
func (m machine) start(t *testing.T, s service) {
	t.Helper()
	program := binary(t)
	env := append(os.Environ(), "WXCOURIER_WECHAT_BASE_URL=http://127.0.0.1:9") // a closed port: no call reaches WeChat
	for _, entry := range s.env {
		env = append(env, m.translate(entry))
	}
	args := make([]string, len(s.args))
	for i, arg := range s.args {
		args[i] = m.translate(arg)
	}
	p, err := subprocess.Start(t.Context(), subprocess.Command{Path: program, Args: args, Env: env, Dir: m.dir})
	if err != nil {
		t.Fatal(err)
	}
	health := m.translate(s.healthURL)
	waitFor(t, "ready: "+strings.Join(s.args, " "), func() bool {
		select {
		case <-p.Done():
			t.Fatalf("%s: %v\n%s", strings.Join(s.args, " "), p.ExitError(), p.Output())
		default:
		}
		_, err := run(t, nil, program, "healthcheck", health)
		return err == nil
	})
	if s.ready != nil {
		s.ready()
	}
	if err := syscall.Kill(p.PID(), syscall.SIGHUP); err != nil { // as ExecReload does
		t.Error(err)
	}
	if _, err := run(t, nil, program, "healthcheck", health); err != nil {
		t.Errorf("not ready after a reload: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(s.args, " "), err, p.Output())
	}
}

// binaryDir makes the folder of the program, once.
var binaryDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "wxcourier-deploy") })

// build builds the program as the main module does, with the versions of its go.mod, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := binaryDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "wxcourier")
	out, err := exec.CommandContext(context.Background(), "go", "-C", root, "build", "-o", path, "./cmd/wxcourier").CombinedOutput() //nolint:gosec // our own program
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// loadConfig loads a configuration of the deployment with the files that it names.
func (m machine) loadConfig(t *testing.T, path string, env ...string) configs.Config {
	t.Helper()
	cfg, err := configs.Load(filepath.Join(m.dir, path), env)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// addKey makes a key of the gateway, as docs/deploy.md says.
func (m machine) addKey(t *testing.T, path string) {
	t.Helper()
	write(t, m.dir, filepath.Dir(path)+"/.keep", "")
	out, err := run(t, []string{"WXCOURIER_GATEWAY_KEYS_FILE=" + m.dir + path}, binary(t), "key", "new", "--id", "orders")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// startRedis starts a Redis with the password of the deployments.
func startRedis(t *testing.T) (addr string) {
	t.Helper()
	server := tool(t, "redis-server")
	port := freePort(t)
	p, err := subprocess.Start(t.Context(), subprocess.Command{Path: server, Dir: t.TempDir(), Args: []string{
		"--port", port, "--bind", "127.0.0.1", "--requirepass", password, "--save", "",
	}})
	if err != nil {
		t.Fatal(err)
	}
	stopLater(t, p)
	addr = "127.0.0.1:" + port
	waitForPort(t, p, addr)
	return addr
}

func stopLater(t *testing.T, p *subprocess.Process) {
	t.Helper()
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Logf("%v\n%s", err, p.Output())
		}
	})
}

func waitForPort(t *testing.T, p *subprocess.Process, addr string) {
	t.Helper()
	var dialer net.Dialer
	redistest.Until(t, within, "a server at "+addr, func() bool {
		select {
		case <-p.Done():
			t.Fatalf("%v\n%s", p.ExitError(), p.Output())
		default:
		}
		c, err := dialer.DialContext(t.Context(), "tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
