package series

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

const (
	app1 = "wx0000000000000001"
	app2 = "wx0000000000000002"
)

// at makes Redis' clock of a recorder show a time from now on.
func (r *Recorder) at(now time.Time) {
	r.epoch.Store(now.Add(-time.Since(r.begin)).UnixNano())
	r.asked = time.Now().Add(time.Hour) // not again
}

func newTestRecorder(rdb redis.UniversalClient) (*Recorder, *bytes.Buffer) {
	var text bytes.Buffer
	return NewRecorder(rdb, slog.New(slog.NewTextHandler(&text, nil))), &text
}

// yesterday returns a time of the day before, and so one that is kept.
func yesterday(clock string) time.Time {
	t, err := time.Parse(time.DateTime, time.Now().UTC().AddDate(0, 0, -1).Format(time.DateOnly)+" "+clock)
	if err != nil {
		panic(err)
	}
	return t
}

func read(t *testing.T, rdb redis.UniversalClient, q Query) string {
	t.Helper()
	points, err := Read(t.Context(), rdb, q)
	if err != nil || points == nil {
		t.Fatal(points, err)
	}
	lines := make([]string, len(points))
	for i, p := range points {
		lines[i] = fmt.Sprint(p.App[17:], " ", p.At.Format(time.TimeOnly), " ", p.Type, " ", p.Outcome, " ", p.ErrCode, " ×", p.Count)
	}
	return strings.Join(lines, "\n")
}

// TestReadWhatWasAdded: outcomes of several apps and replicas are summed by minute and by hour.
func TestReadWhatWasAdded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		a, _ := newTestRecorder(rdb)
		b, _ := newTestRecorder(rdb)
		midnight := yesterday("00:00:00")
		a.at(midnight.Add(-time.Minute))
		a.Add(app1, "send:subscribe", "accepted", 0)
		a.at(midnight)
		for range 3 {
			a.Add(app1, "send:subscribe", "accepted", 0)
		}
		a.Add(app1, "send:subscribe", "refused", 43101)
		a.Add(app2, "send:custom", "failed", -1)
		a.Flush(ctx)
		b.at(midnight.Add(30 * time.Second))
		b.Add(app1, "send:subscribe", "accepted", 0)
		b.Flush(ctx)
		a.at(midnight.Add(61 * time.Minute))
		a.Add(app1, "send:subscribe", "accepted", 0)
		a.Flush(ctx)
		a.Flush(ctx) // nothing
		apps := []string{app2, app1}
		got := read(t, rdb, Query{Apps: apps, From: midnight.Add(-time.Hour), To: midnight.Add(2 * time.Hour), Step: Minute})
		if want := `1 23:59:00 send:subscribe accepted 0 ×1
1 00:00:00 send:subscribe accepted 0 ×4
1 00:00:00 send:subscribe refused 43101 ×1
2 00:00:00 send:custom failed -1 ×1
1 01:01:00 send:subscribe accepted 0 ×1`; got != want {
			t.Errorf("by minute:\n%s", got)
		}
		got = read(t, rdb, Query{Apps: apps, From: midnight.Add(-24 * time.Hour), To: midnight.Add(24 * time.Hour), Step: Hour})
		if want := `1 23:00:00 send:subscribe accepted 0 ×1
1 00:00:00 send:subscribe accepted 0 ×4
1 00:00:00 send:subscribe refused 43101 ×1
2 00:00:00 send:custom failed -1 ×1
1 01:00:00 send:subscribe accepted 0 ×1`; got != want {
			t.Errorf("by hour:\n%s", got)
		}
		if got := read(t, rdb, Query{Apps: apps, From: midnight, To: midnight.Add(time.Minute), Step: Minute}); strings.Count(got, "\n") != 2 {
			t.Errorf("one minute:\n%s", got)
		}
		if got := read(t, rdb, Query{Apps: apps[:1], From: midnight.Add(time.Minute), To: midnight.Add(time.Hour), Step: Minute}); got != "" {
			t.Errorf("after that:\n%s", got)
		}
		if _, err := Read(ctx, rdb, Query{Apps: apps, Step: Step(time.Second)}); err == nil {
			t.Error("a step of a second is accepted")
		}
		for key, keep := range map[string]time.Duration{
			seriesKey(app1, Minute, midnight): 48*time.Hour + 10*time.Minute, seriesKey(app1, Hour, midnight): 36 * 24 * time.Hour,
			callKey(app1, a.id): knownFor,
		} {
			if ttl := rdb.PTTL(ctx, key).Val(); ttl > keep || ttl < keep-time.Minute {
				t.Errorf("%s is kept for %v", key, ttl)
			}
		}
	})
}

