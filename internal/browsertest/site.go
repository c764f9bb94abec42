package browsertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// program is the built wxcourier. TestMain sets it.
var program string

// build builds the program and returns its path.
func build(dir string) (string, error) {
	path := filepath.Join(dir, "wxcourier")
	command := exec.Command("go", "build", "-C", "../..", "-o", path, "./cmd/wxcourier") //nolint:gosec // our own program
	if out, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// listening is how dev announces its pages.
var listening = regexp.MustCompile(`(?m)^Console +(http://[0-9.:]+)/`)

// StartDev starts `wxcourier dev` on a free port, and returns the URL of its pages. It ends with the
// test.
func StartDev(t *testing.T, options ...string) string {
	t.Helper()
	output := filepath.Join(t.TempDir(), "output")
	p, err := subprocess.Start(t.Context(), subprocess.Command{
		Path: program, Args: append([]string{"dev", "--listen", "127.0.0.1:0"}, options...), Dir: t.TempDir(), Log: output,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	var url string
	redistest.Until(t, time.Minute, "dev listens", func() bool {
		if err := p.ExitError(); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(output)
		if found := listening.FindSubmatch(text); found != nil {
			url = string(found[1])
		}
		return url != ""
	})
	return url
}
