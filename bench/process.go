package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is a child process of a lab.
type process struct {
	name     string
	cmd      *exec.Cmd
	log      string // path of its output
	done     chan struct{}
	stopping atomic.Bool // stop or kill was called
}

// stopTimeout is the time that a process has to exit after SIGTERM.
const stopTimeout = 30 * time.Second

// startProcess starts a program, which is killed when ctx ends. Its output is appended to the file log;
// its standard output goes to stdout instead if that is not nil.
func startProcess(ctx context.Context, log string, stdout io.Writer, command ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in the lab's folder
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the process has its own copy
	p := &process{name: command[0], log: log, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // programs of this module and redis-server
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // the result is in ProcessState
	}()
	return p, nil
}

// stop sends SIGTERM, and kills the process after stopTimeout.
func (p *process) stop() error {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s was killed: it did not exit within %v", p.name, stopTimeout)
	}
}

// kill kills the process and waits for it.
func (p *process) kill() {
	p.stopping.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exitError returns an error when the process exited without stop or kill, else nil.
func (p *process) exitError() error {
	select {
	case <-p.done:
		if p.stopping.Load() {
			return nil
		}
		return fmt.Errorf("%s exited unexpectedly (%v); its output:\n%s", p.name, p.cmd.ProcessState, tail(p.log, 10))
	default:
		return nil
	}
}

// cpu returns the CPU time of the process so far, from /proc/<pid>/stat with a resolution of 10 ms, or
// its total CPU time after its exit.
func (p *process) cpu() (time.Duration, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime(), nil
	default:
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The second field, the name in parentheses, may contain spaces, so parse from the third field on.
	// User and system time are fields 14 and 15.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat is too short")
	}
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// peakMemory returns the peak resident memory of a running process, in bytes.
func (p *process) peakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	return parseVmHWM(string(text))
}

// parseVmHWM returns VmHWM of /proc/<pid>/status in bytes. The file has it in KiB.
func parseVmHWM(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/<pid>/status has no VmHWM")
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path) //nolint:gosec // a log of the lab
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// firstLine reads the first line that a process writes, within a time.
func firstLine(r io.Reader, within time.Duration) (string, error) {
	type answer struct {
		line string
		err  error
	}
	lines := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		lines <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-lines:
		return a.line, a.err
	case <-time.After(within):
		return "", errors.New("no output in time")
	}
}

// spin keeps one core busy until ctx ends.
func spin(ctx context.Context) {
	n := uint64(1)
	for ctx.Err() == nil {
		for range 1_000_000 {
			n = n*6364136223846793005 + 1442695040888963407
		}
	}
	_, _ = fmt.Fprintln(io.Discard, n)
}
