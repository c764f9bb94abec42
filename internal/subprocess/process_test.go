//go:build unix

package subprocess_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// shell starts a shell script.
func shell(t *testing.T, log, script string) *subprocess.Process {
	t.Helper()
	p, err := subprocess.Start(t.Context(), subprocess.Command{Name: "script", Path: "sh", Args: []string{"-c", script}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// TestExitError: a process that exits by itself is an error with its output, kept in memory or in a
// file; one that was stopped is none.
func TestExitError(t *testing.T) {
	for _, log := range []string{"", filepath.Join(t.TempDir(), "log")} {
		p := shell(t, log, "echo broken >&2; exit 3")
		<-p.Done()
		if err := p.ExitError(); err == nil || !strings.Contains(err.Error(), "script exited too early (exit status 3)") || !strings.Contains(err.Error(), "broken") {
			t.Errorf("log %q: %v", log, err)
		}
	}
	p := shell(t, "", "exec sleep 60")
	if err := p.ExitError(); err != nil {
		t.Errorf("it runs: %v", err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.ExitError(); err != nil {
		t.Errorf("it was stopped: %v", err)
	}
}

// TestTerminateOnce: a process gets one SIGTERM, since a second one makes wxcourier quit at once.
func TestTerminateOnce(t *testing.T) {
	p := shell(t, "", `n=0; trap 'n=$((n+1)); echo signal $n' TERM; echo ready; while [ $n -eq 0 ]; do sleep 0.02; done; sleep 0.2; echo end`)
	if _, err := p.WaitForOutput(t.Context(), regexp.MustCompile("ready")); err != nil {
		t.Fatal(err)
	}
	p.Terminate()
	if _, err := p.WaitForOutput(t.Context(), regexp.MustCompile("signal 1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if out := p.Output(); strings.Contains(out, "signal 2") || !strings.HasSuffix(out, "end") {
		t.Errorf("its output: %s", out)
	}
}

// TestWaitForOutput returns the submatches, also of a process that has exited, and an error when the
// output ends without a match.
func TestWaitForOutput(t *testing.T) {
	p := shell(t, "", "echo listens on http://127.0.0.1:1")
	found, err := p.WaitForOutput(t.Context(), regexp.MustCompile(`on (http\S+)\n`))
	if err != nil || found[1] != "http://127.0.0.1:1" {
		t.Errorf("%q, %v", found, err)
	}
	if _, err := p.WaitForOutput(t.Context(), regexp.MustCompile("nothing")); err == nil || !strings.Contains(err.Error(), "listens on") {
		t.Errorf("%v", err)
	}
}

// TestSharedLog: the output of a process does not include that of an earlier one in the same file.
func TestSharedLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for _, name := range []string{"first", "second"} {
		found, err := shell(t, log, "echo "+name).WaitForOutput(t.Context(), regexp.MustCompile(`\w+\n`))
		if err != nil || found[0] != name+"\n" {
			t.Errorf("%s: %q, %v", name, found, err)
		}
	}
}

// TestOutputIsBounded keeps the end of the output.
func TestOutputIsBounded(t *testing.T) {
	for _, log := range []string{"", filepath.Join(t.TempDir(), "log")} {
		p := shell(t, log, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")
		<-p.Done()
		if out := p.Output(); len(out) > 4<<10 || !strings.HasSuffix(out, "line 2999") {
			t.Errorf("log %q: %d bytes, the last %q", log, len(out), out[max(0, len(out)-20):])
		}
	}
}

// TestUsage reads the CPU time and the memory of a process after its exit.
func TestUsage(t *testing.T) {
	p := shell(t, "", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
	<-p.Done()
	if cpu, err := p.CPU(); err != nil || cpu <= 0 {
		t.Errorf("CPU time %v, %v", cpu, err)
	}
	if peak, err := p.PeakMemory(); err != nil || peak < 100<<10 {
		t.Errorf("peak memory %d bytes, %v", peak, err)
	}
	if own, err := subprocess.OwnCPU(); err != nil || own <= 0 {
		t.Errorf("own CPU time %v, %v", own, err)
	}
}
