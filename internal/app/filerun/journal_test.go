package filerun

import (
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// limitedDisk is a file on a disk that has room for some bytes more. It counts syncs and lines.
type limitedDisk struct {
	journal.File
	room, syncs, lines *atomic.Int64
}

func (f limitedDisk) WriteAt(p []byte, at int64) (int, error) {
	f.lines.Add(int64(strings.Count(string(p), "\n")))
	if left := f.room.Add(-int64(len(p))); left < 0 {
		n, _ := f.File.WriteAt(p[:max(0, int64(len(p))+left)], at)
		return n, syscall.ENOSPC
	}
	return f.File.WriteAt(p, at)
}

func (f limitedDisk) Sync() error {
	f.syncs.Add(1)
	return f.File.Sync()
}

func newLimitedDisk(room int64) limitedDisk {
	f := limitedDisk{room: &atomic.Int64{}, syncs: &atomic.Int64{}, lines: &atomic.Int64{}}
	f.room.Store(room)
	return f
}

func (f limitedDisk) options() []journal.Option {
	return []journal.Option{journal.WithFile(func(file journal.File) journal.File { f.File = file; return f })}
}

const enough = 1 << 30 // bytes of room on a disk

func TestFullDiskEndsRun(t *testing.T) {
	cfg, wx := newSettings(t)
	text := lines(400)
	var stdout buffer
	report, err := deliver(t, cfg, text, &stdout, newLimitedDisk(20<<10))
	if err == nil || !strings.Contains(err.Error(), "write the journal: no space left on device: sending has stopped") {
		t.Errorf("%v", err)
	}
	if !report.Interrupted || report.Unfinished == 0 {
		t.Errorf("%+v", report)
	}
	first := decode(t, stdout.String())
	sent := wx.Count(sandbox.Filter{Delivered: true})
	kept := journalIDs(t)
	if sent == 0 || sent == 400 || len(first) != sent {
		t.Errorf("%d were sent, %d written", sent, len(first))
	}
	if missing := len(first) - len(kept["result"]); missing > 0 && report.Unjournaled == 0 {
		t.Errorf("%d results are not in the journal: %+v", missing, report)
	}

	stdout = buffer{}
	if _, err := deliver(t, cfg, text, &stdout, newLimitedDisk(enough)); err != nil {
		t.Error(err)
	}
	results := decode(t, stdout.String())
	if len(results) != 400 {
		t.Errorf("%d results", len(results))
	}
	for id, r := range results {
		want := tasks.OutcomeAccepted
		if kept["sending"][id] > 0 && kept["result"][id] == 0 {
			want = tasks.OutcomeUnknown
		}
		if r.Outcome != want {
			t.Errorf("%s: %s, want %s", id, r.Outcome, want)
		}
	}
	if d := wx.Duplicates(); len(d) > 0 || wx.Count(sandbox.Filter{Delivered: true}) != 400 {
		t.Errorf("%d sent twice, %d sent", len(d), wx.Count(sandbox.Filter{Delivered: true}))
	}
}

// journalCheckingWriter is an output that fails the test when a result in it is not in the journal.
type journalCheckingWriter struct {
	t    *testing.T
	path string
	seen *buffer
}

// Write implements io.Writer.
func (c journalCheckingWriter) Write(p []byte) (int, error) {
	kept, err := os.ReadFile(c.path)
	if err != nil {
		c.t.Error(err)
	}
	for l := range strings.Lines(string(p)) {
		if !strings.Contains(string(kept), strings.TrimSpace(l)) {
			c.t.Errorf("written, but not in the journal: %s", l)
		}
	}
	return c.seen.Write(p)
}

func TestResultsAreJournaledBeforePrinted(t *testing.T) {
	cfg, wx := newSettings(t)
	wx.SetLatency(5 * time.Millisecond)
	var stdout buffer
	disk := newLimitedDisk(enough)
	report, err := deliver(t, cfg, lines(1000), journalCheckingWriter{t, "j", &stdout}, disk)
	if err != nil || report.Results.Count(tasks.OutcomeAccepted) != 1000 || strings.Count(stdout.String(), "\n") != 1000 {
		t.Errorf("%+v, %v", report, err)
	}
	t.Logf("%d lines, %d fsyncs", disk.lines.Load(), disk.syncs.Load())
	if disk.lines.Load() != 2001 || disk.syncs.Load() >= disk.lines.Load() {
		t.Errorf("%d lines, %d fsyncs", disk.lines.Load(), disk.syncs.Load())
	}
}

// The use of the daily limits by earlier runs is restored from the journal: the embedded Redis of
// each run starts empty.
func TestDailyCallsAreRestored(t *testing.T) {
	cfg, _ := newSettings(t)
	if report, err := deliver(t, cfg, lines(7), io.Discard, newLimitedDisk(enough)); err != nil || report.Results.Total() != 7 {
		t.Fatalf("%+v, %v", report, err)
	}
	kept, err := journal.Open("j")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = kept.Close() }()
	fresh := configs.Default()
	stop, err := app.StartPrivateRedis(&fresh)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	parts, err := app.New(fresh, slog.New(slog.DiscardHandler), app.SandboxCredentials())
	if err != nil {
		t.Fatal(err)
	}
	defer parts.Close()
	r := &Run{journal: &runJournal{Journal: kept}, parts: parts}
	r.restoreDay(t.Context())
	usage, err := parts.Limiter.Usage(t.Context(), testApp, tasks.TypeSubscribe)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range usage {
		if u.Window == ratelimit.PerDay && u.Used == 7 {
			return
		}
	}
	t.Errorf("%+v", usage)
}

