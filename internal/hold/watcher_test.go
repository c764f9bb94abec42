package hold

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func nothingSpent(context.Context, []string) ([]Hold, error) { return nil, nil }

// watched returns a watcher of n apps.
func watched(t *testing.T, rdb redis.UniversalClient, n int) (w *Watcher, s *Store, apps []string) {
	t.Helper()
	for i := range n {
		apps = append(apps, fmt.Sprintf("wx%016x", i))
	}
	s = NewStore(rdb)
	return NewWatcher(s, NewPauses(rdb, testTypes, testQueues), nothingSpent, apps, slog.New(slog.DiscardHandler)), s, apps
}

// TestWatcherReadsWhatChanged: a hold and its end are known after their messages. Holds of
// templates, of unknown types and those that end soon close no lanes.
func TestWatcherReadsWhatChanged(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, s, apps := watched(t, rdb, 2)
		app, other := apps[0], apps[1]
		read := func(want ...string) {
			t.Helper()
			if got := w.ReadChanged(t.Context()); !slices.Equal(got, want) {
				t.Errorf("changed: %v, want %v", got, want)
			}
		}
		is := func(app string, subscribe, custom bool) {
			t.Helper()
			if w.Held(app, "send:subscribe") != subscribe || w.Held(app, "send:custom") != custom || w.HoldsApp(app) != (subscribe || custom) {
				t.Errorf("%s: %v, %v", app, w.Held(app, "send:subscribe"), w.Held(app, "send:custom"))
			}
		}
		read()
		set(t, s, Hold{App: app, Scope: "send:custom"})
		read()
		is(app, false, false)
		w.MarkChanged(app)
		read(app)
		is(app, false, true)
		if got := rdb.Get(t.Context(), "asynq:{"+app+":send:custom}:paused").Val(); got != "wxcourier:send:custom" {
			t.Errorf("paused by %q", got)
		}
		for _, scope := range []string{TemplateScope("T1"), "send:future"} {
			set(t, s, Hold{App: other, Scope: scope})
		}
		set(t, s, Hold{App: other, Scope: WholeApp, Until: time.Now().Add(time.Second)})
		w.MarkChanged(other)
		read(other)
		is(other, false, false)
		set(t, s, Hold{App: other, Scope: WholeApp})
		w.MarkChanged(other)
		read(other)
		is(other, true, true)
		if got := w.HeldApps(); !slices.Equal(got, apps) {
			t.Errorf("held: %v", got)
		}
		if _, err := s.Lift(t.Context(), app, "send:custom"); err != nil {
			t.Fatal(err)
		}
		w.MarkChanged(app)
		read(app)
		is(app, false, false)
		read()
	})
}

// TestWatcherDropsHoldsThatEnd: without a message the watcher drops a hold shortly before its
// end, and reports the app.
func TestWatcherDropsHoldsThatEnd(t *testing.T) {
	_, rdb := redistest.Mini(t)
	w, s, apps := watched(t, rdb, 1)
	set(t, s, Hold{App: apps[0], Scope: "send:custom", Until: time.Now().Add(openBefore + time.Second)})
	w.MarkChanged(apps[0])
	w.ReadChanged(t.Context())
	if !w.Held(apps[0], "send:custom") {
		t.Fatal("not held")
	}
	redistest.Until(t, 5*time.Second, "the hold is dropped", func() bool { return len(w.ReadChanged(t.Context())) == 1 })
	if w.Held(apps[0], "send:custom") || rdb.Exists(t.Context(), "asynq:{"+apps[0]+":send:custom}:paused").Val() != 0 {
		t.Error("still held or paused")
	}
}

// TestWatcherPolls: a poll finds holds without their messages, and their ends within as many
// polls as it takes to read all apps with records.
func TestWatcherPolls(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const n = 2*readPerPoll + 1
		w, s, apps := watched(t, rdb, n)
		for _, app := range apps {
			set(t, s, Hold{App: app, Scope: WholeApp})
		}
		if changed, ok := w.Poll(t.Context()); !ok || len(changed) != n || len(w.HeldApps()) != n {
			t.Errorf("%v: %d apps changed, %d are held", ok, len(changed), len(w.HeldApps()))
		}
		for _, app := range apps {
			if _, err := s.Lift(t.Context(), app, WholeApp); err != nil {
				t.Fatal(err)
			}
		}
		for left := n; left > 0; left -= readPerPoll {
			if held := len(w.HeldApps()); held != left {
				t.Fatalf("%d apps are held, want %d", held, left)
			}
			w.Poll(t.Context())
		}
		if held := w.HeldApps(); len(held) > 0 {
			t.Errorf("still held: %v", held)
		}
	})
}

