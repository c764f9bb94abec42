package ledger_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// kept returns a settlement with the content of the task.
func kept(outcome string) ledger.SettleRequest {
	e := ending(outcome)
	e.Content = ledger.TaskContent{Payload: []byte(`{"type":"x"}`), Headers: map[string]string{"a": "b"}}
	return e
}

// endedAs marks, opens and settles a task.
func endedAs(t *testing.T, l *ledger.Ledger, ref ledger.Ref, outcome string) ledger.RedriveState {
	t.Helper()
	must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue, "waiting"))
	must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("run-"+ref.ID)))
	must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, kept(outcome)))
	return must[ledger.RedriveState](t)(l.RedriveState(t.Context(), ref.App, ref.ID))
}

// TestRedrivablePayloadsAreKept: payload and image are kept as long as the record, and only for
// outcomes that can be redriven.
func TestRedrivablePayloadsAreKept(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		for outcome, want := range map[string]bool{
			"unknown": true, "failed": true, "rejected": true,
			"accepted": false, "refused": false, "expired": false, "canceled": false,
		} {
			ref := ledger.Ref{App: app, ID: outcome}
			if err := l.PutBlob(t.Context(), app, outcome, []byte("image")); err != nil {
				t.Fatal(err)
			}
			e := endedAs(t, l, ref, outcome)
			if got := string(e.Content.Payload) == `{"type":"x"}` && e.Content.Headers["a"] == "b"; got != want {
				t.Errorf("%s: kept %q, %v", outcome, e.Content.Payload, e.Content.Headers)
			}
			if _, err := l.Blob(t.Context(), app, outcome); (err == nil) != want {
				t.Errorf("%s: the image: %v", outcome, err)
			}
			ttl := func() time.Duration {
				return rdb.PTTL(t.Context(), fmt.Sprintf("wxcourier:{%s}:blob:%s", app, outcome)).Val()
			}
			if got := ttl(); want && (got <= 0 || got > time.Hour) {
				t.Errorf("%s: the image lives for %v", outcome, got)
			}
			if _, err := l.BeginRedrive(t.Context(), ref, e); (err == nil) != want {
				t.Errorf("%s: put back: %v", outcome, err)
			}
			if got := ttl(); want && got >= 0 {
				t.Errorf("%s: the image of a redriven task expires in %v", outcome, got)
			}
		}
	})
}

// TestReplacedUnknownDropsThePayload: when the fence's owner replaces unknown, the payload is
// deleted.
func TestReplacedUnknownDropsThePayload(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, ref := newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		endedAs(t, l, ref, "unknown")
		late := kept("accepted")
		late.Replaces = "run-1"
		if s := must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, late)); !s.Written {
			t.Fatalf("%+v", s)
		}
		if e := must[ledger.RedriveState](t)(l.RedriveState(t.Context(), app, "1")); len(e.Content.Payload) > 0 || e.Content.Headers != nil {
			t.Errorf("kept %q", e.Content.Payload)
		}
	})
}

func TestBeginRedrive(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		for _, outcome := range ledger.Redrivable() {
			ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: outcome, Batch: "b-" + outcome}
			e := endedAs(t, l, ref, outcome)
			if !must[bool](t)(l.BeginRedrive(ctx, ref, e)) {
				t.Fatalf("%s was not put back", outcome)
			}
			if !must[bool](t)(l.BeginRedrive(ctx, ref, e)) { // go-redis repeats a command whose reply was lost
				t.Errorf("%s: the second call returned false", outcome)
			}
			after := must[ledger.RedriveState](t)(l.RedriveState(ctx, app, outcome))
			if after.Outcome != "" || after.Generation != 1 || !after.InProgress || len(after.Content.Payload) == 0 || len(after.History) != 1 {
				t.Errorf("%s: %+v", outcome, after)
			}
			if past := after.History[0]; past.Generation != 0 || past.Outcome != outcome || string(past.Result) != string(e.Result) {
				t.Errorf("%s: history %+v", outcome, past)
			}
			counts := must[map[string]int64](t)(l.Batch(ctx, app, ref.Batch))
			if counts["total"] != 1 || counts["done"] != 0 || counts[outcome] != 0 {
				t.Errorf("%s: batch %v", outcome, counts)
			}
			for _, key := range []string{ledger.TaskKey(app, outcome), ledger.BatchKey(app, ref.Batch), ledger.BatchKey(app, ref.Batch) + ":ids"} {
				if ttl := rdb.PTTL(ctx, key).Val(); ttl >= 0 {
					t.Errorf("%s expires in %v", key, ttl)
				}
			}
			if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("next"))); o.Admission != ledger.Proceed || o.Generation != 1 || o.Attempts != 1 || o.Doubt {
				t.Errorf("%s: opened %+v", outcome, o)
			}
			// The runner of the first generation settles late.
			late := ending("accepted")
			late.Replaces = "run-" + outcome
			if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, late)); s.Written || s.Outcome != "" {
				t.Errorf("%s: a late answer: %+v", outcome, s)
			}
			done := ending("accepted")
			done.Generation = 1
			if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, done)); !s.Written {
				t.Errorf("%s: settled %+v", outcome, s)
			}
			counts = must[map[string]int64](t)(l.Batch(ctx, app, ref.Batch))
			if counts["total"] != 1 || counts["done"] != 1 || counts["accepted"] != 1 {
				t.Errorf("%s: batch %v", outcome, counts)
			}
			if ttl := rdb.PTTL(ctx, ledger.TaskKey(app, outcome)).Val(); ttl <= 0 {
				t.Errorf("%s: the record lives for %v", outcome, ttl)
			}
		}
	})
}

