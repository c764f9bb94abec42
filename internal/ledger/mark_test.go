package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// enqueued is a fixed time, and markedAt its form in a mark.
var enqueued = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

const markedAt = "hg91vthlxc"

// marking returns a producer's marking of a task.
func marking(id string) ledger.MarkRequest {
	return ledger.MarkRequest{Ref: ledger.Ref{App: app, ID: id}, Queue: queue, State: "waiting", Enqueued: enqueued}
}

// marked marks one task.
func marked(t *testing.T, l *ledger.Ledger, m ledger.MarkRequest) ledger.Claim {
	t.Helper()
	answer := l.MarkMany(t.Context(), []ledger.MarkRequest{m})[0]
	return must[ledger.Claim](t)(answer.Claim, answer.Err)
}

// kinds returns which of "mark" and "record" exist for a task.
func kinds(t *testing.T, rdb redis.UniversalClient, id string) []string {
	t.Helper()
	var found []string
	if rdb.HExists(t.Context(), ledger.WaitingKey(app, id), id).Val() {
		found = append(found, "mark")
	}
	if rdb.Exists(t.Context(), ledger.TaskKey(app, id)).Val() == 1 {
		found = append(found, "record")
	}
	return found
}

func wantKinds(t *testing.T, rdb redis.UniversalClient, id string, want ...string) {
	t.Helper()
	if got := kinds(t, rdb, id); !slices.Equal(got, want) {
		t.Errorf("%s has %v, want %v", id, got, want)
	}
}

// TestMarkText: marks are short, since there may be millions of them. Values that a mark leaves
// out are read as their defaults.
func TestMarkText(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		later := marking("later")
		later.State, later.Queue = "scheduled", app+":send:bizsubscribe:bulk"
		digested, both := marking("digested"), later
		digested.Digest, both.ID, both.Digest = "aB-_09", "both", "aB-_09"
		for _, tt := range []struct {
			ledger.MarkRequest
			want string
		}{
			{marking("1"), markedAt + " send:subscribe"},
			{later, markedAt + " send:bizsubscribe:bulk scheduled"},
			{digested, markedAt + " send:subscribe #aB-_09"},
			{both, markedAt + " send:bizsubscribe:bulk scheduled#aB-_09"},
		} {
			if c := marked(t, l, tt.MarkRequest); !c.New || c.Queue != tt.Queue {
				t.Errorf("claim %+v", c)
			}
			if got := rdb.HGet(t.Context(), ledger.WaitingKey(app, tt.ID), tt.ID).Val(); got != tt.want || len(got) > 64 {
				t.Errorf("the mark is %q", got)
			}
			wantKinds(t, rdb, tt.ID, "mark")
			again := tt.MarkRequest
			again.Queue, again.Enqueued = queue+":bulk", time.Now()
			for range 2 { // later claims change nothing
				if c := marked(t, l, again); c.New || c.Done || c.Queue != tt.Queue {
					t.Errorf("a second claim: %+v", c)
				}
			}
			r := must[ledger.Record](t)(l.Record(t.Context(), app, tt.ID))
			if r.State != tt.State || r.Queue != tt.Queue || !r.Enqueued.Equal(enqueued) || r.Generation != 0 || r.Outcome != "" {
				t.Errorf("record %+v", r)
			}
			if e := must[ledger.RedriveState](t)(l.RedriveState(t.Context(), app, tt.ID)); e.Outcome != "" || e.Queue != tt.Queue || e.InProgress {
				t.Errorf("as a redrive sees it: %+v", e)
			}
		}
		if key := ledger.WaitingKey(app, "1"); !strings.HasPrefix(key, "wxcourier:{"+app+"}:waiting:") || key != ledger.WaitingKey(app, "1") {
			t.Errorf("key %s", key)
		}
	})
}

