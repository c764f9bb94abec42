package ledger_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const (
	app   = "wx0123456789abcdef"
	queue = app + ":send:subscribe"
)

func newLedger(rdb redis.UniversalClient, deadAfter time.Duration) *ledger.Ledger {
	return ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100, DeadAfter: deadAfter, LostLimit: 3})
}

func opening(runner string) ledger.OpenRequest {
	return ledger.OpenRequest{Runner: runner, Queue: queue, Fenced: true}
}

func ending(outcome string) ledger.SettleRequest {
	return ledger.SettleRequest{Outcome: outcome, Result: []byte(`{"outcome":"` + outcome + `"}`), Queue: queue}
}

// must returns a function that fails the test on an error, and returns the value.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestOneProducerClaimsAnID(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, ref := newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1", Batch: "b"}
		var claimed atomic.Int64
		var producers sync.WaitGroup
		for range 20 {
			producers.Go(func() {
				c, err := l.Mark(t.Context(), ref, queue, "waiting")
				if err != nil {
					t.Error(err)
				}
				if c.New {
					claimed.Add(1)
				}
				if c.Queue != queue || c.Done {
					t.Errorf("claim %+v", c)
				}
			})
		}
		producers.Wait()
		if claimed.Load() != 1 {
			t.Errorf("%d producers claimed the id, want 1", claimed.Load())
		}
		if n := must[map[string]int64](t)(l.Batch(t.Context(), app, "b"))["total"]; n != 1 {
			t.Errorf("the batch counts %d tasks, want 1", n)
		}
		// A claim of the same id for another queue returns the first queue.
		c := must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue+":bulk", "waiting"))
		if c.New || c.Queue != queue {
			t.Errorf("a second mark: %+v", c)
		}
	})
}

func TestSettleOnce(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		ref := ledger.Ref{App: app, ID: "1", Batch: "b"}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
		if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r1"))); o.Admission != ledger.Proceed || o.Attempts != 1 || o.Generation != 0 {
			t.Fatalf("opened %+v", o)
		}
		var written atomic.Int64
		var runners sync.WaitGroup
		for i := range 10 {
			runners.Go(func() {
				e := ending("accepted")
				e.Result = fmt.Appendf(nil, `{"outcome":"accepted","by":%d}`, i)
				if must[ledger.SettleResult](t)(l.Settle(ctx, ref, e)).Written {
					written.Add(1)
				}
			})
		}
		runners.Wait()
		if written.Load() != 1 || rdb.XLen(ctx, ledger.StreamKey(app)).Val() != 1 {
			t.Errorf("%d outcomes written, %d stream entries", written.Load(), rdb.XLen(ctx, ledger.StreamKey(app)).Val())
		}
		s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("failed")))
		if s.Written || s.Outcome != "accepted" || !strings.HasPrefix(string(s.Result), `{"outcome":"accepted"`) {
			t.Errorf("a second outcome: %+v", s)
		}
		counts := must[map[string]int64](t)(l.Batch(ctx, app, "b"))
		if counts["accepted"] != 1 || counts["done"] != 1 || counts["failed"] != 0 {
			t.Errorf("batch %v", counts)
		}
		if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r2"))); o.Admission != ledger.Settled {
			t.Errorf("opened after the end: %+v", o)
		}
		if c := must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting")); !c.Done {
			t.Errorf("marked after the end: %+v", c)
		}
		if ttl := rdb.PTTL(ctx, ledger.TaskKey(app, "1")).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("the record lives for %v", ttl)
		}
	})
}

