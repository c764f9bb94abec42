package reload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	appA   = "wx00000000000000aa"
	appB   = "wx00000000000000bb"
	hidden = "do-not-print-me"
	within = 20 * time.Second
)

// watched is a folder with a configuration, and a watcher of it.
type watched struct {
	t       *testing.T
	dir     string
	signals chan os.Signal

	mu      sync.Mutex
	log     bytes.Buffer           // guarded by mu
	applied []configs.Config       // guarded by mu
	states  []worker.Configuration // guarded by mu
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

func (w *watched) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// Write implements io.Writer, for the log.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *watched) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// state returns the last state, and the last configuration that was applied, if any.
func (w *watched) state() (state worker.Configuration, last configs.Config, applied int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.states); n > 0 {
		state = w.states[n-1]
	}
	if n := len(w.applied); n > 0 {
		last = w.applied[n-1]
	}
	return state, last, len(w.applied)
}

// awaitApps waits until a configuration with these apps, in the order of the files, was applied.
func (w *watched) awaitApps(ids ...string) {
	w.t.Helper()
	redistest.Until(w.t, within, "the apps "+strings.Join(ids, ", "), func() bool {
		_, cfg, _ := w.state()
		var have []string
		for _, app := range cfg.Apps {
			have = append(have, app.ID)
		}
		return strings.Join(have, " ") == strings.Join(ids, " ")
	})
}

func (w *watched) awaitLog(text string, n int) {
	w.t.Helper()
	redistest.Until(w.t, within, "the log has "+text, func() bool { return strings.Count(w.logged(), text) >= n })
}

func entry(id, rest string) string { return "{id: " + id + ", secret: " + hidden + rest + "}" }

// start writes wxcourier.yaml and follows it.
func start(t *testing.T, text string, every time.Duration) *watched {
	w := &watched{t: t, dir: t.TempDir(), signals: make(chan os.Signal, 1)}
	if err := os.Mkdir(w.path("apps.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("wxcourier.yaml", text)
	cfg, err := configs.Load(w.path("wxcourier.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	follower := New(Config{
		Path: w.path("wxcourier.yaml"), Started: cfg, Signals: w.signals, Every: every, Unused: []string{"gateway"},
		Log: slog.New(slog.NewTextHandler(w, nil)),
		Validate: func(next configs.Config) error {
			if len(next.Apps) == 0 && next.AppsDir == "" {
				return errors.New("no app is left")
			}
			return nil
		},
		Apply: func(_ context.Context, next configs.Config) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.applied = append(w.applied, next)
			return nil
		},
		Report: func(c worker.Configuration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.states = append(w.states, c)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); follower.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if strings.Contains(w.logged(), hidden) {
			t.Errorf("the log has a secret:\n%s", w.logged())
		}
		if t.Failed() {
			t.Log(w.logged())
		}
	})
	redistest.Until(t, within, "the first report", func() bool { state, _, _ := w.state(); return state.Hash == cfg.Hash() })
	return w
}

const tick = 5 * time.Millisecond

func TestFilesAreFollowed(t *testing.T) {
	t.Parallel()
	w := start(t, "apps_dir: apps.d\napps:\n  - "+entry(appA, "")+"\n", tick)

	w.write("apps.d/b.yaml", entry(appB, "")) // a file of the folder appears
	w.awaitApps(appA, appB)
	w.awaitLog("app added", 1)
	w.write("apps.d/b.yaml", entry(appB, ", reserve_urgent: 0.5")) // it changes
	redistest.Until(t, within, "the reserve", func() bool {
		_, cfg, _ := w.state()
		return len(cfg.Apps) == 2 && cfg.Apps[1].ReserveUrgent == 0.5
	})
	w.awaitLog("keys=[reserve_urgent]", 1)
	if err := os.Remove(w.path("apps.d/b.yaml")); err != nil { // and disappears
		t.Fatal(err)
	}
	w.awaitApps(appA)
	w.awaitLog("app removed", 1)

	w.write("secret", "one\n") // a secret file, which changes alone
	w.write("wxcourier.yaml", "apps:\n  - {id: "+appB+", secret_file: \""+w.path("secret")+"\"}\n")
	w.awaitApps(appB)
	w.write("secret", "two\n")
	redistest.Until(t, within, "the secret", func() bool {
		_, cfg, _ := w.state()
		return cfg.Apps[0].Secret.Reveal() == "two"
	})
	w.awaitLog("keys=[secret]", 1)

	_, _, before := w.state()
	w.write("wxcourier.yaml", "# the same\napps: [{id: "+appB+", secret_file: \""+w.path("secret")+"\"}]\n")
	w.signals <- syscall.SIGHUP
	w.awaitLog("at a signal", 1)
	w.write("wxcourier.yaml", "apps:\n  - "+entry(appA, "")+"\n")
	w.awaitApps(appA)
	if _, _, n := w.state(); n != before+1 {
		t.Errorf("%d configurations were applied after a change of nothing, want 1", n-before)
	}
}

// TestConfigMap: Kubernetes replaces a symbolic link to a folder. The files keep their names, sizes
// and times.
func TestConfigMap(t *testing.T) {
	t.Parallel()
	dir, when := t.TempDir(), time.Now().Add(-time.Hour)
	version := func(name, id string) {
		t.Helper()
		file := filepath.Join(dir, name, "wxcourier.yaml")
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o700),
			os.WriteFile(file, []byte("apps:\n  - "+entry(id, "")+"\n"), 0o600), os.Chtimes(file, when, when)); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target string) {
		t.Helper()
		if err := errors.Join(os.Symlink(target, filepath.Join(dir, "..tmp")), os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", appA)
	version("..2", appB)
	link("..1")
	path := filepath.Join(dir, "wxcourier.yaml")
	if err := os.Symlink(filepath.Join("..data", "wxcourier.yaml"), path); err != nil {
		t.Fatal(err)
	}
	var f fileWatch
	f.read([]string{path})
	for range 2 {
		if f.changed() {
			t.Error("a change was seen before there was one")
		}
	}
	link("..2")
	if f.changed() {
		t.Error("a change was taken over at the first look")
	}
	if !f.changed() {
		t.Error("the new version was not seen")
	}
	f.read([]string{path})
	if f.changed() {
		t.Error("a change was seen twice")
	}
}

// TestRecentFilesAreReadAgain: a file that changes in the moment in which it is read may keep its
// time and size.
func TestRecentFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	var f fileWatch
	f.read([]string{path})
	if !f.changed() {
		t.Error("a file that was written just now is not read again")
	}
	old := time.Now().Add(-time.Minute)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	f.read([]string{path})
	f.read([]string{path}) // the second reading finds nothing changed since the first
	if f.changed() {
		t.Error("an old file is read again")
	}
}

