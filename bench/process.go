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

// process is a program that a lab runs.
type process struct {
	name     string
	cmd      *exec.Cmd
	log      string // the file that has what it says
	done     chan struct{}
	stopping atomic.Bool // its end was asked for
}

// stopTimeout is how long a process has for ending by itself.
const stopTimeout = 30 * time.Second

// startProcess starts a program, which is killed when ctx ends. What it says goes into the
// file log; stdout, when given, gets its standard output instead.
func startProcess(ctx context.Context, log string, stdout io.Writer, command ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our own folder
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the process has its own
	p := &process{name: command[0], log: log, done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // our own programs
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command[0], err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its ProcessState
	}()
	return p, nil
}

// stop asks a process to end, and kills it when it does not.
func (p *process) stop() error {
	p.stopping.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s had to be killed: it did not end in %v", p.name, stopTimeout)
	}
}

// kill ends a process at once.
func (p *process) kill() {
	p.stopping.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// exitError is the error of a process that has ended though nobody asked it to; nil of others.
func (p *process) exitError() error {
	select {
	case <-p.done:
		if p.stopping.Load() {
			return nil
		}
		return fmt.Errorf("%s ended by itself (%v); it said:\n%s", p.name, p.cmd.ProcessState, tail(p.log, 10))
	default:
		return nil
	}
}

// cpu is the processor time that a process has used so far, as /proc/<pid>/stat has it,
// which counts in hundredths of a second. Of one that has ended it is all that it used.
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
	// The name, in parentheses, may hold spaces. Behind it the third field comes first;
	// user and system time are the fields 14 and 15.
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

// peakMemory is the most bytes of a process that runs which were resident at one time.
func (p *process) peakMemory() (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if err != nil {
		return 0, err
	}
	return parseVmHWM(string(text))
}

// parseVmHWM reads VmHWM, which counts in 1,024 bytes, out of /proc/<pid>/status.
func parseVmHWM(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/<pid>/status has no VmHWM")
}

// tail is the end of a file.
func tail(path string, lines int) string {
	text, err := os.ReadFile(path) //nolint:gosec // a log of ours
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// firstLine runs read on what a process writes first.
func firstLine(r io.Reader, within time.Duration) (string, error) {
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := bufio.NewReader(r).ReadString('\n')
		got <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-got:
		return a.line, a.err
	case <-time.After(within):
		return "", errors.New("it said nothing in time")
	}
}

// spin keeps one core busy until ctx ends: the program's part as the other work on a
// machine.
func spin(ctx context.Context) {
	n := uint64(1)
	for ctx.Err() == nil {
		for range 1_000_000 {
			n = n*6364136223846793005 + 1442695040888963407
		}
	}
	_, _ = fmt.Fprintln(io.Discard, n)
}
