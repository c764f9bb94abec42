package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProducerInItsOwnModule loads the example and its tests as a service that is a module of its
// own. go refuses to load them if they import an internal package of wxcourier, or need a Go module
// that wxcourier's go.mod does not have. It compiles nothing and needs no network; the tests of the
// example run in its own package.
func TestProducerInItsOwnModule(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/wxcourier/wxcourier"
	text, err := os.ReadFile(filepath.Join(root, "go.mod")) //nolint:gosec // a file of this project
	if err != nil {
		t.Fatal(err)
	}
	mod := strings.Replace(string(text), "module "+module, "module example.com/shop", 1) +
		"\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + root + "\n"
	dir := t.TempDir()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil { //nolint:gosec // in a folder of this test
			t.Fatal(err)
		}
	}
	write("go.mod", []byte(mod))
	copyFile := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from) //nolint:gosec // a file of this project
		if err != nil {
			t.Fatal(err)
		}
		write(to, content)
	}
	copyFile(filepath.Join(root, "go.sum"), "go.sum")
	files, err := filepath.Glob("producer/*.go")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		copyFile(file, filepath.Base(file))
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-test", "-deps", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod -trimpath", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"example.com/shop", module + "/tasks", module + "/wxcouriertest", module + "/internal/embedded"} {
		if !strings.Contains("\n"+string(out), "\n"+want+"\n") {
			t.Errorf("%s was not loaded:\n%s", want, out)
		}
	}
}