// TestMarkBecomesRecord: the mark moves to the record with the first run, and the id is free
// again when the record has expired.
func TestMarkBecomesRecord(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		l := ledger.New(rdb, ledger.Policy{Retention: 50 * time.Millisecond, StreamMax: 100, DeadAfter: time.Minute, LostLimit: 3})
		first := marking("1")
		marked(t, l, first)
		for run := range 3 {
			for range 2 { // go-redis repeats a command whose reply was lost
				o := opening(fmt.Sprintf("r%d", run))
				o.Marked = true
				if got := must[ledger.OpenResult](t)(l.Open(ctx, first.Ref, o)); got.Admission != ledger.Proceed || got.Attempts != run+1 || !got.Enqueued.Equal(enqueued) {
					t.Errorf("opened %+v", got)
				}
			}
			wantKinds(t, rdb, "1", "record")
			if n := rdb.Exists(ctx, ledger.WaitingKey(app, "1")).Val(); n != 0 {
				t.Error("an empty hash of marks is there")
			}
			second := marking("1")
			second.Queue += ":bulk"
			if c := marked(t, l, second); c.New || c.Done || c.Queue != queue {
				t.Errorf("a claim after the first run: %+v", c)
			}
			if r := must[ledger.Record](t)(l.Record(ctx, app, "1")); r.State != "sending" || r.Queue != queue || !r.Enqueued.Equal(enqueued) {
				t.Errorf("record %+v", r)
			}
			if err := l.Defer(ctx, first.Ref, ledger.DeferRequest{Runner: fmt.Sprintf("r%d", run), State: "retrying", NotAccepted: true}); err != nil {
				t.Fatal(err)
			}
		}
		must[ledger.OpenResult](t)(l.Open(ctx, first.Ref, opening("last")))
		if s := must[ledger.SettleResult](t)(l.Settle(ctx, first.Ref, ending("accepted"))); !s.Written {
			t.Errorf("settled %+v", s)
		}
		if rdb.HExists(ctx, ledger.TaskKey(app, "1"), "enqueued").Val() {
			t.Error("a settled record still has the field enqueued")
		}
		if c := marked(t, l, first); !c.Done || c.New || c.Queue != queue {
			t.Errorf("a claim after the end: %+v", c)
		}
		wantKinds(t, rdb, "1", "record")
		rdb.Del(ctx, ledger.TaskKey(app, "1")) // stands in for the expiry
		if c := marked(t, l, first); !c.New {
			t.Errorf("a claim after the retention: %+v", c)
		}
	})
}

// TestDigests: Differs is set for another digest in every state of the task, and never when one
// of the two digests is empty.
func TestDigests(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		for _, digest := range []string{"", "first_"} {
			m := marking("digest-" + digest)
			m.Digest = digest
			marked(t, l, m)
			check := func(stage string) {
				t.Helper()
				for _, other := range []string{"", "first_", "second"} {
					again := m
					again.Digest = other
					want := digest != "" && other == "second"
					if c := marked(t, l, again); c.New || c.Differs != want || c.Queue != queue {
						t.Errorf("%s, %q after %q: %+v", stage, other, digest, c)
					}
				}
			}
			check("marked")
			must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, opening("r")))
			check("sending")
			must[ledger.SettleResult](t)(l.Settle(ctx, m.Ref, kept("failed")))
			check("done")
			if !must[bool](t)(l.BeginRedrive(ctx, m.Ref, must[ledger.RedriveState](t)(l.RedriveState(ctx, app, m.ID)))) {
				t.Fatal("not put back")
			}
			check("put back")
		}
	})
}

// TestUpdateDigest changes the digest of an unknown task, of a mark and of a record.
func TestUpdateDigest(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		update := func(digest string) {
			t.Helper()
			if err := l.UpdateDigest(ctx, app, "1", digest, ""); err != nil {
				t.Error(err)
			}
		}
		update("first_")
		wantKinds(t, rdb, "1")
		m := marking("1")
		m.State, m.Digest = "scheduled", "first_"
		marked(t, l, m)
		for _, open := range []bool{false, true} {
			if open {
				must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, opening("r")))
			}
			for _, digest := range []string{"second", "first_"} {
				update(digest)
				again := m
				if again.Digest = "second"; marked(t, l, again).Differs == (digest == "second") {
					t.Errorf("open %v: the digest is not %s", open, digest)
				}
			}
			if r := must[ledger.Record](t)(l.Record(ctx, app, "1")); r.Queue != queue || (r.State == "scheduled") == open || !r.Enqueued.Equal(enqueued) {
				t.Errorf("open %v: %+v", open, r)
			}
		}
	})
}