// TestReadNeedsFewRoundTrips: an hour of 200 apps by minute takes one, 35 days by hour a few.
func TestReadNeedsFewRoundTrips(t *testing.T) {
	_, rdb := redistest.Mini(t)
	apps := make([]string, 200)
	for i := range apps {
		apps[i] = fmt.Sprintf("wx%016x", i)
	}
	now := time.Now()
	counter := redistest.Count(rdb)
	for _, c := range []struct {
		q     Query
		trips int64
	}{
		{Query{Apps: apps, From: now.Add(-time.Hour), To: now, Step: Minute}, 1},
		{Query{Apps: apps, From: now.Add(-35 * 24 * time.Hour), To: now, Step: Hour}, 4},
		{Query{Apps: apps[:1], To: now.Add(1000 * time.Hour), Step: Minute}, 1}, // only what is kept
		{Query{Apps: apps[:1], To: now.Add(1000 * time.Hour), Step: Hour}, 1},
	} {
		_, trips := counter.During(func() { read(t, rdb, c.q) })
		if trips != c.trips {
			t.Errorf("%v to %v by %v: %d round trips", c.q.From, c.q.To, time.Duration(c.q.Step), trips)
		}
	}
}

// TestAFewKindsAreKept: of too many errcodes the further ones count under one, none is lost, and the
// hash keeps its short form.
func TestAFewKindsAreKept(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx := t.Context()
	r, _ := newTestRecorder(rdb)
	start := yesterday("05:00:00")
	for minute := range 10 {
		r.at(start.Add(time.Duration(minute) * time.Minute))
		for code := range 80 {
			r.Add(app1, "send:subscribe", "rejected", 40000+code)
		}
		r.Flush(ctx)
	}
	points, err := Read(ctx, rdb, Query{Apps: []string{app1}, From: start, To: start.Add(10 * time.Minute), Step: Minute})
	if err != nil {
		t.Fatal(err)
	}
	var total, other int64
	minutes := make(map[time.Time]int)
	for _, p := range points {
		minutes[p.At]++
		if total += p.Count; p.ErrCode == OtherErrCode {
			other += p.Count
		}
	}
	if total != 800 || other < 300 {
		t.Errorf("%d outcomes, %d of these under %d", total, other, OtherErrCode)
	}
	for at, kinds := range minutes {
		if kinds > maxKinds+1 {
			t.Errorf("%v has %d kinds", at, kinds)
		}
	}
	if form := rdb.ObjectEncoding(ctx, seriesKey(app1, Minute, start)).Val(); form != "listpack" && form != "ziplist" {
		t.Errorf("the hash has the form %s", form)
	}
	if n := rdb.HLen(ctx, seriesKey(app1, Hour, start)).Val(); n > 6*maxKinds+1 {
		t.Errorf("the hours have %d fields", n)
	}
}

// failing makes the client's writes fail.
type failing struct {
	before, after atomic.Bool // fail before they are sent, or after
}

func (*failing) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := errors.New("no answer")
		if f.before.Load() {
			return err
		}
		if sent := next(ctx, cmds); !f.after.Load() {
			return sent
		}
		for _, c := range cmds {
			c.SetErr(err)
		}
		return err
	}
}