// TestBeginRedriveOfAChangedRecord: a redrive does nothing when the record has changed since it was
// read, or has no payload.
func TestBeginRedriveOfAChangedRecord(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		for name, meanwhile := range map[string]func(ref ledger.Ref, e *ledger.RedriveState){
			"the answer arrived": func(ref ledger.Ref, _ *ledger.RedriveState) {
				late := ending("accepted")
				late.Replaces = "run-" + ref.ID
				must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, late))
			},
			"it was redriven and ended again": func(ref ledger.Ref, e *ledger.RedriveState) {
				must[bool](t)(l.BeginRedrive(t.Context(), ref, *e))
				must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("again")))
				next := kept("unknown")
				next.Generation = 1
				must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, next))
			},
			"it was redriven and is being sent": func(ref ledger.Ref, e *ledger.RedriveState) {
				must[bool](t)(l.BeginRedrive(t.Context(), ref, *e))
				must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("again")))
			},
			"its record has expired": func(ref ledger.Ref, _ *ledger.RedriveState) {
				rdb.Del(t.Context(), ledger.TaskKey(app, ref.ID))
			},
			"another result": func(_ ledger.Ref, e *ledger.RedriveState) { e.Result = []byte("{}") },
		} {
			ref := ledger.Ref{App: app, ID: fmt.Sprint(len(name), name[0])}
			e := endedAs(t, l, ref, "unknown")
			meanwhile(ref, &e)
			if must[bool](t)(l.BeginRedrive(t.Context(), ref, e)) {
				t.Errorf("%s: it was put back", name)
			}
		}
		bare := ledger.Ref{App: app, ID: "bare"}
		must[ledger.SettleResult](t)(l.Settle(t.Context(), bare, ending("rejected")))
		if e := must[ledger.RedriveState](t)(l.RedriveState(t.Context(), app, "bare")); must[bool](t)(l.BeginRedrive(t.Context(), bare, e)) {
			t.Error("a task without a payload was put back")
		}
		if _, err := l.RedriveState(t.Context(), app, "nobody"); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
	})
}

// TestRedrivesInProgress: a redrive is in progress until asynq or a runner has the task.
func TestRedrivesInProgress(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		refs := map[string]ledger.Ref{}
		for _, id := range []string{"handed", "opened", "broken"} {
			refs[id] = ledger.Ref{App: app, ID: id}
			must[bool](t)(l.BeginRedrive(ctx, refs[id], endedAs(t, l, refs[id], "failed")))
		}
		if err := l.FinishRedrive(ctx, app, "handed", 0); err != nil { // late, of an earlier redrive
			t.Fatal(err)
		}
		ids := must[[]string](t)(l.RedrivesInProgress(ctx, app))
		if slices.Sort(ids); !slices.Equal(ids, []string{"broken", "handed", "opened"}) {
			t.Errorf("in progress: %v", ids)
		}
		if err := l.FinishRedrive(ctx, app, "handed", 1); err != nil {
			t.Fatal(err)
		}
		must[ledger.OpenResult](t)(l.Open(ctx, refs["opened"], opening("r")))
		for id, want := range map[string]bool{"handed": false, "opened": false, "broken": true} {
			e := must[ledger.RedriveState](t)(l.RedriveState(ctx, app, id))
			if got := must[bool](t)(l.IsRedriveInProgress(ctx, app, id)); got != want || e.InProgress != want || (len(e.Content.Payload) > 0) != want {
				t.Errorf("%s: %v, %+v", id, got, e)
			}
		}
	})
}

