package main_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestDevNamesTheCommand: built by go run and started in a clone, dev's start page and messages suggest commands that begin with `go run ./cmd/wxcourier`. In another terminal, enqueue says what
// becomes of the tasks of apps that dev serves, and of others.
func TestDevNamesTheCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs the built program")
	}
	t.Parallel()
	built, err := e2e.Binary()
	must(t, err)
	program, err := os.ReadFile(built) //nolint:gosec // our own program
	must(t, err)
	path := filepath.Join(t.TempDir(), "go-build1", "b001", "exe", "wxcourier") // where go run puts it
	must(t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, program, 0o700))                                                    //nolint:gosec // it is a program
	cmd := exec.CommandContext(t.Context(), path, "dev", "--listen", "127.0.0.1:0", "--rate", "0") //nolint:gosec // likewise
	cmd.Dir, err = filepath.Abs("../..")
	must(t, err)
	var out e2e.Output
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	address := func(name string) string {
		var found []string
		redistest.Until(t, 2*time.Minute, name+" is announced", func() bool {
			found = regexp.MustCompile(name + ` +(\S+)`).FindStringSubmatch(out.String())
			return found != nil
		})
		return found[1]
	}
	redisAddr := address("Redis")
	if want := "WXCOURIER_REDIS_ADDRS=" + redisAddr + " go run ./cmd/wxcourier results --follow"; !strings.Contains(out.String(), want) {
		t.Errorf("the messages do not contain %q:\n%s", want, out.String())
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address("First steps"), nil)
	must(t, err)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	must(t, err)
	for _, want := range []string{"go run ./cmd/wxcourier enqueue -", "go run ./cmd/wxcourier results --follow"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("the page does not contain %q:\n%s", want, page)
		}
	}

	for app, want := range map[string]string{
		"wx00000000000000d1": "app wx00000000000000d1 is served by the wxcourier dev on this Redis: its tasks go to a stand-in for WeChat",
		"wx0123456789abcdef": "app wx0123456789abcdef is not served by the wxcourier dev on this Redis, which serves wx00000000000000d1, wx00000000000000d2; its tasks wait",
	} {
		enqueue := exec.CommandContext(t.Context(), built, "enqueue", "-") //nolint:gosec // our own program
		enqueue.Env = append(os.Environ(), "WXCOURIER_REDIS_ADDRS="+redisAddr)
		enqueue.Dir = t.TempDir()
		enqueue.Stdin = strings.NewReader(strings.ReplaceAll(coprocessTask("a", "x"), "wx0123456789abcdef", app))
		said, err := enqueue.CombinedOutput()
		if err != nil || !bytes.Contains(said, []byte(want)) || !bytes.Contains(said, []byte("1 task enqueued")) {
			t.Errorf("%v\n%s\nwant %s", err, said, want)
		}
	}
}