// TestRedisAway: what cannot be written is kept in memory with its minute, within bounds, and written
// later. A write whose answer was lost counts once.
func TestRedisAway(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		f := &failing{}
		rdb.AddHook(f)
		r, text := newTestRecorder(rdb)
		start := yesterday("03:00:00")
		r.at(start)
		r.Add(app1, "send:subscribe", "accepted", 0)
		r.Flush(ctx)
		f.after.Store(true)
		r.Add(app1, "send:subscribe", "accepted", 0)
		r.Flush(ctx)
		r.Add(app1, "send:subscribe", "accepted", 0)
		r.Add(app2, "send:subscribe", "accepted", 0)
		r.Flush(ctx)
		f.before.Store(true)
		r.at(start.Add(25 * time.Minute))
		r.Add(app1, "send:subscribe", "accepted", 0)
		r.Flush(ctx)
		f.before.Store(false)
		f.after.Store(false)
		r.Flush(ctx)
		r.Flush(ctx)
		got := read(t, rdb, Query{Apps: []string{app1, app2}, From: start, To: start.Add(time.Hour), Step: Minute})
		if want := `1 03:00:00 send:subscribe accepted 0 ×3
2 03:00:00 send:subscribe accepted 0 ×1
1 03:25:00 send:subscribe accepted 0 ×1`; got != want {
			t.Errorf("after the outage:\n%s", got)
		}
		if n := strings.Count(text.String(), "level=WARN"); n != 1 {
			t.Errorf("%d lines of the log:\n%s", n, text)
		}
		f.before.Store(true)
		for n := range 3 * maxCounts {
			r.Add(app1, "send:subscribe", "rejected", n)
		}
		if n := len(r.counts); n > maxCounts+1 {
			t.Errorf("%d counts in memory", n)
		}
	})
}

// TestAfterAScriptFlush: Redis may have forgotten the script.
func TestAfterAScriptFlush(t *testing.T) {
	rdb := redistest.StartCluster(t)
	ctx := t.Context()
	r, text := newTestRecorder(rdb)
	start := yesterday("03:00:00")
	r.at(start)
	for range 2 {
		if err := rdb.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		r.Add(app1, "send:subscribe", "accepted", 0)
		r.Add(app2, "send:subscribe", "accepted", 0)
		r.Flush(ctx)
	}
	got := read(t, rdb, Query{Apps: []string{app1, app2}, From: start, To: start.Add(time.Hour), Step: Minute})
	if want := "1 03:00:00 send:subscribe accepted 0 ×2\n2 03:00:00 send:subscribe accepted 0 ×2"; got != want || text.Len() > 0 {
		t.Errorf("%s\n%s", got, text)
	}
}

// TestRun: counts are written while the recorder runs, by the clock of Redis, and at its end.
func TestRun(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	clock := time.Now().Add(-90 * time.Minute).Truncate(time.Hour) // Redis' clock is slow
	mini.SetTime(clock)
	r, _ := newTestRecorder(rdb)
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Run(ctx)
	}()
	all := func() string {
		return read(t, rdb, Query{Apps: []string{app1}, From: clock, To: clock.Add(time.Minute), Step: Minute})
	}
	redistest.Until(t, 20*time.Second, "the time of Redis is known", func() bool {
		return time.Until(time.Unix(0, r.epoch.Load())) < -30*time.Minute
	})
	r.Add(app1, "send:subscribe", "accepted", 0)
	redistest.Until(t, 20*time.Second, "the outcome is written", func() bool { return strings.HasSuffix(all(), " ×1") })
	r.Add(app1, "send:subscribe", "accepted", 0)
	end()
	<-done
	if got := all(); !strings.HasSuffix(got, " ×2") {
		t.Errorf("after the end: %s", got)
	}
	var none *Recorder
	none.Add(app1, "send:subscribe", "accepted", 0)
	none.Flush(t.Context())
}

// TestAddWhileFlushing: outcomes that are added while the counts are written, also while there are none
// yet, are counted once.
func TestAddWhileFlushing(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r, _ := newTestRecorder(rdb)
	clock := yesterday("12:00:00")
	r.at(clock)
	const adders, each = 4, 500
	var adding sync.WaitGroup
	for range adders {
		adding.Go(func() {
			for range each {
				r.Add(app1, "send:subscribe", "accepted", 0)
				runtime.Gosched()
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		adding.Wait()
	}()
	for flushing := true; flushing; {
		select {
		case <-done:
			flushing = false
		default:
		}
		r.Flush(t.Context())
	}
	got := read(t, rdb, Query{Apps: []string{app1}, From: clock, To: clock.Add(2 * time.Minute), Step: Hour})
	if want := fmt.Sprint(" ×", adders*each); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, want%s", got, want)
	}
}

// BenchmarkAdd is what an outcome costs the delivery.
func BenchmarkAdd(b *testing.B) {
	r := NewRecorder(nil, nil)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r.Add(app1, "send:subscribe", "accepted", 0)
		}
	})
}