func TestHistoryIsCapped(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		endedAs(t, l, ref, "failed")
		for generation := range 13 {
			must[bool](t)(l.BeginRedrive(ctx, ref, must[ledger.RedriveState](t)(l.RedriveState(ctx, app, "1"))))
			next := kept("failed")
			next.Generation = generation + 1
			must[ledger.SettleResult](t)(l.Settle(ctx, ref, next))
		}
		e := must[ledger.RedriveState](t)(l.RedriveState(ctx, app, "1"))
		if len(e.History) != 10 || e.History[0].Generation != 3 || e.History[9].Generation != 12 || e.Generation != 13 {
			t.Errorf("generation %d, history %+v", e.Generation, e.History)
		}
		text := rdb.HGet(ctx, ledger.TaskKey(app, "1"), "history").Val()
		if !json.Valid([]byte(text)) {
			t.Errorf("history %s", text)
		}
	})
}

// TestRedriveOverridesACanceledBatch: a redrive exempts its task from earlier cancellations of
// the batch, not from later ones.
func TestRedriveOverridesACanceledBatch(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1", Batch: "b"}
		e := endedAs(t, l, ref, "rejected")
		waits := ledger.Ref{App: app, ID: "waits", Batch: "b"}
		must[ledger.Claim](t)(l.Mark(ctx, waits, queue, "waiting"))
		for range 2 {
			must[int64](t)(l.CancelBatch(ctx, app, "b"))
		}
		must[bool](t)(l.BeginRedrive(ctx, ref, e))
		if o := must[ledger.OpenResult](t)(l.Open(ctx, waits, opening("r"))); o.Admission != ledger.Canceled {
			t.Errorf("one that waited: %+v", o)
		}
		if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r"))); o.Admission != ledger.Proceed {
			t.Errorf("redriven: %+v", o)
		}
		if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: "r", State: "waiting", NotAccepted: true, NotCalled: true}); err != nil {
			t.Fatal(err)
		}
		if n := must[int64](t)(l.CancelBatch(ctx, app, "b")); n != 2 {
			t.Errorf("%d were open", n)
		}
		if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r"))); o.Admission != ledger.Canceled {
			t.Errorf("canceled after its redrive: %+v", o)
		}
		if counts := must[map[string]int64](t)(l.Batch(ctx, app, "b")); counts["withdrawals"]+counts["withdrawn"] != 0 {
			t.Errorf("batch %v", counts)
		}
	})
}

func TestBatchEnded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		ref := func(id string) ledger.Ref { return ledger.Ref{App: app, ID: id, Batch: "b"} }
		want := map[string]bool{}
		for i := range 1500 { // several pages
			id, outcome := fmt.Sprint(i), []string{"accepted", "failed", "rejected"}[i%3]
			must[ledger.Claim](t)(l.Mark(t.Context(), ref(id), queue, "waiting"))
			must[ledger.SettleResult](t)(l.Settle(t.Context(), ref(id), kept(outcome)))
			if outcome == "failed" {
				want[id] = true
			}
		}
		got := map[string]bool{}
		for cursor := uint64(0); ; {
			ids, next, err := l.BatchEnded(t.Context(), ref(""), cursor, []string{"failed", "unknown"})
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				got[id] = true
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d tasks, want %d", len(got), len(want))
		}
		if _, _, err := l.BatchEnded(t.Context(), ledger.Ref{App: app, Batch: "none"}, 0, []string{"failed"}); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("no batch: %v", err)
		}
	})
}

// TestCancelMany: more than one pipeline, also after SCRIPT FLUSH.
func TestCancelMany(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		var ids []string
		for i := range 1200 {
			ids = append(ids, fmt.Sprint(i))
			must[ledger.Claim](t)(l.Mark(ctx, ledger.Ref{App: app, ID: ids[i]}, queue, "waiting"))
		}
		must[ledger.OpenResult](t)(l.Open(ctx, ledger.Ref{App: app, ID: "3"}, opening("r")))
		must[ledger.SettleResult](t)(l.Settle(ctx, ledger.Ref{App: app, ID: "700"}, ending("accepted")))
		ids[1199] = "nobody"
		for range 2 {
			if err := rdb.ScriptFlush(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			met := must[[]ledger.CancelResult](t)(l.Cancel(ctx, app, ids))
			if len(met) != 1200 {
				t.Fatalf("%d answers", len(met))
			}
			for i, got := range met {
				want := ledger.CancelMarked
				switch i {
				case 3:
					want = ledger.CancelSending
				case 700:
					want = ledger.CancelDone
				case 1199:
					want = ledger.CancelNone
				}
				if got != want {
					t.Errorf("%d: %s, want %s", i, got, want)
				}
			}
		}
		if met, err := l.Cancel(ctx, app, nil); err != nil || len(met) != 0 {
			t.Errorf("none: %v, %v", met, err)
		}
	})
}