// sharing returns two ids whose marks share a hash.
func sharing(t *testing.T) (one, two string) {
	t.Helper()
	seen := map[string]string{}
	for i := range 100_000 {
		id := fmt.Sprintf("order-%d", i)
		if other, is := seen[ledger.WaitingKey(app, id)]; is {
			return other, id
		}
		seen[ledger.WaitingKey(app, id)] = id
	}
	t.Fatal("no two marks share a hash")
	return "", ""
}

// TestMarksThatShareAHash: marks of one hash do not affect each other, in one call and in
// several.
func TestMarksThatShareAHash(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		one, two := sharing(t)
		other := marking(two)
		other.Queue, other.State = queue+":bulk", "scheduled"
		for i, answer := range l.MarkMany(t.Context(), []ledger.MarkRequest{marking(one), other, marking(one), marking(two)}) {
			want := ledger.Claim{New: i < 2, Queue: []string{queue, other.Queue}[i%2]}
			if answer.Err != nil || answer.Claim != want {
				t.Errorf("%d: %+v", i, answer)
			}
		}
		must[ledger.OpenResult](t)(l.Open(t.Context(), ledger.Ref{App: app, ID: one}, opening("r")))
		wantKinds(t, rdb, one, "record")
		wantKinds(t, rdb, two, "mark")
		if met := must[[]ledger.CancelResult](t)(l.Cancel(t.Context(), app, []string{two})); met[0] != ledger.CancelMarked {
			t.Errorf("canceled: %v", met)
		}
		wantKinds(t, rdb, two, "record")
		if n := rdb.Exists(t.Context(), ledger.WaitingKey(app, one)).Val(); n != 0 {
			t.Error("an empty hash of marks is there")
		}
	})
}

// TestCancelMovesTheMarkToARecord: the record has the mark's queue, state and time.
func TestCancelMovesTheMarkToARecord(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		for _, state := range []string{"waiting", "scheduled"} {
			m := marking(state)
			m.State = state
			marked(t, l, m)
			for range 2 {
				if met := must[[]ledger.CancelResult](t)(l.Cancel(t.Context(), app, []string{state, "nobody"})); !slices.Equal(met, []ledger.CancelResult{ledger.CancelMarked, ledger.CancelNone}) {
					t.Errorf("%s: %v", state, met)
				}
				wantKinds(t, rdb, state, "record")
				wantKinds(t, rdb, "nobody")
			}
			if r := must[ledger.Record](t)(l.Record(t.Context(), app, state)); r.State != state || r.Queue != queue {
				t.Errorf("record %+v", r)
			}
			if c := marked(t, l, m); c.New || c.Queue != queue {
				t.Errorf("claim %+v", c)
			}
			o := opening("r")
			o.Marked = true
			if got := must[ledger.OpenResult](t)(l.Open(t.Context(), m.Ref, o)); got.Admission != ledger.Canceled || !got.Enqueued.Equal(enqueued) {
				t.Errorf("opened %+v", got)
			}
		}
	})
}

// TestSettleWithoutRun: the outcome of a task that cannot be decoded or has expired deletes its
// mark. The outcome of another generation does not.
func TestSettleWithoutRun(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		for _, open := range []bool{false, true} {
			m := marking(fmt.Sprint(open))
			marked(t, l, m)
			if open {
				late := opening("r")
				late.Expired, late.Marked = true, true
				for range 2 {
					if got := must[ledger.OpenResult](t)(l.Open(t.Context(), m.Ref, late)); got.Admission != ledger.Expired || !got.Enqueued.Equal(enqueued) {
						t.Errorf("opened %+v", got)
					}
				}
				wantKinds(t, rdb, m.ID, "mark")
			}
			stale := ending("failed")
			stale.Generation = 1
			if s := must[ledger.SettleResult](t)(l.Settle(t.Context(), m.Ref, stale)); s.Written {
				t.Error("the outcome of another generation was written")
			}
			wantKinds(t, rdb, m.ID, "mark")
			for range 2 {
				if s := must[ledger.SettleResult](t)(l.Settle(t.Context(), m.Ref, ending("failed"))); !s.Written {
					t.Errorf("settled %+v", s)
				}
			}
			wantKinds(t, rdb, m.ID, "record")
			if c := marked(t, l, m); !c.Done {
				t.Errorf("claim %+v", c)
			}
		}
	})
}

