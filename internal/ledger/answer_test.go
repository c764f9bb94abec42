package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestLastAnswer: the answer to an attempt that did not end the task stays in its record until the
// next answer, through runs without one, and leaves it with the outcome.
func TestLastAnswer(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		ref := ledger.Ref{App: app, ID: "1"}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
		last := func() ledger.Answer {
			t.Helper()
			return must[ledger.Record](t)(l.Record(ctx, app, "1")).Last
		}
		run := func(runner string, answer ledger.Answer) {
			t.Helper()
			must[ledger.OpenResult](t)(l.Open(ctx, ref, opening(runner)))
			if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: runner, State: "retrying", NotAccepted: true, Last: answer}); err != nil {
				t.Fatal(err)
			}
		}
		if got := last(); got != (ledger.Answer{}) {
			t.Errorf("of a mark: %+v", got)
		}
		at := time.UnixMicro(time.Now().UnixMicro())
		busy := ledger.Answer{Code: -1, Class: "busy", Msg: "system error", RID: "631f4d3e-2c5a7c0b-1b2c3d4e", At: at}
		run("r1", busy)
		if got := last(); got != busy {
			t.Errorf("got %+v, want %+v", got, busy)
		}
		run("r2", ledger.Answer{})
		if got := last(); got != busy {
			t.Errorf("after a run without an answer: %+v", got)
		}
		must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("r3")))
		if got := last(); got != busy {
			t.Errorf("while it is sent: %+v", got)
		}
		if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: "another", State: "waiting", Last: ledger.Answer{Code: 1, Class: "x", At: at}}); err != nil {
			t.Fatal(err)
		}
		if got := last(); got != busy {
			t.Errorf("after a call of another runner: %+v", got)
		}
		long := ledger.Answer{Class: "no_answer", Msg: strings.Repeat("没有应答", 1000), RID: strings.Repeat("r", 1000), At: at}
		if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: "r3", State: "retrying", Last: long}); err != nil {
			t.Fatal(err)
		}
		if got := last(); len(got.Msg) > 256 || len(got.Msg) < 250 || !utf8.ValidString(got.Msg) || len(got.RID) > 64 || got.Class != "no_answer" || !got.At.Equal(at) {
			t.Errorf("a long answer: %d and %d bytes, %+v", len(got.Msg), len(got.RID), got)
		}
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, ending("accepted")))
		rdb.HSet(ctx, ledger.TaskKey(app, "odd"), "queue", queue, "last", "not an answer")
		if r := must[ledger.Record](t)(l.Record(ctx, app, "odd")); r.Last != (ledger.Answer{}) {
			t.Errorf("of an odd record: %+v", r.Last)
		}
	})
}

// TestRecordWithAnAnswerStaysSmall: Redis keeps the record of a task that is retried in its small
// form.
func TestRecordWithAnAnswerStaysSmall(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx, l := t.Context(), newLedger(rdb, time.Minute)
	ref := ledger.Ref{App: app, ID: "order-42-shipped"}
	must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
	must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("lphkcnfrfh-123456")))
	answer := ledger.Answer{Code: 45009, Class: "quota_day", Msg: "reach max api daily quota limit", RID: "631f4d3e-2c5a7c0b-1b2c3d4e", At: time.Now()}
	if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: "lphkcnfrfh-123456", State: "waiting", NotAccepted: true, Last: answer}); err != nil {
		t.Fatal(err)
	}
	key := ledger.TaskKey(app, ref.ID)
	if encoding := rdb.ObjectEncoding(ctx, key).Val(); encoding != "listpack" && encoding != "ziplist" {
		t.Errorf("the record is a %s", encoding)
	}
	with := rdb.MemoryUsage(ctx, key).Val()
	rdb.HDel(ctx, key, "last", "last_msg")
	if more := with - rdb.MemoryUsage(ctx, key).Val(); more > 150 {
		t.Errorf("the answer costs %d of %d bytes", more, with)
	} else {
		t.Logf("the answer costs %d of %d bytes", more, with)
	}
}

