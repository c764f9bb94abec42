// Package e2e builds the real program for end-to-end tests, once per test binary.
package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// tempDir makes the folder of the program, once.
var tempDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "wxcourier-e2e") })

// Binary returns the path of the program, which it builds at the first call. See [Run].
var Binary = sync.OnceValues(func() (string, error) {
	dir, err := tempDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "wxcourier")
	build := exec.CommandContext(context.Background(), "go", "build", "-o", path, "github.com/wxcourier/wxcourier/cmd/wxcourier") //nolint:gosec // our own program
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// Run runs a package's tests with [redistest.Run] and removes the program afterwards. Call it
// from TestMain.
func Run(m *testing.M) int {
	code := redistest.Run(m)
	if dir, err := tempDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// Output collects the output of processes, or a log. It is safe for concurrent use.
type Output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (s *Output) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

// String returns the output so far.
func (s *Output) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Reset drops the output so far.
func (s *Output) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Reset()
}
