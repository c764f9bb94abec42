package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const openid = "oABCDEF0123456789abcdefghijk"

func indexingLedger(rdb redis.UniversalClient) *ledger.Ledger {
	return ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100, DeadAfter: time.Minute, LostLimit: 3, IndexOpenIDs: true})
}

// markFor marks tasks for a receiver.
func markFor(t *testing.T, l *ledger.Ledger, receiver, batch string, ids ...string) {
	t.Helper()
	requests := make([]ledger.MarkRequest, len(ids))
	for i, id := range ids {
		requests[i] = ledger.MarkRequest{Ref: ledger.Ref{App: app, ID: id, Batch: batch}, Queue: queue, State: "waiting", Enqueued: time.Now(), Receiver: receiver}
	}
	for _, m := range l.MarkMany(t.Context(), requests) {
		if m.Err != nil {
			t.Fatal(m.Err)
		}
	}
}

// tasksFor returns the ids of the tasks for the openid, as the index has them.
func tasksFor(t *testing.T, l *ledger.Ledger, openid string) (ids []string) {
	t.Helper()
	for _, task := range must[[]ledger.OpenIDTask](t)(l.FindOpenID(t.Context(), []string{app, "wx00000000000000aa"}, openid)) {
		ids = append(ids, task.ID)
	}
	return ids
}

// listsOf returns the keys of the lists of the index, with their elements.
func listsOf(t *testing.T, rdb redis.UniversalClient) map[string][]string {
	t.Helper()
	lists := make(map[string][]string)
	for _, key := range rdb.Keys(t.Context(), "wxcourier:{"+app+"}:openids:*").Val() {
		lists[key] = rdb.LRange(t.Context(), key, 0, -1).Val()
	}
	return lists
}

// TestFindOpenID: a task is found by its receiver from its mark on, the newest first; the index has a
// hash of the openid and not the openid, and expires.
func TestFindOpenID(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := indexingLedger(rdb)
		var ids []string
		for i := range 120 { // more than one script call
			ids = append(ids, fmt.Sprint("order-", i))
		}
		markFor(t, l, openid, "b", ids...)
		markFor(t, l, openid, "", ids[113:]...) // known already
		for range 2 {                           // other messages under a known id
			m := ledger.MarkRequest{Ref: ledger.Ref{App: app, ID: "twice"}, Queue: queue, State: "waiting", Enqueued: time.Now(), Receiver: "oFirst", Digest: "aaaaaa"}
			second := m
			second.Receiver, second.Digest = "oSecond", "bbbbbb"
			for i, m := range l.MarkMany(t.Context(), []ledger.MarkRequest{m, second}) {
				if m.Err != nil || m.Differs != (i == 1) {
					t.Fatalf("marked %+v", m)
				}
			}
		}
		if first, second := tasksFor(t, l, "oFirst"), tasksFor(t, l, "oSecond"); len(first) != 1 || len(second) != 0 {
			t.Errorf("found %v for the receiver and %v for another", first, second)
		}
		if err := l.UpdateDigest(t.Context(), app, "twice", "bbbbbb", "oSecond"); err != nil || len(tasksFor(t, l, "oSecond")) != 1 {
			t.Errorf("the second message replaces the first: %v", err)
		}
		markFor(t, l, "oAnother", "", "another")
		markFor(t, l, "", "", "without-a-receiver")
		slices.Reverse(ids)
		if got := tasksFor(t, l, openid); !slices.Equal(got, ids) {
			t.Errorf("found %v", got)
		}
		if got := tasksFor(t, l, "oNobody"); len(got) != 0 {
			t.Errorf("found %v for nobody", got)
		}
		elements := 0
		for key, list := range listsOf(t, rdb) {
			elements += len(list)
			if text := key + strings.Join(list, "\n"); strings.Contains(text, openid) || strings.Contains(text, "oAnother") {
				t.Errorf("the index has an openid: %q", text)
			}
			today := time.Now().UTC().Truncate(24 * time.Hour)
			if left := rdb.TTL(t.Context(), key).Val(); left < time.Until(today.Add(49*time.Hour))-time.Minute || left > 49*time.Hour {
				t.Errorf("%s expires in %v", key, left)
			}
		}
		if elements != len(ids)+7+1+3 {
			t.Errorf("the index has %d elements", elements)
		}
		if n := rdb.ZCard(t.Context(), "wxcourier:{"+app+"}:openids").Val(); n != 1 && n != 2 { // 2: at midnight
			t.Errorf("the index has %d days", n)
		}
	})
}

// TestIndexOff: without Policy.IndexOpenIDs nothing is written, neither by Mark nor by Open.
func TestIndexOff(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		markFor(t, l, openid, "b", "1")
		o := opening("r1")
		o.Receiver = openid
		must[ledger.OpenResult](t)(l.Open(t.Context(), ledger.Ref{App: app, ID: "1", Batch: "b"}, o))
		must[ledger.OpenResult](t)(l.Open(t.Context(), ledger.Ref{App: app, ID: "plain", Batch: "b"}, o))
		if keys := rdb.Keys(t.Context(), "*openids*").Val(); len(keys) != 0 {
			t.Errorf("there are %v", keys)
		}
	})
}

