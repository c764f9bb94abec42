package main_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// After the first signal the run waits for its tasks in flight, here a call that hangs; the second
// signal ends the process.
func TestSecondSignalQuitsAtOnce(t *testing.T) {
	t.Parallel()
	path, err := e2e.Binary()
	must(t, err)
	cmd := exec.CommandContext(context.Background(), path, "run", "--sandbox", "-") //nolint:gosec // the test's own binary
	cmd.Dir = t.TempDir()
	var stdout, stderr e2e.Output
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	input, err := cmd.StdinPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	task := `{"type":"send:subscribe","app":"wx0123456789abcdef","id":"ID","body":{"touser":"PERSON","template_id":"T1","data":{"thing1":{"value":"x"}}}}` + "\n"
	_, err = input.Write([]byte(strings.NewReplacer("ID", "hangs", "PERSON", "hang-o").Replace(task) + strings.NewReplacer("ID", "ends", "PERSON", "o").Replace(task)))
	must(t, err)
	redistest.Until(t, 20*time.Second, "one task ended, and the other is in flight", func() bool { return strings.Contains(stdout.String(), `"id":"ends"`) })

	must(t, cmd.Process.Signal(syscall.SIGTERM))
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Fatalf("the process ended after the first signal: %v\n%s", err, stderr.String())
	case <-time.After(700 * time.Millisecond): // far less than the hanging call takes, and not the same signal twice
	}
	must(t, cmd.Process.Signal(syscall.SIGTERM))
	var exit *exec.ExitError
	select {
	case err := <-done:
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("the process ended with %v", err)
		}
	case <-time.After(3 * time.Second):
		t.Error("the second signal did not end the process")
	}
	if !strings.Contains(stderr.String(), "second signal") {
		t.Errorf("standard error:\n%s", stderr.String())
	}
}
