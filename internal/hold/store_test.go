package hold

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const testApp = "wx0123456789abcdef"

// clocked returns a store whose clock the test sets.
func clocked(t *testing.T, rdb redis.UniversalClient) (s *Store, start time.Time, clock *time.Time) {
	t.Helper()
	start = time.Date(2026, 12, 1, 12, 0, 0, 0, calendar.Shanghai())
	now := start
	return NewStore(rdb, WithClock(func() time.Time { return now })), start, &now
}

func set(t *testing.T, s *Store, h Hold) bool {
	t.Helper()
	ok, err := s.Set(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func sameHold(a, b Hold) bool {
	same := a.Since.Equal(b.Since) && a.Until.Equal(b.Until)
	a.Since, a.Until = b.Since, b.Until
	return same && reflect.DeepEqual(a, b)
}

func TestHoldKeepsTheLaterUntil(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, _ := clocked(t, rdb)
		hold := func(reason string, until time.Time) bool {
			return set(t, s, Hold{App: testApp, Scope: "*", Reason: reason, Until: until})
		}
		for _, tt := range []struct {
			reason string
			until  time.Time
			set    bool
			then   string // the reason that is in force afterwards
		}{
			{"ended", start, false, ""},
			{"hour", start.Add(time.Hour), true, "hour"},
			{"minute", start.Add(time.Minute), false, "hour"},
			{"same", start.Add(time.Hour), false, "hour"},
			{"day", start.Add(24 * time.Hour), true, "day"},
			{"person", time.Time{}, true, "person"},
			{"year", start.Add(9000 * time.Hour), false, "person"},
			{"person again", time.Time{}, false, "person"},
		} {
			if got := hold(tt.reason, tt.until); got != tt.set {
				t.Errorf("%s: set %v", tt.reason, got)
			}
			h, active, err := s.Get(t.Context(), testApp, "*")
			if err != nil || h.Reason != tt.then || active != (tt.then != "") {
				t.Errorf("after %s: %+v, %v, %v", tt.reason, h, active, err)
			}
			if active && h.Tries != 1 {
				t.Errorf("after %s: %d tries, want 1", tt.reason, h.Tries)
			}
		}
	})
}

func TestTriesCountRepeatedHolds(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		again := func(want int, since time.Time) {
			t.Helper()
			set(t, s, Hold{App: testApp, Scope: "*", Reason: "config", Until: clock.Add(time.Minute)})
			h, _, err := s.Get(t.Context(), testApp, "*")
			if err != nil || h.Tries != want || !h.Since.Equal(since) {
				t.Errorf("tries %d since %v, want %d since %v (%v)", h.Tries, h.Since, want, since, err)
			}
		}
		again(1, start)
		again(1, start) // another replica sets the same hold
		*clock = start.Add(2 * time.Minute)
		if h, active, err := s.Get(t.Context(), testApp, "*"); err != nil || active || h.Tries != 1 {
			t.Errorf("an ended hold: %+v, %v, %v", h, active, err)
		}
		again(2, start)
		*clock = start.Add(5 * time.Minute)
		again(3, start)
		*clock = start.Add(6*time.Minute + Retention)
		again(1, *clock)
		*clock = clock.Add(2 * time.Minute)
		if _, err := s.Lift(t.Context(), testApp, "*"); err != nil {
			t.Fatal(err)
		}
		again(1, *clock)
	})
}

func TestHoldsListsActiveHolds(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		for scope, until := range map[string]time.Time{
			"*": {}, "send:custom": start.Add(time.Minute), TemplateScope("T1"): start.Add(3 * time.Hour),
		} {
			set(t, s, Hold{App: testApp, Scope: scope, Until: until})
		}
		list := func(want ...string) {
			t.Helper()
			holds, err := s.List(t.Context(), testApp)
			var got []string
			for _, h := range holds {
				got = append(got, h.Scope)
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		}
		list("*", "send:custom", "template:T1")
		*clock = start.Add(2 * time.Minute)
		list("*", "template:T1")
		if n := rdb.SCard(t.Context(), indexKey(testApp)).Val(); n != 3 {
			t.Errorf("the record of an ended hold was deleted at once: %d records", n)
		}
		*clock = start.Add(2 * time.Hour)
		list("*", "template:T1")
		if n := rdb.SCard(t.Context(), indexKey(testApp)).Val(); n != 2 {
			t.Errorf("the record of an ended hold was not deleted: %d records", n)
		}
		for range 2 {
			if _, err := s.Lift(t.Context(), testApp, "*"); err != nil {
				t.Fatal(err)
			}
		}
		list("template:T1")
	})
}

func TestHoldWakesReplicas(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := NewStore(rdb)
		sub := rdb.Subscribe(t.Context(), ledger.WakeChannel)
		defer func() { _ = sub.Close() }()
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantMessage := func() {
			t.Helper()
			msg, err := sub.ReceiveTimeout(t.Context(), 5*time.Second)
			if m, ok := msg.(*redis.Message); err != nil || !ok || m.Payload != "hold:"+testApp {
				t.Fatalf("got %v, %v", msg, err)
			}
		}
		set(t, s, Hold{App: testApp, Scope: "*"})
		wantMessage()
		if lifted, err := s.Lift(t.Context(), testApp, "*"); err != nil || !lifted {
			t.Fatal(lifted, err)
		}
		wantMessage()
		if lifted, err := s.Lift(t.Context(), testApp, "*"); err != nil || lifted {
			t.Fatal(lifted, err)
		}
	})
}