// TestIndexByDueTime: a task is in the list of the day on which it is due, so that the list outlives
// the task.
func TestIndexByDueTime(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := indexingLedger(rdb)
		due := time.Now().Add(40 * 24 * time.Hour)
		for _, m := range l.MarkMany(t.Context(), []ledger.MarkRequest{
			{Ref: ledger.Ref{App: app, ID: "now"}, Queue: queue, State: "waiting", Enqueued: time.Now(), Receiver: openid},
			{Ref: ledger.Ref{App: app, ID: "later"}, Queue: queue, State: "scheduled", Enqueued: time.Now(), ProcessAt: due, Receiver: openid},
		}) {
			if m.Err != nil || !m.New {
				t.Fatal(m)
			}
		}
		if got := tasksFor(t, l, openid); !slices.Equal(got, []string{"later", "now"}) {
			t.Errorf("found %v", got)
		}
		for key, list := range listsOf(t, rdb) {
			if left := rdb.TTL(t.Context(), key).Val(); strings.HasSuffix(list[0], "later") != (left > 40*24*time.Hour) {
				t.Errorf("%s with %q expires in %v", key, list, left)
			}
		}
	})
}

// TestOpenIndexes: the first run indexes a task that its producer has not indexed, or did so long ago;
// further attempts do not.
func TestOpenIndexes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := indexingLedger(rdb)
		elements := func() (n int) {
			for _, list := range listsOf(t, rdb) {
				n += len(list)
			}
			return n
		}
		run := func(id, batch string, marked bool, processAt time.Time, want int) {
			t.Helper()
			before, ref := elements(), ledger.Ref{App: app, ID: id, Batch: batch}
			for range 3 {
				o := opening("r-" + id)
				o.Receiver, o.Marked, o.ProcessAt = openid, marked, processAt
				if got := must[ledger.OpenResult](t)(l.Open(t.Context(), ref, o)); got.Admission != ledger.Proceed {
					t.Fatalf("opened %+v", got)
				}
				if err := l.Defer(t.Context(), ref, ledger.DeferRequest{Runner: o.Runner, State: "retrying", NotAccepted: true}); err != nil {
					t.Fatal(err)
				}
			}
			if got := elements() - before; got != want {
				t.Errorf("the runs of %s added %d elements, want %d", id, got, want)
			}
		}
		run("plain", "", false, time.Time{}, 1)
		run("plain-in-a-batch", "b", false, time.Time{}, 1)
		markFor(t, l, openid, "b", "fresh")
		run("fresh", "b", true, time.Time{}, 0)
		for _, m := range l.MarkMany(t.Context(), []ledger.MarkRequest{
			{Ref: ledger.Ref{App: app, ID: "old"}, Queue: queue, State: "waiting", Enqueued: time.Now().Add(-13 * time.Hour)},
			{Ref: ledger.Ref{App: app, ID: "due"}, Queue: queue, State: "scheduled", Enqueued: time.Now().Add(-13 * time.Hour)},
		}) {
			if m.Err != nil {
				t.Fatal(m.Err)
			}
		}
		run("old", "", true, time.Time{}, 1)
		run("due", "", true, time.Now().Add(-time.Minute), 0)
		if got := tasksFor(t, l, openid); len(got) != 4 || slices.Contains(got, "due") {
			t.Errorf("found %v", got)
		}
	})
}

// TestIndexOnCluster: all keys of a script are in the app's slot.
func TestIndexOnCluster(t *testing.T) {
	l := indexingLedger(redistest.StartCluster(t))
	markFor(t, l, openid, "b", "1")
	o := opening("r1")
	o.Receiver = openid
	must[ledger.OpenResult](t)(l.Open(t.Context(), ledger.Ref{App: app, ID: "plain", Batch: "c"}, o))
	if got := tasksFor(t, l, openid); !slices.Equal(got, []string{"plain", "1"}) {
		t.Errorf("found %v", got)
	}
	recent := must[[]ledger.RecentBatch](t)(l.RecentBatches(t.Context(), []string{app}, time.Time{}, 10))
	if len(recent) != 2 || recent[0].Batch != "c" || recent[1].Batch != "b" {
		t.Errorf("recent batches %+v", recent)
	}
}