// TestFailedAttempts: the record keeps the last ten failed attempts with their waits, through the end of
// the task and a redrive. One failed attempt alone does not enlarge it, see
// TestRecordWithAnAnswerStaysSmall.
func TestFailedAttempts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		ref := ledger.Ref{App: app, ID: "1"}
		must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
		start := time.UnixMicro(time.Now().UnixMicro())
		var want []ledger.FailedAttempt
		fail := func(n int, msg string) {
			t.Helper()
			runner := fmt.Sprint("r", n)
			a := ledger.FailedAttempt{
				Answer: ledger.Answer{Code: -n, Class: "busy", Msg: msg, RID: strings.Repeat("r", n%3), At: start.Add(time.Duration(n) * time.Second)},
				Wait:   time.Duration(n) * 1500 * time.Millisecond,
			}
			must[ledger.OpenResult](t)(l.Open(ctx, ref, opening(runner)))
			if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: runner, State: "retrying", NotAccepted: true, Last: a.Answer, Wait: a.Wait}); err != nil {
				t.Fatal(err)
			}
			want = append(want, a)
		}
		check := func(when string) {
			t.Helper()
			expected := want[max(0, len(want)-10):]
			if got := must[ledger.History](t)(l.History(ctx, app, "1")).Failed; !slices.Equal(got, expected) {
				t.Errorf("%s: got %+v\nwant %+v", when, got, expected)
			}
		}
		check("of a mark")
		for n := range 6 {
			fail(n, fmt.Sprint("system  error ", n))
			check(fmt.Sprint("after ", n))
		}
		must[ledger.OpenResult](t)(l.Open(ctx, ref, opening("last")))
		end := ending("failed")
		end.Content.Payload = []byte("x")
		must[ledger.SettleResult](t)(l.Settle(ctx, ref, end))
		check("after the end")
		state := must[ledger.RedriveState](t)(l.RedriveState(ctx, app, "1"))
		if !must[bool](t)(l.BeginRedrive(ctx, ref, state)) {
			t.Fatal("not redriven")
		}
		check("after a redrive")
		if r := must[ledger.Record](t)(l.Record(ctx, app, "1")); r.Last != (ledger.Answer{}) {
			t.Errorf("the last answer of the new generation is %+v", r.Last)
		}
		if err := l.FinishRedrive(ctx, app, "1", 1); err != nil {
			t.Fatal(err)
		}
		for n := range 12 {
			fail(n+6, "没有应答")
		}
		check("after many")

		// A text of several lines, cut inside of a character.
		want = nil
		rdb.HDel(ctx, ledger.TaskKey(app, "1"), "log", "last", "last_msg", "last_wait")
		fail(1, strings.Repeat("没有\n应答\t", 20))
		fail(2, "ok")
		got := must[ledger.History](t)(l.History(ctx, app, "1")).Failed
		if len(got) != 2 || !utf8.ValidString(got[0].Msg) || len(got[0].Msg) < 96 || len(got[0].Msg) > 100 || !strings.HasPrefix(got[0].Msg, "没有 应答 ") {
			t.Errorf("got %+v", got)
		}
		// What another program or version has written is left out.
		rdb.HSet(ctx, ledger.TaskKey(app, "1"), "log", "x\n1 2 3 4\n\n5 x y z a b\n")
		if got := must[ledger.History](t)(l.History(ctx, app, "1")).Failed; len(got) != 1 || got[0].Msg != "ok" {
			t.Errorf("of an odd log: %+v", got)
		}
	})
}

// TestMemoryOfFailedAttempts: what a record costs by the number of its failed attempts.
func TestMemoryOfFailedAttempts(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx, l := t.Context(), newLedger(rdb, time.Minute)
	ref := ledger.Ref{App: app, ID: "order-42-shipped"}
	must[ledger.Claim](t)(l.Mark(ctx, ref, queue, "waiting"))
	var sizes []int64
	for n := range 12 {
		runner := fmt.Sprint("lphkcnfrfh-12345", n)
		must[ledger.OpenResult](t)(l.Open(ctx, ref, opening(runner)))
		answer := ledger.Answer{Code: 45009, Class: "quota_day", Msg: "reach max api daily quota limit", RID: "631f4d3e-2c5a7c0b-1b2c3d4e", At: time.Now()}
		if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: runner, State: "waiting", NotAccepted: true, Last: answer, Wait: time.Hour}); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, rdb.MemoryUsage(ctx, ledger.TaskKey(app, ref.ID), 0).Val())
	}
	t.Logf("bytes of the record after each attempt: %v", sizes)
	if perAttempt := (sizes[9] - sizes[1]) / 8; perAttempt > 130 || sizes[11] > sizes[9]+64 {
		t.Errorf("an attempt costs %d bytes: %v", perAttempt, sizes)
	}
}