func TestHoldRecord(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, _ := clocked(t, rdb)
		set(t, s, Hold{
			App: testApp, Scope: "send:subscribe", Reason: "quota_day", Code: 45009, By: "replica-1",
			Since: start.Add(-time.Second), Until: start.Add(1500 * time.Microsecond), Tries: 7,
		})
		key := "wxcourier:{" + testApp + "}:hold:send:subscribe"
		want := map[string]string{
			"reason": "quota_day", "code": "45009", "by": "replica-1", "tries": "1",
			"since": "1796097599000", "until": "1796097600002",
		}
		if got := rdb.HGetAll(t.Context(), key).Val(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v", got)
		}
		if ttl := rdb.TTL(t.Context(), key).Val(); ttl != -1 {
			t.Errorf("the record expires in %v", ttl)
		}
	})
}

func TestHoldRequiresAppAndScope(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := NewStore(rdb)
	for _, h := range []Hold{{App: testApp}, {Scope: "*"}} {
		if _, err := s.Set(t.Context(), h); err == nil {
			t.Errorf("%+v: no error", h)
		}
	}
}

func TestRedisAway(t *testing.T) {
	m, rdb := redistest.Mini(t)
	s := NewStore(rdb)
	m.SetError("LOADING Redis is loading the dataset in memory")
	if _, err := s.List(t.Context(), testApp); err == nil {
		t.Error("List: no error")
	}
	if set, err := s.Set(t.Context(), Hold{App: testApp, Scope: "*"}); err == nil || set {
		t.Error("Set: no error")
	}
	if _, err := s.Lift(t.Context(), testApp, "*"); err == nil {
		t.Error("Lift: no error")
	}
}

// TestOnChange: the store reports that it has set or lifted a hold, and not that it has left one
// in place.
func TestOnChange(t *testing.T) {
	_, rdb := redistest.Mini(t)
	var changed []string
	s := NewStore(rdb, WithOnChange(func(_ context.Context, app string) { changed = append(changed, app) }))
	want := func(what string, n int) {
		t.Helper()
		if len(changed) != n || slices.ContainsFunc(changed, func(app string) bool { return app != testApp }) {
			t.Errorf("after %s: %v, want %d", what, changed, n)
		}
	}
	set(t, s, Hold{App: testApp, Scope: "*", Reason: "legal"})
	want("a hold", 1)
	set(t, s, Hold{App: testApp, Scope: "*", Reason: "again"})
	want("a hold that changed nothing", 1)
	if _, err := s.Lift(t.Context(), testApp, "*"); err != nil {
		t.Fatal(err)
	}
	want("its end", 2)
	refuse(t, s, "quota_day", End{At: EndOfDay})
	want("a replica's hold", 3)
}

// TestOperatorsHoldReplacesReplicas: an operator's hold replaces a worker's, with its own since
// and tries.
func TestOperatorsHoldReplacesReplicas(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, start, clock := clocked(t, rdb)
		set(t, s, Hold{App: testApp, Scope: "*", Reason: "app_config", Code: 40164, By: "worker r1", Until: start.Add(time.Minute)})
		*clock = start.Add(30 * time.Second)
		set(t, s, Hold{App: testApp, Scope: "*", Reason: "operator", By: "somebody@somewhere"})
		if set(t, s, Hold{App: testApp, Scope: "*", Reason: "app_config", Code: 40164, By: "worker r1", Until: start.Add(time.Hour)}) {
			t.Error("a worker's hold replaced an operator's")
		}
		want := Hold{App: testApp, Scope: "*", Reason: "operator", By: "somebody@somewhere", Since: *clock, Tries: 1}
		if h, active, err := s.Get(t.Context(), testApp, "*"); err != nil || !active || !sameHold(h, want) {
			t.Errorf("%+v, %v, %v", h, active, err)
		}
	})
}

// TestHoldsOfManyApps: one round trip if no app is held, three otherwise.
func TestHoldsOfManyApps(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { holdsOfManyApps(t, rdb, 1, 3) })
	t.Run("cluster", func(t *testing.T) { holdsOfManyApps(t, redistest.StartCluster(t), 1, 2) })
}

func holdsOfManyApps(t *testing.T, rdb redis.UniversalClient, none, some int) {
	s, start, _ := clocked(t, rdb)
	var apps []string
	for i := range 20 {
		apps = append(apps, fmt.Sprintf("wx%016x", i))
	}
	sent := redistest.Count(rdb)
	if holds, err := s.List(t.Context(), apps...); err != nil || len(holds) != 0 || sent.Trips() != int64(none) {
		t.Errorf("%v, %v, %d round trips", holds, err, sent.Trips())
	}
	for _, app := range apps[:10] {
		set(t, s, Hold{App: app, Scope: "send:custom", Until: start.Add(time.Hour)})
		set(t, s, Hold{App: app, Scope: "*", Until: start.Add(time.Hour)})
	}
	if err := rdb.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{some + 1, some} { // the first time the script is sent in full
		before := sent.Trips()
		holds, err := s.List(t.Context(), apps...)
		if trips := sent.Trips() - before; err != nil || len(holds) != 20 || trips != int64(want) {
			t.Fatalf("%d holds, %v, %d round trips, want %d", len(holds), err, trips, want)
		}
		for i, h := range holds {
			if scope := []string{"*", "send:custom"}[i%2]; h.App != apps[i/2] || h.Scope != scope {
				t.Errorf("hold %d is %s of %s", i, h.Scope, h.App)
			}
		}
	}
}