// TestIndexDoesNotFailTasks: a list that another program has overwritten, or a full memory, does not
// make the index fail an enqueuing that succeeds, nor leave an element of one that fails.
func TestIndexDoesNotFailTasks(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx, l := t.Context(), indexingLedger(rdb)
	markFor(t, l, openid, "b", "1")
	for key := range listsOf(t, rdb) {
		rdb.Set(ctx, key, "spoilt", 0)
	}
	rdb.Set(ctx, "wxcourier:{"+app+"}:batches", "spoilt", 0)
	markFor(t, l, openid, "b", "2")
	o := opening("r1")
	o.Receiver = openid
	if got := must[ledger.OpenResult](t)(l.Open(ctx, ledger.Ref{App: app, ID: "3", Batch: "b"}, o)); got.Admission != ledger.Proceed {
		t.Errorf("opened %+v", got)
	}
	if counts := must[map[string]int64](t)(l.Batch(ctx, app, "b")); counts["total"] != 3 {
		t.Errorf("the batch counts %v", counts)
	}
	rdb.FlushDB(ctx)
	rdb.ConfigSet(ctx, "maxmemory", "1")
	m := l.MarkMany(ctx, []ledger.MarkRequest{{Ref: ledger.Ref{App: app, ID: "1", Batch: "b"}, Queue: queue, State: "waiting", Enqueued: time.Now(), Receiver: openid}})[0]
	if !redis.HasErrorPrefix(m.Err, "OOM") {
		t.Errorf("marked in a full Redis: %+v", m)
	}
	if keys := rdb.Keys(ctx, "*").Val(); len(keys) != 0 {
		t.Errorf("a full Redis has %v", keys)
	}
}

// TestTendOpenIDs: the lists of a past day are kept as long as the results of this ledger's policy, also
// if a producer has made them for less, and longer while a twentieth of the day's tasks wait.
func TestTendOpenIDs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, now := t.Context(), time.Now()
		producer := ledger.New(rdb, ledger.Policy{Retention: time.Minute, IndexOpenIDs: true})
		for i := range 3 {
			var requests []ledger.MarkRequest
			for n := range 1000 {
				requests = append(requests, ledger.MarkRequest{
					Ref: ledger.Ref{App: app, ID: fmt.Sprint(i, "-", n)}, Queue: queue, State: "waiting",
					Enqueued: now.AddDate(0, 0, i-1), Receiver: fmt.Sprint("o", n),
				})
			}
			for _, m := range producer.MarkMany(ctx, requests) {
				if m.Err != nil {
					t.Fatal(m.Err)
				}
			}
		}
		// left returns how long the lists of a day are kept, which is the same for all of them.
		left := func(day int64) time.Duration {
			t.Helper()
			all := make(map[time.Duration]bool)
			for key := range listsOf(t, rdb) {
				if strings.HasPrefix(key, fmt.Sprintf("wxcourier:{%s}:openids:%d:", app, day)) {
					all[rdb.TTL(ctx, key).Val().Round(time.Minute)] = true
				}
			}
			if len(all) != 1 {
				t.Fatalf("the lists of day %d are kept for %v", day, all)
			}
			for d := range all {
				return d
			}
			return 0
		}
		today := ledger.Day(now)
		yesterday, tomorrow := left(today-1), left(today+1)
		tend := func(retention time.Duration, waiting int, now time.Time) {
			t.Helper()
			l := ledger.New(rdb, ledger.Policy{Retention: retention, IndexOpenIDs: true})
			if _, err := l.TendOpenIDs(ctx, app, map[int64]int{today - 1: waiting, today: waiting, today + 1: waiting}, now); err != nil {
				t.Fatal(err)
			}
		}
		near := func(what string, got, want time.Duration) {
			t.Helper()
			if (got - want).Abs() > 3*time.Minute {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		tend(time.Minute, 0, now)
		near("nothing to do", left(today-1), yesterday)
		tend(72*time.Hour, 0, now)
		near("a longer retention", left(today-1), yesterday+72*time.Hour)
		tend(time.Minute, 0, now)
		near("and a shorter one", left(today-1), yesterday+72*time.Hour)
		tend(80*time.Hour, 10, now.Add(12*time.Hour)) // of 1,000
		near("few wait", left(today-1), yesterday+80*time.Hour)
		tend(80*time.Hour, 500, now.Add(12*time.Hour))
		near("many wait", left(today-1), (12+80+24)*time.Hour)
		near("a day to come", left(today+1), tomorrow)
	})
}

// TestIndexTakesNoRoundTrip: once their list exists, tasks for one person are indexed by one command in the
// round trip that marks them, and opening one costs nothing.
func TestIndexTakesNoRoundTrip(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	sent := redistest.Count(rdb)
	with, without := indexingLedger(rdb), newLedger(rdb, time.Minute)
	markFor(t, with, openid, "b", "first") // creates the list, and Redis learns the scripts
	must[ledger.OpenResult](t)(with.Open(t.Context(), ledger.Ref{App: app, ID: "first", Batch: "b"}, opening("r")))
	step := func(l *ledger.Ledger, ids ...string) (commands, trips int64) {
		return sent.During(func() {
			markFor(t, l, openid, "b", ids...)
			o := opening("r")
			o.Receiver, o.Marked = openid, true
			must[ledger.OpenResult](t)(l.Open(t.Context(), ledger.Ref{App: app, ID: ids[0], Batch: "b"}, o))
		})
	}
	for _, ids := range [][]string{{"a"}, {"b", "c", "d"}} {
		other := make([]string, len(ids))
		for i, id := range ids {
			other[i] = id + "-without"
		}
		commands, trips := step(with, ids...)
		before, tripsBefore := step(without, other...)
		if trips != tripsBefore || commands != before+1 {
			t.Errorf("%d tasks: %d commands in %d round trips; without the index %d in %d", len(ids), commands, trips, before, tripsBefore)
		}
	}
}
