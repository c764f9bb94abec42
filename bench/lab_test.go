package main

import (
	"bytes"
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

// A figure that misses its target is bold in Markdown, and listed in JSON.
func TestTableShowsMisses(t *testing.T) {
	table := &table{name: "x", title: "X", about: "About.", head: []string{"case", "share", "over"}}
	table.add("good", percent(0.98).atLeast(97.5), whole(0).atMost(0))
	table.add("bad", percent(0.97).atLeast(97.5), whole(2).atMost(0))
	if n := table.missed(); n != 2 {
		t.Errorf("%d missed, want 2", n)
	}
	var text, lines bytes.Buffer
	if err := table.markdown(&text); err != nil {
		t.Fatal(err)
	}
	if err := table.json(&lines); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| good | 98.0 % | 0 |", "| bad | **97.0 %** | **2** |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if want := `{"case":"bad","missed":["share","over"],"over":2,"share":97}`; !strings.Contains(lines.String(), want) {
		t.Errorf("no %s in\n%s", want, &lines)
	}
}

// The status of a running process, and of one that has exited, which has no VmHWM.
func TestParseVmHWM(t *testing.T) {
	if n, err := parseVmHWM("Name:\twxcourier\nVmPeak:\t 1300000 kB\nVmHWM:\t   45056 kB\nVmRSS:\t   40000 kB\n"); n != 45056<<10 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := parseVmHWM("Name:\twxcourier\nState:\tZ (zombie)\n"); err == nil {
		t.Errorf("%d bytes from a status without VmHWM", n)
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

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 100_000: "100,000", 1_002_003: "1,002,003"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) is %s, want %s", n, got, want)
		}
	}
}