func TestMistakesAreRefusedWhole(t *testing.T) {
	t.Parallel()
	w := start(t, "apps_dir: apps.d\napps:\n  - "+entry(appA, "")+"\n", tick)
	good, _, _ := w.state()
	w.write("wxcourier.yaml", "apps_dir: apps.d\napps:\n  - "+entry(appA, ", reserve_urgent: 3")+"\n  - "+entry(appB, "")+"\nredis: {db: x}\n")
	w.write("apps.d/b.yaml", "id: "+appB+"\n")
	w.awaitLog("apps.d/b.yaml: line 1: id: "+appB+" is configured twice", 1)
	w.awaitLog("reserve_urgent: 3 is outside", 1)
	w.awaitLog("redis.db", 1)
	redistest.Until(t, within, "the refusal is reported", func() bool { state, _, _ := w.state(); return !state.Refused.IsZero() })
	state, _, applied := w.state()
	if applied != 0 || state.Hash != good.Hash {
		t.Errorf("%d applied, %+v", applied, state)
	}
	told := strings.Count(w.logged(), "refused; the one in use stays")
	w.signals <- syscall.SIGHUP // the mistakes are told again
	w.awaitLog("refused; the one in use stays", told+1)

	w.write("wxcourier.yaml", "apps: []\n") // the command's own rule
	w.awaitLog("no app is left", 1)
	if err := os.Remove(w.path("wxcourier.yaml")); err != nil {
		t.Fatal(err)
	}
	w.awaitLog("read the configuration: open", 1)
	w.write("wxcourier.yaml", "apps_dir: apps.d\napps:\n  - "+entry(appA, "")+"\n")
	w.write("apps.d/b.yaml", entry(appB, ""))
	w.awaitApps(appA, appB)
	redistest.Until(t, within, "the refusal ends", func() bool { state, _, _ := w.state(); return state.Refused.IsZero() && state.Hash != good.Hash })
}

func TestRestartKeys(t *testing.T) {
	t.Parallel()
	const text = "apps:\n  - {id: wx00000000000000aa, secret: x}\n"
	w := start(t, text, tick)
	w.write("wxcourier.yaml", "redis: {password: "+hidden+", db: 1}\ngateway: {wait: 1s}\n"+text)
	redistest.Until(t, within, "the keys", func() bool {
		state, _, _ := w.state()
		return strings.Join(state.Restart, " ") == "redis.db redis.password"
	})
	w.awaitLog(`keys="[redis.db redis.password]"`, 1)
	w.write("wxcourier.yaml", text)
	redistest.Until(t, within, "the keys are back", func() bool { state, _, n := w.state(); return n == 2 && len(state.Restart) == 0 })
}

// TestSignal: without a look at the files in between.
func TestSignal(t *testing.T) {
	t.Parallel()
	w := start(t, "apps:\n  - "+entry(appA, "")+"\n", time.Hour)
	w.write("wxcourier.yaml", "apps:\n  - "+entry(appB, "")+"\n")
	w.signals <- syscall.SIGHUP
	w.awaitApps(appB)
}
