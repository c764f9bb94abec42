package browsertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
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

// The apps of dev.
const (
	app1 = "wx00000000000000d1"
	app2 = "wx00000000000000d2"
)

// Site is a running `wxcourier dev` whose pages need a key.
type Site struct {
	URL    string // of the pages, without a final slash
	WeChat string // URL of the stand-in
	Redis  string // address of the embedded Redis
	// Operator, Reader and Revoked are keys of the gateway: with the scopes enqueue, read and operate, with
	// read alone, and one to be revoked.
	Operator, Reader, Revoked string

	config string // path of the configuration
}

// listening is how dev announces its pages, its stand-in for WeChat and its Redis.
var listening = regexp.MustCompile(`(?ms)^Console +(http://[0-9.:]+)/.*^WeChat +(http://[0-9.:]+) .*^Redis +([0-9.:]+)$`)

// configuration has keys, and a webhook whose endpoint fails, so that it lags.
const configuration = `gateway: {keys_file: %q}
webhooks:
  - {name: crm, url: %q, secret: "a secret of 24 bytes or more", allow_private: [127.0.0.1/32]}
`

// StartSite starts `wxcourier dev` on a free port. It ends with the test.
func StartSite(t *testing.T, options ...string) *Site {
	t.Helper()
	dir := t.TempDir()
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(failing.Close)
	s := &Site{config: filepath.Join(dir, "wxcourier.yaml")}
	text := fmt.Sprintf(configuration, filepath.Join(dir, "keys"), failing.URL)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Operator = s.Command(t, "key", "new", "--id", "operator", "--scope", "enqueue,read,operate")
	s.Reader = s.Command(t, "key", "new", "--id", "reader", "--scope", "read")
	s.Revoked = s.Command(t, "key", "new", "--id", "leaver", "--scope", "read,operate")
	output := filepath.Join(dir, "output")
	p, err := subprocess.Start(t.Context(), subprocess.Command{
		Path: program, Args: append([]string{"dev", "-c", s.config, "--listen", "127.0.0.1:0"}, options...), Dir: dir, Log: output,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill) // all that it has is in its memory
	redistest.Until(t, time.Minute, "dev listens", func() bool {
		if err := p.ExitError(); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(output) //nolint:gosec // our own file
		if found := listening.FindSubmatch(text); found != nil {
			s.URL, s.WeChat, s.Redis = string(found[1]), string(found[2]), string(found[3])
		}
		return s.URL != ""
	})
	return s
}

// Command runs the program with the configuration of the site, and returns its standard output.
func (s *Site) Command(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.Command(program, append(args, "-c", s.config)...) //nolint:gosec // our own program
	out, err := command.Output()
	if err != nil {
		t.Fatalf("wxcourier %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// Call calls the API with the key of an operator, and returns the status and the body of the answer.
func (s *Site) Call(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.Operator)
	return do(t, request)
}

func do(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// Fault lets the stand-in for WeChat return a fault to an openid.
func (s *Site) Fault(t *testing.T, rule map[string]any) {
	t.Helper()
	text, err := json.Marshal(rule)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.WeChat+"/sandbox/faults", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do(t, request); status != http.StatusOK {
		t.Fatalf("POST /sandbox/faults: %d: %s", status, body)
	}
}

// Enqueue enqueues a customer service message of the second app for an openid. more are further fields of
// the envelope, in JSON with a comma before them.
func (s *Site) Enqueue(t *testing.T, id, openid, more string) {
	t.Helper()
	status, body := s.Call(t, http.MethodPost, "/v1/tasks", fmt.Sprintf(`{"type":"send:custom","app":%q,"id":%q,`+
		`"body":{"touser":%q,"msgtype":"text","text":{"content":"您的订单已发货"}}%s}`, app2, id, openid, more))
	if status != http.StatusAccepted {
		t.Fatalf("POST /v1/tasks: %d: %s", status, body)
	}
}

// WaitTask waits until the API shows a text in a task of the second app.
func (s *Site) WaitTask(t *testing.T, id, text string) {
	t.Helper()
	s.waitTask(t, app2, id, text)
}

func (s *Site) waitTask(t *testing.T, app, id, text string) {
	t.Helper()
	redistest.Until(t, time.Minute, "task "+id+" has "+text, func() bool {
		_, body := s.Call(t, http.MethodGet, "/v1/tasks/"+app+"/"+id, "")
		return strings.Contains(body, text)
	})
}