// TestOpen takes a task through the histories that it can have, and checks the admission of
// the next runner.
func TestOpen(t *testing.T) {
	const dedupe = 10 * time.Minute
	runOut := func(o ledger.OpenRequest) ledger.OpenRequest { o.Expired = true; return o }
	within := func(o ledger.OpenRequest) ledger.OpenRequest { o.Dedupe = dedupe; return o }
	bare := func(o ledger.OpenRequest) ledger.OpenRequest { o.Fenced = false; return o }
	same := func(o ledger.OpenRequest) ledger.OpenRequest { return o }
	type step = func(t *testing.T, l *ledger.Ledger, ref ledger.Ref, o ledger.OpenRequest)
	runs := 0
	deferred := func(notAccepted bool) step {
		return func(t *testing.T, l *ledger.Ledger, ref ledger.Ref, o ledger.OpenRequest) {
			runs++
			o.Runner = fmt.Sprintf("run%d", runs)
			if got := must[ledger.OpenResult](t)(l.Open(t.Context(), ref, o)); got.Admission != ledger.Proceed {
				t.Fatalf("the first run: %+v", got)
			}
			if err := l.Defer(t.Context(), ref, ledger.DeferRequest{Runner: o.Runner, State: "retrying", NotAccepted: notAccepted}); err != nil {
				t.Fatal(err)
			}
		}
	}
	died := func(t *testing.T, l *ledger.Ledger, ref ledger.Ref, o ledger.OpenRequest) {
		runs++
		o.Runner = fmt.Sprintf("dead%d", runs)
		must[ledger.OpenResult](t)(l.Open(t.Context(), ref, o))
	}
	cancel := func(t *testing.T, l *ledger.Ledger, ref ledger.Ref, _ ledger.OpenRequest) {
		if c := must[[]ledger.CancelResult](t)(l.Cancel(t.Context(), ref.App, []string{ref.ID})); c[0] != ledger.CancelMarked {
			t.Fatalf("canceled: %s", c)
		}
	}
	cancelBatch := func(t *testing.T, l *ledger.Ledger, ref ledger.Ref, _ ledger.OpenRequest) {
		if n := must[int64](t)(l.CancelBatch(t.Context(), ref.App, ref.Batch)); n != 1 {
			t.Fatalf("%d canceled", n)
		}
	}
	for _, c := range []struct {
		name      string
		kind      func(ledger.OpenRequest) ledger.OpenRequest
		deadAfter time.Duration
		before    []step
		next      func(ledger.OpenRequest) ledger.OpenRequest
		want      ledger.Admission
	}{
		{"first run", same, time.Hour, nil, same, ledger.Proceed},
		{"after a known failure", same, time.Hour, []step{deferred(true)}, same, ledger.Proceed},
		{"after no answer, unsafe to repeat", same, time.Hour, []step{deferred(false)}, same, ledger.Unknown},
		{"after no answer, deduplicated", within, time.Hour, []step{deferred(false)}, within, ledger.Proceed},
		{"after no answer, deduplicated, too late to send", within, time.Hour, []step{deferred(false)}, func(o ledger.OpenRequest) ledger.OpenRequest { return runOut(within(o)) }, ledger.Unknown},
		{"after no answer and a known failure, deduplicated, too late to send", within, time.Hour, []step{deferred(false), deferred(true)}, func(o ledger.OpenRequest) ledger.OpenRequest { return runOut(within(o)) }, ledger.Unknown},
		{"after no answer, safe to repeat", bare, time.Hour, []step{deferred(false)}, bare, ledger.Proceed},
		{"another runner has it", same, time.Hour, []step{died}, same, ledger.Busy},
		{"another runner has it, safe to repeat", bare, time.Hour, []step{died}, bare, ledger.Busy},
		{"another runner died", same, 0, []step{died}, same, ledger.Unknown},
		{"another runner died, too late to send", same, 0, []step{died}, runOut, ledger.Unknown},
		{"another runner died, safe to repeat", bare, 0, []step{died}, bare, ledger.Proceed},
		{"three runners died", bare, 0, []step{died, died, died}, bare, ledger.Lost},
		{"three runners died, deduplicated", within, 0, []step{died, died, died}, within, ledger.Unknown},
		{"not_after passed", same, time.Hour, nil, runOut, ledger.Expired},
		{"canceled", same, time.Hour, []step{cancel}, same, ledger.Canceled},
		{"canceled with its batch", same, time.Hour, []step{cancelBatch}, same, ledger.Canceled},
		{"canceled after a known failure", same, time.Hour, []step{deferred(true), cancel}, same, ledger.Canceled},
		{"canceled after no answer", same, time.Hour, []step{deferred(false), cancel}, same, ledger.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				l, ref := newLedger(rdb, c.deadAfter), ledger.Ref{App: app, ID: "1", Batch: "b"}
				must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue, "waiting"))
				for _, before := range c.before {
					before(t, l, ref, c.kind(opening("r1")))
				}
				got := must[ledger.OpenResult](t)(l.Open(t.Context(), ref, c.next(opening("r2"))))
				if got.Admission != c.want {
					t.Errorf("got %s, want %s", got.Admission, c.want)
				}
				if (got.Admission == ledger.Busy) != (got.Wait > 0) {
					t.Errorf("admission %s with a wait of %v", got.Admission, got.Wait)
				}
			})
		})
	}
}

