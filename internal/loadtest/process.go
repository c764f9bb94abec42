package loadtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// command is a program to start. It gets no input; the end of its output is kept for error
// messages.
type command struct {
	name string // for messages
	path string
	args []string
	env  []string // nil: that of this process
	dir  string   // working directory; "": that of this process
}

// process is a child process that runs until stop.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when it has exited
	err    error         // of Wait; set before done is closed
}

// stopTimeout is the time that a child has to exit after a signal. A worker may have calls in
// flight.
const stopTimeout = 30 * time.Second

// start starts a program. The end of ctx does not stop it; stop does, so that it can finish its
// tasks in flight.
func start(ctx context.Context, c command) (*process, error) {
	p := &process{name: c.name, output: &tail{changed: make(chan struct{})}, done: make(chan struct{})}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), c.path, c.args...) //nolint:gosec // this program, or the redis-server on the path
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.env, p.output, p.output
	p.cmd.Dir, p.cmd.SysProcAttr = c.dir, apart()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop interrupts the child and waits for it; after stopTimeout it kills the child. It may be called
// twice.
func (p *process) stop() {
	p.interrupt()
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// interrupt sends the child an interrupt.
func (p *process) interrupt() {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		_ = p.cmd.Process.Kill() // the child has exited, or the system has no such signal
	}
}

// exitError returns the error for a child that exited too early.
func (p *process) exitError() error {
	text := p.output.String()
	if text != "" {
		text = "; its output:\n" + text
	}
	return fmt.Errorf("%s exited too early (%v)%s", p.name, p.cmd.ProcessState, text)
}

// usage returns the resource usage of a child that has exited.
func (p *process) usage() usage {
	state := p.cmd.ProcessState
	return usage{cpu: state.UserTime() + state.SystemTime(), peak: peakOf(state)}
}

// usage is the resource usage of processes.
type usage struct {
	cpu  time.Duration
	peak int64 // peak resident bytes of the largest process; 0: unknown
}

func (u usage) add(o usage) usage { return usage{u.cpu + o.cpu, max(u.peak, o.peak)} }

// tail keeps the end of a child's output.
type tail struct {
	mu      sync.Mutex
	text    []byte        // guarded by mu
	changed chan struct{} // guarded by mu; closed with the next write
}

const tailSize = 4 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	close(t.changed)
	t.changed = make(chan struct{})
	return len(p), nil
}

// String returns the kept output.
func (t *tail) String() string {
	text, _ := t.snapshot()
	return strings.TrimSpace(text)
}

func (t *tail) snapshot() (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text), t.changed
}
