// Package e2e gives tests the real program, built once for a package's tests.
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

// tempDir holds the program.
var tempDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "wxcourier-e2e") })

// Binary builds the program, the first time, and returns its path. See [Run].
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

// Run runs a package's tests as [redistest.Run] does, and removes the program. Call it
// from TestMain.
func Run(m *testing.M) int {
	code := redistest.Run(m)
	if dir, err := tempDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// Output is what processes write.
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

// String is all of it so far.
func (s *Output) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
