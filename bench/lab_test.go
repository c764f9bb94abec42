package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// A lab's configuration file loads.
func TestLabConfigLoads(t *testing.T) {
	limits := map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: 1000, Concurrency: 7}}
	s := labConfig{apps: 3, margin: 0.02, limits: limits}
	path := filepath.Join(t.TempDir(), "wxcourier.yaml")
	if err := os.WriteFile(path, []byte(s.yaml("127.0.0.1:6379", "http://127.0.0.1:80")), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := configs.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Apps) != 3 || cfg.Apps[2].ID != appID(2) || cfg.Pace.Margin != 0.02 || cfg.Apps[1].Limits[tasks.TypeScheme] != limits[tasks.TypeScheme] {
		t.Errorf("loaded %+v, %+v", cfg.Pace, cfg.Apps)
	}
}

// The proxy keeps the order of the data.
func TestProxyKeepsOrder(t *testing.T) {
	echo, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = echo.Close() }()
	go func() {
		conn, err := echo.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	}()
	p, err := startProxy(t.Context(), echo.Addr().String(), 0, 2*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("0123456789", 500)
	go func() {
		for i := 0; i < len(want); i += 50 {
			_, _ = io.WriteString(conn, want[i:i+50])
		}
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("the echoed data differs from the data sent")
	}
	_ = conn.Close()
}

// parseBench reads Go's benchmark format.
func TestParseBench(t *testing.T) {
	lines := parseBench([]byte("goos: linux\nBenchmarkPermits/1000/s×8-2 \t 1\t 10 ns/op\t 0.034 commands/permit\t 97.9 %used\nPASS\n"))
	if len(lines) != 1 || lines[0].name != "1000/s×8" || lines[0].figures["%used"] != 97.9 || lines[0].figures["commands/permit"] != 0.034 {
		t.Errorf("read as %+v", lines)
	}
}

// There is a body of each type for the case crowd, and half of its apps are held as a whole.
func TestCrowd(t *testing.T) {
	b := &bench{module: ".."}
	bodies, err := b.examples()
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range tasks.Catalog() {
		if len(bodies[spec.Type]) == 0 {
			t.Errorf("no body of %s", spec.Type)
		}
	}
	whole := 0
	for n := range crowdApps {
		switch scopes := heldScopes(n); {
		case len(scopes) == 1 && scopes[0] == hold.WholeApp:
			whole++
		case len(scopes) != len(tasks.Catalog()):
			t.Errorf("app %d: held scopes %v", n, scopes)
		}
	}
	if 2*whole != crowdApps {
		t.Errorf("%d of %d apps are held as a whole", whole, crowdApps)
	}
}