// TestEnqueuedTimeSurvivesRedrives: even if the task ended before its first run.
func TestEnqueuedTimeSurvivesRedrives(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		for _, ran := range []bool{false, true} {
			m := marking(fmt.Sprint(ran))
			marked(t, l, m)
			if ran {
				must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, opening("r")))
			}
			for generation := range 3 {
				e := kept("failed")
				e.Generation = generation
				must[ledger.SettleResult](t)(l.Settle(ctx, m.Ref, e))
				if !must[bool](t)(l.BeginRedrive(ctx, m.Ref, must[ledger.RedriveState](t)(l.RedriveState(ctx, app, m.ID)))) {
					t.Fatal("not put back")
				}
				if err := l.FinishRedrive(ctx, app, m.ID, generation+1); err != nil {
					t.Fatal(err)
				}
				o := opening(fmt.Sprintf("r%d", generation))
				o.Marked = true
				if got := must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, o)); got.Admission != ledger.Proceed || !got.Enqueued.Equal(enqueued) {
					t.Errorf("ran %v, generation %d: %+v", ran, generation, got)
				}
			}
			last := kept("accepted")
			last.Generation = 3
			must[ledger.SettleResult](t)(l.Settle(ctx, m.Ref, last))
			if rdb.HExists(ctx, ledger.TaskKey(app, m.ID), "enqueued").Val() {
				t.Error("an accepted task's record still has the field enqueued")
			}
		}
	})
}

// TestLongIDs: long ids make Redis convert a hash to its larger form, without loss.
func TestLongIDs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		for _, size := range []int{64, 65, 128} {
			m := marking(strings.Repeat("x", size))
			if c := marked(t, l, m); !c.New {
				t.Errorf("%d: claim %+v", size, c)
			}
			if got := rdb.HGet(t.Context(), ledger.WaitingKey(app, m.ID), m.ID).Val(); got != markedAt+" send:subscribe" {
				t.Errorf("%d: the mark is %q", size, got)
			}
			if got := must[ledger.OpenResult](t)(l.Open(t.Context(), m.Ref, opening("r"))); got.Admission != ledger.Proceed || !got.Enqueued.Equal(enqueued) {
				t.Errorf("%d: opened %+v", size, got)
			}
			wantKinds(t, rdb, m.ID, "record")
		}
	})
}

// TestMarksStayInListpack: Redis stores marks in a listpack, up to an id of 64 bytes, the
// longest queue and 512 fields.
func TestMarksStayInListpack(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	l := newLedger(rdb, time.Minute)
	m := marking(strings.Repeat("x", 64))
	m.Queue, m.State, m.Digest = app+":send:bizsubscribe:bulk", "scheduled", "aB-_0912"
	marked(t, l, m)
	key := ledger.WaitingKey(app, m.ID)
	for i := range 511 {
		rdb.HSet(t.Context(), key, fmt.Sprintf("%064d", i), "x")
	}
	if got := rdb.ObjectEncoding(t.Context(), key).Val(); got != "listpack" && got != "ziplist" {
		t.Errorf("Redis stores the marks as a %s", got)
	}
	if got := must[ledger.OpenResult](t)(l.Open(t.Context(), m.Ref, opening("r"))); got.Admission != ledger.Proceed {
		t.Errorf("opened %+v", got)
	}
}