// TestWatcherRetries: an app is read again after Redis refused its holds, or their pauses.
func TestWatcherRetries(t *testing.T) {
	m, rdb := redistest.Mini(t)
	w, s, apps := watched(t, rdb, 1)
	set(t, s, Hold{App: apps[0], Scope: WholeApp})
	w.MarkChanged(apps[0])
	m.SetError("LOADING Redis is loading the dataset in memory")
	if changed := w.ReadChanged(t.Context()); len(changed) > 0 {
		t.Errorf("changed: %v", changed)
	}
	if changed, ok := w.Poll(t.Context()); ok || len(changed) > 0 {
		t.Errorf("polled: %v, %v", changed, ok)
	}
	m.SetError("")
	refuse := true
	rdb.AddHook(refusing{"time", &refuse})
	for range 2 {
		if changed := w.ReadChanged(t.Context()); !slices.Equal(changed, apps) || !w.Held(apps[0], "send:custom") {
			t.Errorf("changed: %v", changed)
		}
	}
	refuse = false
	if changed := w.ReadChanged(t.Context()); !slices.Equal(changed, apps) {
		t.Errorf("changed: %v", changed)
	}
	if changed := w.ReadChanged(t.Context()); len(changed) > 0 {
		t.Errorf("changed again: %v", changed)
	}
}

// refusing fails one command.
type refusing struct {
	name string
	on   *bool
}

func (refusing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r refusing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if *r.on && cmd.Name() == r.name {
			cmd.SetErr(errors.New("OOM command not allowed"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// TestRenewPauses: stale pauses of all apps are deleted, and those of holds are written again.
func TestRenewPauses(t *testing.T) {
	m, rdb := redistest.Mini(t)
	w, s, apps := watched(t, rdb, 3)
	stale, held := "asynq:{"+apps[1]+":send:custom}:paused", "asynq:{"+apps[2]+":send:custom}:paused"
	if err := rdb.Set(t.Context(), stale, "wxcourier:*", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	set(t, s, Hold{App: apps[2], Scope: WholeApp})
	w.MarkChanged(apps[2])
	w.ReadChanged(t.Context())
	m.FastForward(pauseTTL / 2)
	w.RenewPauses(t.Context())
	if m.Exists(stale) {
		t.Error("a stale pause stays")
	}
	if ttl := m.TTL(held); ttl != pauseTTL {
		t.Errorf("the pause of a hold expires in %v, want %v", ttl, pauseTTL)
	}
	m.FastForward(time.Second)
	w.RenewPauses(t.Context())
	if ttl := m.TTL(held); ttl != pauseTTL-time.Second {
		t.Errorf("the pause was renewed at once: it expires in %v", ttl)
	}
}

// TestWatcherChecksSpentLimits: limits that are spent by our own count pause their queues and close
// no lanes. A limit that is no longer spent resumes them.
func TestWatcherChecksSpentLimits(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		w, _, apps := watched(t, rdb, 2)
		app := apps[0]
		var spent []Hold
		w.spent = func(_ context.Context, of []string) ([]Hold, error) {
			if !slices.Contains(of, app) {
				return nil, nil
			}
			return spent, nil
		}
		check := func(pause string, ask []string, want ...string) {
			t.Helper()
			if changed := w.CheckSpent(t.Context(), ask); !slices.Equal(changed, want) {
				t.Errorf("changed: %v, want %v", changed, want)
			}
			if got := rdb.Get(t.Context(), "asynq:{"+app+":send:custom}:paused").Val(); got != pause {
				t.Errorf("paused by %q, want %q", got, pause)
			}
		}
		check("", apps)
		spent = []Hold{{App: app, Scope: "send:custom", Reason: "quota_day", By: OurCount, Until: time.Now().Add(time.Hour)}}
		check("wxcourier:send:custom", apps, app)
		check("wxcourier:send:custom", nil)
		if w.Held(app, "send:custom") || w.HoldsApp(app) {
			t.Error("the lane is held; the limiter refuses its permits")
		}
		w.MarkChanged(app) // an operator's release of another hold
		w.ReadChanged(t.Context())
		check("wxcourier:send:custom", nil)
		spent = nil
		check("", nil, app)
		check("", nil)
	})
}
