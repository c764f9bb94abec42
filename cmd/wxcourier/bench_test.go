package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestBench runs the real program against a Redis given by --redis.
func TestBench(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: its last phase takes ten seconds")
	}
	t.Parallel()
	server := redistest.Start(t)
	path, err := e2e.Binary()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), path, "bench", "--json", "--tasks", "200", "--latency", "1ms", "--limit", "100", "--redis", server.Addr()) //nolint:gosec // the test's own arguments
	cmd.Dir = t.TempDir()
	var stderr e2e.Output
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var report struct {
		Limit int `json:"limit_per_second"`
		Redis struct{ Kind, Address string }
		Drain struct {
			Tasks    int
			Rate     float64 `json:"tasks_per_second"`
			Used     float64 `json:"limit_used"`
			Outcomes map[string]int
		}
		EndToEnd struct {
			P50 float64 `json:"p50_seconds"`
			P99 float64 `json:"p99_seconds"`
		} `json:"end_to_end"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d, e := report.Drain, report.EndToEnd
	if report.Limit != 100 || report.Redis.Kind != "named" || report.Redis.Address != server.Addr() ||
		d.Tasks != 200 || d.Outcomes["accepted"] != 200 || d.Rate <= 0 || d.Used <= 0 || e.P50 <= 0 || e.P99 < e.P50 {
		t.Errorf("%s", out)
	}
	if stderr.String() != "" {
		t.Errorf("standard error:\n%s", stderr.String())
	}
}

// TestBenchInterrupted sends SIGINT, as Ctrl-C does: bench exits with 1 and leaves no keys.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	path, err := e2e.Binary()
	must(t, err)
	cmd := exec.CommandContext(context.Background(), path, "bench", "--tasks", "100000", "--latency", "1s", "--redis", server.Addr()) //nolint:gosec // the test's own arguments
	cmd.Dir = t.TempDir()
	var output e2e.Output
	cmd.Stdout, cmd.Stderr = &output, &output
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	redistest.Until(t, 30*time.Second, "tasks are enqueued", func() bool { return rdb.DBSize(t.Context()).Val() > 1000 })
	must(t, cmd.Process.Signal(syscall.SIGINT))
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(output.String(), "interrupted") {
		t.Errorf("%v\n%s", err, output.String())
	}
	if keys := rdb.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("%d keys left, such as %s", len(keys), keys[0])
	}
}

func TestBenchUsage(t *testing.T) {
	path, err := e2e.Binary()
	must(t, err)
	for args, want := range map[string][]string{
		"--tasks=-5 --replicas 0 --type send:nothing": {"--tasks: -5", "--replicas: 0", "--type", "send:subscribe"},
		"--redis nowhere": {"--redis", "host:port"},
		"--latency soon":  {"--latency"},
		"--limit 1000000": {"--limit: 1,000,000", "100,000"},
	} {
		cmd := exec.CommandContext(t.Context(), path, append([]string{"bench"}, strings.Fields(args)...)...) //nolint:gosec // the test's own arguments
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 {
			t.Errorf("%s: %v", args, err)
		}
		for _, text := range want {
			if !strings.Contains(string(out), text) {
				t.Errorf("%s: no %q in\n%s", args, text, out)
			}
		}
	}
}