// TestSpoiledMark: a field that is not a valid mark still reserves its id, and no task is lost.
func TestSpoiledMark(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		for i, text := range []string{"", "x", " ", "a  b", "- send:subscribe", "訂單", "\x00\xff", "a b c d", markedAt + " "} {
			spoiled := func(step string) ledger.MarkRequest {
				m := marking(fmt.Sprintf("%s-%d", step, i))
				rdb.HSet(ctx, ledger.WaitingKey(app, m.ID), m.ID, text)
				return m
			}
			o := opening("r")
			o.Marked = true
			m := spoiled("open")
			if got := must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, o)); got.Admission != ledger.Proceed || !got.Enqueued.IsZero() {
				t.Errorf("%q: opened %+v", text, got)
			}
			wantKinds(t, rdb, m.ID, "record")
			if r := must[ledger.Record](t)(l.Record(ctx, app, m.ID)); r.Queue != queue {
				t.Errorf("%q: record %+v", text, r)
			}

			m = spoiled("mark")
			if c := marked(t, l, m); c.New || c.Done || c.Queue != queue {
				t.Errorf("%q: claim %+v", text, c)
			}
			if r := must[ledger.Record](t)(l.Record(ctx, app, m.ID)); r.Queue != queue || !r.Enqueued.Equal(enqueued) {
				t.Errorf("%q: record %+v", text, r)
			}

			m = spoiled("record")
			if r := must[ledger.Record](t)(l.Record(ctx, app, m.ID)); r.State != "waiting" || r.Queue != "" || !r.Enqueued.IsZero() {
				t.Errorf("%q: record %+v", text, r)
			}

			m = spoiled("settle")
			if s := must[ledger.SettleResult](t)(l.Settle(ctx, m.Ref, kept("failed"))); !s.Written {
				t.Errorf("%q: settled %+v", text, s)
			}
			wantKinds(t, rdb, m.ID, "record")

			m = spoiled("cancel")
			if met := must[[]ledger.CancelResult](t)(l.Cancel(ctx, app, []string{m.ID})); met[0] != ledger.CancelMarked {
				t.Errorf("%q: %v", text, met)
			}
			if got := must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, o)); got.Admission != ledger.Canceled {
				t.Errorf("%q: opened %+v", text, got)
			}
			if s := must[ledger.SettleResult](t)(l.Settle(ctx, m.Ref, ending("canceled"))); !s.Written {
				t.Errorf("%q: settled %+v", text, s)
			}
			wantKinds(t, rdb, m.ID, "record")
		}
		// Times that results cannot express, or that exceed an int64.
		for i, at := range []string{"zzzzzzzzzzzz", "zzzzzzzzzzzzzzzzzzzz", "0"} {
			m := marking(fmt.Sprint("time-", i))
			rdb.HSet(ctx, ledger.WaitingKey(app, m.ID), m.ID, at+" send:subscribe")
			if got := must[ledger.OpenResult](t)(l.Open(ctx, m.Ref, opening("r"))); got.Admission != ledger.Proceed || !got.Enqueued.IsZero() {
				t.Errorf("%s: opened %+v", at, got)
			}
		}
	})
}

// TestWrongKeyType: a key that is not a hash fails its own id only.
func TestWrongKeyType(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		rdb.Set(ctx, ledger.WaitingKey(app, "1"), "x", 0)
		rdb.Set(ctx, ledger.TaskKey(app, "2"), "x", 0)
		for i, answer := range l.MarkMany(ctx, []ledger.MarkRequest{marking("0"), marking("1"), marking("2"), marking("3")}) {
			bad := i == 1 || i == 2
			if redis.HasErrorPrefix(answer.Err, "WRONGTYPE") != bad || answer.New == bad {
				t.Errorf("%d: %+v", i, answer)
			}
		}
		for _, id := range []string{"1", "2"} {
			if _, err := l.Record(ctx, app, id); err == nil || errors.Is(err, ledger.ErrNotFound) {
				t.Errorf("record of %s: %v", id, err)
			}
			if _, err := l.Open(ctx, ledger.Ref{App: app, ID: id}, opening("r")); err == nil {
				t.Errorf("%s was opened", id)
			}
			if met, err := l.Cancel(ctx, app, []string{"0", id}); err == nil || len(met) != 1 {
				t.Errorf("canceled with %s: %v, %v", id, met, err)
			}
		}
		// A task with a record needs no mark.
		must[ledger.OpenResult](t)(l.Open(ctx, ledger.Ref{App: app, ID: "3"}, opening("r")))
		rdb.Set(ctx, ledger.WaitingKey(app, "3"), "x", 0)
		if r := must[ledger.Record](t)(l.Record(ctx, app, "3")); r.State != "sending" {
			t.Errorf("record %+v", r)
		}
		if s := must[ledger.SettleResult](t)(l.Settle(ctx, ledger.Ref{App: app, ID: "3"}, ending("accepted"))); !s.Written {
			t.Errorf("settled %+v", s)
		}
	})
}

