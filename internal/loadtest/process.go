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

// command is a program to start. It reads nothing, and what it says is kept for the case
// that it ends too early.
type command struct {
	name string // for messages
	path string
	args []string
	env  []string // nil: ours
	dir  string   // that it runs in; "": ours
}

// process is a child that runs until stop.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when it has ended
	err    error         // of its end; set before done is closed
}

// stopTimeout is what a child has to end by itself. A worker may have calls in hand.
const stopTimeout = 30 * time.Second

// start starts a program. It does not end with ctx, but with stop: what it has in hand
// is finished then.
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

// stop asks the child to end and waits for it. It ends one that does not listen. Stopping
// twice is no error.
func (p *process) stop() {
	p.interrupt()
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// interrupt asks the child to end.
func (p *process) interrupt() {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		_ = p.cmd.Process.Kill() // it has ended, or the system has no such signal
	}
}

// exitError is the error of a child that should still run.
func (p *process) exitError() error {
	text := p.output.String()
	if text != "" {
		text = "; it said:\n" + text
	}
	return fmt.Errorf("%s ended too early (%v)%s", p.name, p.cmd.ProcessState, text)
}

// usage is what an ended child has used.
func (p *process) usage() usage {
	state := p.cmd.ProcessState
	return usage{cpu: state.UserTime() + state.SystemTime(), peak: peakOf(state)}
}

// usage is what processes have used.
type usage struct {
	cpu  time.Duration
	peak int64 // resident bytes of the largest; 0 where the system does not tell
}

func (u usage) add(o usage) usage { return usage{u.cpu + o.cpu, max(u.peak, o.peak)} }

// tail is the end of what a child says.
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

// String is what is kept, in whole lines where there are several.
func (t *tail) String() string {
	text, _ := t.snapshot()
	return strings.TrimSpace(text)
}

func (t *tail) snapshot() (string, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text), t.changed
}