// TestScriptsAreIdempotent: go-redis repeats a script whose reply was lost.
func TestScriptsAreIdempotent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Hour), ledger.Ref{App: app, ID: "1"}
		for range 2 {
			if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r1"))); o.Admission != ledger.Proceed || o.Attempts != 1 {
				t.Errorf("opened %+v", o)
			}
		}
		for range 2 {
			if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("accepted"))); !s.Written {
				t.Errorf("settled %+v", s)
			}
		}
		if n := rdb.XLen(ctx, ledger.StreamKey(app)).Val(); n != 1 {
			t.Errorf("%d stream entries", n)
		}
	})
}

// TestRunWithoutCallIsNoAttempt: a run that made no request does not count as an attempt.
func TestRunWithoutCallIsNoAttempt(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Hour), ledger.Ref{App: app, ID: "1"}
		for i := range 3 {
			o := must[ledger.OpenResult](t)(l.Open(ctx, ref, opening(fmt.Sprintf("r%d", i))))
			if o.Admission != ledger.Proceed || o.Attempts != 1 {
				t.Errorf("opened %+v", o)
			}
			d := ledger.DeferRequest{Runner: fmt.Sprintf("r%d", i), State: "waiting", NotAccepted: true, NotCalled: true}
			if err := l.Defer(ctx, ref, d); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestOwnerReplacesUnknown(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, 0)
		ref := ledger.Ref{App: app, ID: "1", Batch: "b"}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
		must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("owner")))
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("unknown")))
		late := ending("accepted")
		late.Replaces = "other"
		if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, late)); s.Written {
			t.Error("a runner that does not own the fence replaced unknown")
		}
		late.Replaces = "owner"
		if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, late)); !s.Written {
			t.Errorf("the owner could not replace unknown: %+v", s)
		}
		counts := must[map[string]int64](t)(l.Batch(ctx, app, "b"))
		if counts["unknown"] != 0 || counts["accepted"] != 1 || counts["done"] != 1 {
			t.Errorf("batch %v", counts)
		}
	})
}

func TestOtherGenerationIsNotWritten(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
		old := ending("accepted")
		old.Generation = 7
		if s := must[ledger.SettleResult](t)(l.Settle(ctx, ref, old)); s.Written {
			t.Error("the outcome of another generation was written")
		}
	})
}

func TestImagesAndBlobs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		if err := l.PutBlob(ctx, app, "1", []byte{0xff, 0, 1}); err != nil {
			t.Fatal(err)
		}
		if b := must[[]byte](t)(l.Blob(ctx, app, "1")); !slices.Equal(b, []byte{0xff, 0, 1}) {
			t.Errorf("blob %v", b)
		}
		e := ending("accepted")
		e.Image = []byte{0x89, 'P', 0, 0xff}
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, e))
		if b := must[[]byte](t)(l.Image(ctx, app, "1")); !slices.Equal(b, e.Image) {
			t.Errorf("image %v", b)
		}
		if _, err := l.Blob(ctx, app, "1"); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("the blob was not deleted with its task: %v", err)
		}
	})
}

func TestRecord(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		if _, err := l.Record(ctx, app, "1"); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("no record: %v", err)
		}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "scheduled"))
		if r := must[ledger.Record](t)(l.Record(ctx, app, "1")); r.State != "scheduled" || r.Queue != queue || r.Generation != 0 {
			t.Errorf("record %+v", r)
		}
		must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r1")))
		if r := must[ledger.Record](t)(l.Record(ctx, app, "1")); r.State != "sending" || r.Attempts != 1 {
			t.Errorf("record %+v", r)
		}
	})
}

// TestTaskOfPlainAsynqClient: a plain asynq client makes no mark; the task joins its batch when
// it is opened.
func TestTaskOfPlainAsynqClient(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1", Batch: "b"}
		late := opening("r1")
		late.Expired = true
		if o := must[ledger.OpenResult](t)(l.Open(ctx, ref, late)); o.Admission != ledger.Expired {
			t.Fatalf("opened %+v", o)
		}
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("expired")))
		if c := must[map[string]int64](t)(l.Batch(ctx, app, "b")); c["total"] != 1 || c["done"] != 1 {
			t.Errorf("batch %v", c)
		}
	})
}

