package ledger_test

import (
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
		if fields := rdb.HGetAll(ctx, ledger.TaskKey(app, "1")).Val(); fields["last"] != "" || fields["last_msg"] != "" {
			t.Errorf("after the end: %v", fields)
		}
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
