package subprocess

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// outputSize is the number of bytes of a child's output that are kept.
const outputSize = 4 << 10

// outputPoll is the interval at which WaitForOutput reads the output.
const outputPoll = 10 * time.Millisecond

// output is the output of a child.
type output interface {
	end() string // the last outputSize bytes
}

// Output returns the end of the output, at most 4 KiB.
func (p *Process) Output() string { return strings.TrimSpace(p.output.end()) }

// WaitForOutput waits until the output matches a pattern, and returns the match and its
// submatches. It returns an error when the process exits, or ctx ends.
func (p *Process) WaitForOutput(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	for {
		exited := p.exited() // before the output is read, so that it is complete then
		if found := pattern.FindStringSubmatch(p.output.end()); found != nil {
			return found, nil
		}
		if exited {
			return nil, p.exitError()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-p.done:
		case <-time.After(outputPoll):
		}
	}
}

// tail is the end of an output, in memory. It is safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - outputSize; over > 0 {
		t.text = bytes.Clone(t.text[over:])
	}
	return len(p), nil
}

func (t *tail) end() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// logFile is a file to which a child appends its output.
type logFile struct {
	path string
	from int64 // its size when the child was started
}

func (f logFile) end() string {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return err.Error()
	}
	text = text[min(f.from, int64(len(text))):]
	return string(text[max(0, len(text)-outputSize):])
}