// TestMarkedTaskWithoutRecordIsNotSent: a marked task whose record is gone may have been sent
// long ago.
func TestMarkedTaskWithoutRecordIsNotSent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		marked := opening("r1")
		marked.Marked = true
		o := must[ledger.OpenResult](t)(newLedger(rdb, time.Minute).Open(t.Context(), ledger.Ref{App: app, ID: "1"}, marked))
		if o.Admission != ledger.Forgotten {
			t.Errorf("opened %+v", o)
		}
	})
}

// TestBatchNameCanBeReused: the cancellation of a batch that has ended does not apply to the
// next batch of its name.
func TestBatchNameCanBeReused(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		ref := func(id string) ledger.Ref { return ledger.Ref{App: app, ID: id, Batch: "daily"} }
		open := func(id string) ledger.Admission {
			return must[ledger.OpenResult](t)(l.Open(ctx, ref(id), opening("r"+id))).Admission
		}
		for _, id := range []string{"1", "2"} {
			must[ledger.Claim](t)(l.Mark(ctx, ref(id), queue, "waiting"))
		}
		must[int64](t)(l.CancelBatch(ctx, app, "daily"))
		must[ledger.Claim](t)(l.Mark(ctx, ref("joins"), queue, "waiting"))
		for _, id := range []string{"1", "2", "joins"} {
			if got := open(id); got != ledger.Canceled {
				t.Errorf("%s: %s", id, got)
			}
			must[ledger.SettleResult](t)(l.Settle(ctx, ref(id), ending("canceled")))
		}
		must[ledger.Claim](t)(l.Mark(ctx, ref("tomorrow"), queue, "waiting"))
		if got := open("tomorrow"); got != ledger.Proceed {
			t.Errorf("tomorrow: %s", got)
		}
	})
}

// TestCanceledBatchOfPlainAsynqClient: the tasks of a plain asynq client join the batch with
// their first run. Those enqueued before the cancellation are canceled, even when all others
// have ended; those enqueued later are not.
func TestCanceledBatchOfPlainAsynqClient(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		ref := func(id string) ledger.Ref { return ledger.Ref{App: app, ID: id, Batch: "daily"} }
		now := func() time.Time { return rdb.Time(ctx).Val() }
		opened := func(id string, enqueued time.Time, want ledger.Admission) {
			t.Helper()
			o := opening("r" + id)
			o.Enqueued = enqueued
			for range 2 { // go-redis repeats a command whose reply was lost
				if got := must[ledger.OpenResult](t)(l.Open(ctx, ref(id), o)).Admission; got != want {
					t.Errorf("%s: %s, want %s", id, got, want)
				}
			}
		}
		settled := func(id, outcome string) {
			t.Helper()
			must[ledger.SettleResult](t)(l.Settle(ctx, ref(id), ending(outcome)))
		}
		before := now().Add(-time.Minute)
		opened("first", before, ledger.Proceed)
		settled("first", "accepted")
		if n := must[int64](t)(l.CancelBatch(ctx, app, "daily")); n != 0 {
			t.Errorf("%d were open", n)
		}
		after := now().Add(time.Minute)
		opened("before", before, ledger.Canceled)
		opened("unknown", time.Time{}, ledger.Canceled)
		opened("joins", after, ledger.Canceled)
		for _, id := range []string{"before", "unknown", "joins"} {
			settled(id, "canceled")
		}
		opened("after", after, ledger.Proceed)
		opened("late", before, ledger.Canceled) // enqueued before, opened only now
		settled("late", "canceled")
		settled("after", "accepted")
		opened("again", after, ledger.Proceed)

		must[int64](t)(l.CancelBatch(ctx, app, "daily"))
		opened("again", after, ledger.Canceled)
		if counts := must[map[string]int64](t)(l.Batch(ctx, app, "daily")); counts["total"] != 7 || len(counts) != 4 {
			t.Errorf("batch %v", counts)
		}
	})
}

// TestNoBlobForEndedTask: PutBlob stores nothing for an ended task, since it would never be
// deleted.
func TestNoBlobForEndedTask(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, ref := t.Context(), newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("accepted")))
		if err := l.PutBlob(ctx, app, "1", []byte("image")); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Blob(ctx, app, "1"); !errors.Is(err, ledger.ErrNotFound) {
			t.Errorf("the blob was stored: %v", err)
		}
	})
}