// TestFullRedisMarksNothing: each id gets an error, the batch does not count it, and a task
// that was marked before can be sent once there is memory again.
func TestFullRedisMarksNothing(t *testing.T) {
	ctx, rdb := t.Context(), redistest.Start(t).Client(t)
	l := newLedger(rdb, time.Minute)
	before := marking("before")
	before.Batch = "b"
	marked(t, l, before)
	full := func(limit string) {
		if err := rdb.ConfigSet(ctx, "maxmemory", limit).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1")
	many := make([]ledger.MarkRequest, 60) // more than one script claims
	for i := range many {
		many[i] = marking(fmt.Sprint(i))
		many[i].Batch = "b"
	}
	many[7] = before
	for i, answer := range l.MarkMany(ctx, many) {
		if i == 7 {
			if answer.Err != nil || answer.Queue != queue {
				t.Errorf("the task marked before: %+v", answer)
			}
		} else if !redis.HasErrorPrefix(answer.Err, "OOM") {
			t.Errorf("%d: %+v", i, answer)
		}
	}
	if _, err := l.Open(ctx, before.Ref, opening("r")); !redis.HasErrorPrefix(errors.Unwrap(err), "OOM") {
		t.Errorf("opened: %v", err)
	}
	if _, err := l.Cancel(ctx, app, []string{"before"}); err == nil {
		t.Error("canceled")
	}
	wantKinds(t, rdb, "before", "mark")
	full("0")
	for _, m := range many {
		if m.ID != "before" {
			wantKinds(t, rdb, m.ID)
		}
	}
	if n := must[map[string]int64](t)(l.Batch(ctx, app, "b"))["total"]; n != 1 {
		t.Errorf("the batch counts %d tasks, want 1", n)
	}
	if got := must[ledger.OpenResult](t)(l.Open(ctx, before.Ref, opening("r"))); got.Admission != ledger.Proceed || !got.Enqueued.Equal(enqueued) {
		t.Errorf("opened %+v", got)
	}
}

// TestManyMarks: tasks of two apps and of batches of more than one script call, some of them
// known already.
func TestManyMarks(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		const other = "wxfedcba9876543210"
		var many []ledger.MarkRequest
		for i := range 230 {
			m := marking(fmt.Sprint(i))
			if i%3 == 0 {
				m.App, m.Queue = other, other+":send:subscribe"
			}
			if i%2 == 0 {
				m.Batch = "even"
			}
			many = append(many, m)
		}
		marked(t, l, many[8])
		must[ledger.SettleResult](t)(l.Settle(ctx, many[10].Ref, ending("accepted")))
		for range 2 {
			answers := l.MarkMany(ctx, many)
			for i, answer := range answers {
				if answer.Err != nil || answer.Queue != many[i].Queue || answer.Done != (i == 10) {
					t.Errorf("%d: %+v", i, answer)
				}
			}
			if answers[8].New || answers[10].New {
				t.Error("known ids are new")
			}
		}
		for _, of := range []string{app, other} {
			want := int64(0)
			for i, m := range many {
				if m.App == of && m.Batch != "" && i != 10 {
					want++
				}
			}
			if got := must[map[string]int64](t)(l.Batch(ctx, of, "even"))["total"]; got != want {
				t.Errorf("%s: the batch counts %d tasks, want %d", of, got, want)
			}
		}
	})
}
