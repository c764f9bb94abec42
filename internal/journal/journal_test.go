package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const app = "wx0123456789abcdef"

func pathOf(t *testing.T) string { return filepath.Join(t.TempDir(), "tasks.journal") }

func reopen(t *testing.T, path string, options ...Option) *Journal {
	t.Helper()
	j, err := Open(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path) //nolint:gosec // the test's own file
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func fileWith(t *testing.T, text string) string {
	t.Helper()
	path := pathOf(t)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sending(id string, attempt int, since time.Time) Sending {
	return Sending{App: app, ID: id, Type: tasks.TypeSubscribe, Attempt: attempt, Since: since}
}

func result(id string, outcome tasks.Outcome) tasks.Result {
	return tasks.Result{
		ID: id, App: app, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: outcome,
		ErrMsg: "ok & well", Attempts: 1, FinishedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
}

func TestReopenReadsEverythingBack(t *testing.T) {
	path, now := pathOf(t), time.Now().UTC().Truncate(time.Millisecond)
	j := reopen(t, path)
	must(t, j.Sending(t.Context(), sending("ended", 1, now)))
	must(t, j.Sending(t.Context(), sending("back", 1, now)))
	must(t, j.Sending(t.Context(), sending("open", 1, now.Add(-time.Minute))))
	must(t, j.Sending(t.Context(), sending("open", 2, now)))
	j.Returned(app, "back")
	ended := result("ended", tasks.OutcomeAccepted)
	must(t, j.Results([]tasks.Result{ended, result("late", tasks.OutcomeExpired)}))
	must(t, j.Close())
	if err := j.Sending(t.Context(), sending("x", 1, now)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}

	j = reopen(t, path)
	if j.Ended() != 2 || j.PendingRequests() != 1 || j.Torn() != 0 {
		t.Errorf("%d ended, %d unanswered, %d torn", j.Ended(), j.PendingRequests(), j.Torn())
	}
	if r, ok, err := j.Outcome(app, "ended"); err != nil || !ok || !reflect.DeepEqual(r, ended) {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
	if _, ok, err := j.Outcome(app, "open"); ok || err != nil {
		t.Errorf("open has an outcome: %v", err)
	}
	s, ok := j.PendingRequest(app, "open")
	if !ok || s.Attempt != 2 || !s.First.Equal(now.Add(-time.Minute)) || !s.Since.Equal(now) {
		t.Errorf("%+v, %v", s, ok)
	}
	for _, id := range []string{"ended", "back", "late"} {
		if _, ok := j.PendingRequest(app, id); ok {
			t.Errorf("%s is pending", id)
		}
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if strings.Contains(content(t, path), `\u0026`) {
		t.Error("a result is escaped")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTornLastLine cuts the file at every byte: the complete lines are read, and the next run
// writes after them.
func TestTornLastLine(t *testing.T) {
	path := pathOf(t)
	j := reopen(t, path)
	must(t, j.Sending(t.Context(), sending("a", 1, time.Now())))
	must(t, j.Results([]tasks.Result{result("b", tasks.OutcomeRefused)}))
	must(t, j.Close())
	whole := content(t, path)
	for n := range len(whole) {
		cut := fileWith(t, whole[:n])
		j, err := Open(cut)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		text := whole[:n]
		lines := strings.Count(text, "\n")
		rest := text[strings.LastIndex(text, "\n")+1:]
		complete := strings.HasPrefix(whole[n:], "\n") // only the line end is missing
		if complete {
			lines, rest = lines+1, ""
		}
		if j.Torn() != int64(len(rest)) || j.PendingRequests() != min(max(lines-1, 0), 1) || j.Ended() != max(lines-2, 0) {
			t.Errorf("%d bytes, %d lines: %d torn, %d unanswered, %d ended", n, lines, j.Torn(), j.PendingRequests(), j.Ended())
		}
		must(t, j.Results([]tasks.Result{result("c", tasks.OutcomeAccepted)}))
		must(t, j.Close())
		again := reopen(t, cut)
		if _, ok, err := again.Outcome(app, "c"); !ok || err != nil {
			t.Errorf("%d bytes: the result written after the cut is lost: %v", n, err)
		}
		must(t, again.Close())
	}
}

func TestBrokenLinesAreReported(t *testing.T) {
	good := `{"returned":{"app":"` + app + `","id":"a"}}` + "\n"
	for name, bad := range map[string]string{
		"no JSON":                 "{oPerson\n",
		"unknown entry":           `{"received":{}}` + "\n",
		"a sending without an id": `{"sending":{"app":"` + app + `"}}` + "\n",
		"no outcome":              `{"result":{"app":"` + app + `","id":"a"}}` + "\n",
		"zeros":                   strings.Repeat("\x00", 100) + "\n",
		"far too long":            `{"result":"` + strings.Repeat("x", maxLine) + `"}` + "\n",
	} {
		text := header + "\n" + good + bad + good
		path := fileWith(t, text)
		_, err := Open(path)
		if err == nil || !strings.Contains(err.Error(), "line 3 is broken") || !strings.Contains(err.Error(), "Repair the line") || strings.Contains(err.Error(), "oPerson") {
			t.Errorf("%s: %v", name, err)
		}
		if content(t, path) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestForeignFilesAreUnchanged(t *testing.T) {
	for name, text := range map[string]string{
		"a task":         `{"type":"send:subscribe","app":"wx0123456789abcdef"}` + "\n",
		"some text":      "hello",
		"a rehearsal":    rehearsalHeader + "\n",
		"a later format": `{"wxcourier_journal":2}` + "\n",
		"binary":         "\x00\x01\x02",
		"one long line":  strings.Repeat("x", 2*maxLine),
	} {
		path := fileWith(t, text)
		_, err := Open(path)
		var foreign *ForeignError
		if !errors.As(err, &foreign) {
			t.Errorf("%s: %v", name, err)
		}
		if content(t, path) != text {
			t.Errorf("%s: the file was changed", name)
		}
	}
	if _, err := Open(fileWith(t, header+"\n"), ForSandbox()); err == nil {
		t.Error("a rehearsal opened the journal of a run")
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
}

func TestJournalInUse(t *testing.T) {
	path := pathOf(t)
	j := reopen(t, path)
	if _, err := Open(path); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	must(t, j.Close())
	reopen(t, path)
}

// disk is a file that counts its syncs, and that a test can block, fill up or make fail.
type disk struct {
	File
	syncs atomic.Int64
	gate  chan struct{} // if set, each Sync receives from it
	room  atomic.Int64  // free bytes; negative: unlimited
	fails atomic.Bool   // Sync fails
}

func (d *disk) WriteAt(p []byte, at int64) (int, error) {
	if room := d.room.Load(); room >= 0 && int64(len(p)) > room {
		n, _ := d.File.WriteAt(p[:room], at)
		return n, syscall.ENOSPC
	}
	return d.File.WriteAt(p, at)
}

func (d *disk) Sync() error {
	if d.gate != nil {
		<-d.gate
	}
	d.syncs.Add(1)
	if d.fails.Load() {
		return syscall.EIO
	}
	return d.File.Sync()
}

func on(d *disk) Option {
	d.room.Store(-1)
	return WithFile(func(f File) File { d.File = f; return d })
}

// TestGroupCommit: the lines that arrive during an fsync share the next one.
func TestGroupCommit(t *testing.T) {
	path, d := pathOf(t), &disk{}
	j := reopen(t, path, on(d))
	d.gate = make(chan struct{})
	before := d.syncs.Load()
	const n = 200
	var all sync.WaitGroup
	var acknowledged atomic.Int64
	for i := range n {
		all.Go(func() {
			if err := j.Sending(t.Context(), sending("t"+strconv.Itoa(i), 1, time.Now())); err != nil {
				t.Error(err)
			}
			acknowledged.Add(1)
		})
	}
	waiting := func() int {
		j.mu.Lock()
		defer j.mu.Unlock()
		return strings.Count(string(j.buffer), "\n")
	}
	var first int
	redistest.Until(t, 10*time.Second, "all tasks wait except those of the first write", func() bool {
		first = strings.Count(content(t, path), "\n") - 1
		return first > 0 && first+waiting() == n
	})
	if got := acknowledged.Load(); got != 0 {
		t.Errorf("%d calls returned before the first fsync", got)
	}
	close(d.gate)
	all.Wait()
	if got := d.syncs.Load() - before; got > 2 {
		t.Errorf("%d fsyncs for %d tasks", got, n)
	}
}

func TestDiskErrorStopsTheJournal(t *testing.T) {
	for _, fault := range []struct {
		name string
		set  func(*disk)
		want error
	}{
		{"full", func(d *disk) { d.room.Store(20) }, syscall.ENOSPC},
		{"broken", func(d *disk) { d.fails.Store(true) }, syscall.EIO},
	} {
		path, d := pathOf(t), &disk{}
		j := reopen(t, path, on(d))
		must(t, j.Sending(t.Context(), sending("a", 1, time.Now())))
		before := content(t, path)
		fault.set(d)
		if err := j.Sending(t.Context(), sending("b", 1, time.Now())); !errors.Is(err, fault.want) {
			t.Errorf("%s: %v", fault.name, err)
		}
		if content(t, path) != before {
			t.Errorf("%s: part of the line was not removed", fault.name)
		}
		d.room.Store(-1)
		d.fails.Store(false)
		if err := j.Results([]tasks.Result{result("a", tasks.OutcomeAccepted)}); !errors.Is(err, fault.want) {
			t.Errorf("%s: afterwards: %v", fault.name, err)
		}
		must(t, j.Close())
		again := reopen(t, path)
		if _, ok := again.PendingRequest(app, "b"); ok || again.PendingRequests() != 1 {
			t.Errorf("%s: %d pending", fault.name, again.PendingRequests())
		}
	}
}

func TestCanceledSendingIsReturned(t *testing.T) {
	path, d := pathOf(t), &disk{}
	j := reopen(t, path, on(d))
	d.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Sending(ctx, sending("a", 1, time.Now())); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(d.gate)
	must(t, j.Close())
	if again := reopen(t, path); again.PendingRequests() != 0 || !strings.Contains(content(t, path), `"sending"`) {
		t.Errorf("%d pending\n%s", again.PendingRequests(), content(t, path))
	}
}

func TestCallsOfToday(t *testing.T) {
	path, now := pathOf(t), time.Now()
	j := reopen(t, path)
	for i, since := range []time.Time{now, now, now.Add(-48 * time.Hour)} {
		must(t, j.Sending(t.Context(), sending("t"+strconv.Itoa(i), 1, since)))
	}
	link := result("l", tasks.OutcomeAccepted)
	link.Type, link.Attempts = tasks.TypeScheme, 3
	must(t, j.Results([]tasks.Result{result("t0", tasks.OutcomeAccepted), link}))
	must(t, j.Close())
	got := make(map[string]int64)
	for _, c := range reopen(t, path).CallsToday() {
		got[c.Type] += c.N
	}
	if len(got) != 2 || got[tasks.TypeSubscribe] != 2 || got[tasks.TypeScheme] != 3 {
		t.Errorf("%v", got)
	}
}
