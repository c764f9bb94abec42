package filerun

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	testApp    = "wx0123456789abcdef"
	testSecret = "the-app-secret-0123456789"
	openid     = "oPerson"
)

// newSettings starts a sandbox and returns settings that name it and no Redis.
func newSettings(t *testing.T) (configs.Config, *sandbox.Server) {
	t.Helper()
	wx := sandbox.New(sandbox.Options{Apps: map[string]string{testApp: testSecret}})
	url, stop := wx.Start()
	t.Cleanup(stop)
	t.Chdir(t.TempDir())
	cfg, err := configs.Load("", []string{
		"WXCOURIER_WECHAT_BASE_URL=" + url, "WXCOURIER_APPS_" + strings.ToUpper(testApp) + "_SECRET=" + testSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg, wx
}

// lines are n tasks t0, t1 … of type send:subscribe.
func lines(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(`{"type":"send:subscribe","app":"` + testApp + `","id":"t` + strconv.Itoa(i) + `","body":{"touser":"` + openid + strconv.Itoa(i) +
			`","template_id":"T1","data":{"thing1":{"value":"订单 & 发货"}}}}` + "\n")
	}
	return text.String()
}

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns the text so far.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// deliver delivers the text with the journal "j". Results is the output of the run.
func deliver(t *testing.T, cfg configs.Config, text string, results io.Writer, disk limitedDisk) (*Report, error) {
	t.Helper()
	var messages buffer
	r, err := Open(t.Context(), Config{
		Settings: cfg, SettingsName: "wxcourier.yaml", Log: slog.New(slog.DiscardHandler),
		Input: strings.NewReader(text), InputName: "stdin", Results: results, Messages: &messages,
		Journal: "j", JournalOptions: disk.options(),
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.Deliver(t.Context())
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if report == nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{testSecret, openid} {
		if strings.Contains(messages.String(), hidden) {
			t.Errorf("%q is in the messages:\n%s", hidden, messages.String())
		}
	}
	return report, err
}

// decode returns the results in the output of a run, by id.
func decode(t *testing.T, output string) map[string]tasks.Result {
	t.Helper()
	all := make(map[string]tasks.Result)
	for l := range strings.Lines(output) {
		var r tasks.Result
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		if _, twice := all[r.ID]; twice {
			t.Errorf("task %s was written twice", r.ID)
		}
		all[r.ID] = r
	}
	return all
}

// journalIDs returns how often each id is in the journal, by the kind of line: sending, returned,
// result. It fails the test when the journal holds the openid, the secret or a text.
func journalIDs(t *testing.T) map[string]map[string]int {
	t.Helper()
	text, err := os.ReadFile("j")
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{openid, testSecret, "订单"} {
		if strings.Contains(string(text), hidden) {
			t.Errorf("%q is in the journal", hidden)
		}
	}
	all := make(map[string]map[string]int)
	for l := range strings.Lines(string(text)) {
		var kinds map[string]struct{ ID string }
		if json.Unmarshal([]byte(l), &kinds) != nil {
			continue // the header, or an incomplete line
		}
		for kind, task := range kinds {
			if all[kind] == nil {
				all[kind] = make(map[string]int)
			}
			all[kind][task.ID]++
		}
	}
	return all
}