// TestJournalOfAnEarlierVersion: a line without an id that a journal of an earlier version has, under
// an id with a dash, is not sent again, whether it has a result or a request without an answer.
func TestJournalOfAnEarlierVersion(t *testing.T) {
	cfg, wx := newSettings(t)
	anonymous := func(to string) string {
		return `{"type":"send:subscribe","app":"` + testApp + `","body":{"touser":"` + to + `","template_id":"T1","data":{"thing1":{"value":"x"}}}}`
	}
	text := anonymous("o1") + "\n" + anonymous("o2") + "\n"
	if report, err := deliver(t, cfg, text, io.Discard, newLimitedDisk(enough)); err != nil || report.Results.Count(tasks.OutcomeAccepted) != 2 {
		t.Fatalf("%+v, %v", report, err)
	}
	kept, err := os.ReadFile("j")
	if err != nil {
		t.Fatal(err)
	}
	id := func(to string) string { return `"` + tasks.LineID([]byte(anonymous(to)), 0) + `"` }
	var earlier strings.Builder
	for l := range strings.Lines(string(kept)) {
		if strings.Contains(l, `"result"`) && strings.Contains(l, id("o2")) {
			continue // its request has no answer
		}
		earlier.WriteString(strings.NewReplacer(id("o1"), `"f-`+id("o1")[2:], id("o2"), `"f-`+id("o2")[2:]).Replace(l))
	}
	if strings.Count(earlier.String(), `"f-`) != 3 {
		t.Fatalf("the journal:\n%s", earlier.String())
	}
	if err := os.WriteFile("j", []byte(earlier.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout buffer
	if _, err := deliver(t, cfg, text, &stdout, newLimitedDisk(enough)); err != nil {
		t.Error(err)
	}
	results := decode(t, stdout.String())
	if got := results["f-"+strings.Trim(id("o1"), `"`)[1:]]; got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("the line with a result: %+v", results)
	}
	if got := results["f-"+strings.Trim(id("o2"), `"`)[1:]]; got.Outcome != tasks.OutcomeUnknown {
		t.Errorf("the line with a request without an answer: %+v", results)
	}
	if n := wx.Count(sandbox.Filter{Delivered: true}); n != 2 {
		t.Errorf("%d were sent", n)
	}
}
