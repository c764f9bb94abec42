// Package subprocess runs other programs as child processes of a load test, a benchmark or a
// test: it starts and stops them, keeps the end of their output, and reads their CPU time and
// memory.
//
//	p, err := subprocess.Start(ctx, subprocess.Command{Path: "wxcourier", Args: []string{"worker"}})
//	…
//	err = p.Stop()
//	cpu, err := p.CPU()
//
// A child gets no input. On Linux it does not get the terminal's Ctrl-C, and is terminated when
// this process dies.
package subprocess

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"
)

// Command is a program to start.
type Command struct {
	Name string // for messages; "": Path
	Path string
	Args []string
	Env  []string // nil: that of this process
	Dir  string   // working directory; "": that of this process
	Log  string   // the file to which the output is appended; "": its end is kept in memory
}

// Process is a started child process.
type Process struct {
	name       string
	cmd        *exec.Cmd
	output     output
	done       chan struct{} // closed when it has exited
	terminated atomic.Bool   // Terminate or Kill was called
}

// stopTimeout is the time that a child has to exit after SIGTERM. A worker may have calls in
// flight.
const stopTimeout = 30 * time.Second

// Start starts a program, which is killed when ctx ends.
func Start(ctx context.Context, c Command) (*Process, error) {
	p := &Process{name: cmp.Or(c.Name, c.Path), done: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, c.Path, c.Args...) //nolint:gosec // the caller's program
	p.cmd.Env, p.cmd.Dir, p.cmd.SysProcAttr = c.Env, c.Dir, systemAttributes()
	p.cmd.WaitDelay = time.Second // a program that the child has started may keep its output open
	if c.Log == "" {
		kept := new(tail)
		p.output, p.cmd.Stdout, p.cmd.Stderr = kept, kept, kept
	} else {
		file, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		defer func() { _ = file.Close() }() // the child has its own descriptor
		earlier, err := file.Stat()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", p.name, err)
		}
		p.output, p.cmd.Stdout, p.cmd.Stderr = logFile{c.Log, earlier.Size()}, file, file
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the result is in ProcessState
		close(p.done)
	}()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has exited.
func (p *Process) Done() <-chan struct{} { return p.done }

// Terminate sends SIGTERM, and does not wait. It has no effect when it is called again: a second
// signal would make wxcourier quit at once.
func (p *Process) Terminate() {
	if p.terminated.Swap(true) {
		return
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		_ = p.cmd.Process.Kill() // it has exited, or the system has no such signal
	}
}

// Stop terminates the process and waits for its exit. It kills it after 30 s, and returns an
// error then. It may be called again.
func (p *Process) Stop() error {
	p.Terminate()
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
		p.Kill()
		return fmt.Errorf("%s was killed: it did not exit within %v", p.name, stopTimeout)
	}
}

// Kill kills the process and waits for its exit. It may be called again.
func (p *Process) Kill() {
	p.terminated.Store(true)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ExitError returns an error, with the end of the output, when the process has exited by itself;
// nil when it runs, or was terminated or killed.
func (p *Process) ExitError() error {
	if !p.exited() || p.terminated.Load() {
		return nil
	}
	return p.exitError()
}

func (p *Process) exitError() error {
	text := p.Output()
	if text != "" {
		text = "; its output:\n" + text
	}
	return fmt.Errorf("%s exited too early (%v)%s", p.name, p.cmd.ProcessState, text)
}

func (p *Process) exited() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
