package tasks_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestResultOfAWaitingTask: the result of a task without an outcome says what it waits for, until
// when, and what the last attempt was answered.
func TestResultOfAWaitingTask(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client, holds := t.Context(), tasks.NewClient(rdb), hold.NewStore(rdb)
		submit := func(id string, change func(*tasks.Envelope)) {
			t.Helper()
			e := message(id)
			change(&e)
			if _, err := client.Submit(ctx, e); err != nil {
				t.Fatal(err)
			}
		}
		result := func(id string) tasks.Result {
			t.Helper()
			r, err := client.Result(ctx, clientApp, id)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		later := time.Now().Add(time.Hour).Truncate(time.Second)
		submit("later", func(e *tasks.Envelope) { e.ProcessAt = later })
		submit("due", func(e *tasks.Envelope) { e.Batch = "b" })
		submit("deleted", func(*tasks.Envelope) {})
		if r := result("later"); r.State != tasks.StateScheduled || r.WaitsFor != tasks.WaitsForProcessAt || !r.NextAt.Equal(later) || r.Last != nil {
			t.Errorf("scheduled: %+v", r)
		}
		if r := result("due"); r.State != tasks.StateWaiting || r.WaitsFor != tasks.WaitsForTurn || !r.NextAt.IsZero() || r.Batch != "b" {
			t.Errorf("due: %+v", r)
		}

		// An attempt was refused.
		l, ref := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100, DeadAfter: time.Minute, LostLimit: 3}), ledger.Ref{App: clientApp, ID: "due"}
		if _, err := l.Open(ctx, ref, ledger.OpenRequest{Runner: "r", Queue: tasks.QueueName(clientApp, message("").Type, tasks.Urgent), Marked: true}); err != nil {
			t.Fatal(err)
		}
		answer := ledger.Answer{Code: 45009, Class: "quota_day", Msg: "reach max api daily quota limit", RID: "r-1", At: time.UnixMicro(time.Now().UnixMicro())}
		if err := l.Defer(ctx, ref, ledger.DeferRequest{Runner: "r", State: "waiting", NotAccepted: true, Last: answer}); err != nil {
			t.Fatal(err)
		}
		until := time.Now().Add(2 * time.Hour).Truncate(time.Millisecond)
		if _, err := holds.Set(ctx, hold.Hold{App: clientApp, Scope: message("").Type, Reason: "quota_day", Code: 45009, Until: until, By: "worker r"}); err != nil {
			t.Fatal(err)
		}
		r := result("due")
		if r.WaitsFor != tasks.WaitsForHold || r.Reason != "quota_day" || !r.NextAt.Equal(until) || r.Attempts != 1 || r.Last == nil {
			t.Fatalf("held: %+v", r)
		}
		if want := (tasks.LastAnswer{ErrCode: 45009, ErrMsg: answer.Msg, RID: "r-1", Class: "quota_day", At: answer.At}); *r.Last != want {
			t.Errorf("last %+v, want %+v", *r.Last, want)
		}
		if _, err := client.CancelBatch(ctx, clientApp, "b"); err != nil {
			t.Fatal(err)
		}
		if r := result("due"); r.Reason != "canceled" || r.WaitsFor != tasks.WaitsForHold {
			t.Errorf("in a canceled batch: %+v", r)
		}

		inspector := asynq.NewInspectorFromRedisClient(rdb)
		queue := tasks.QueueName(clientApp, message("").Type, tasks.Urgent)
		if err := inspector.DeleteTask(queue, clientApp+":deleted"); err != nil {
			t.Fatal(err)
		}
		if r := result("deleted"); r.WaitsFor != tasks.WaitsForHold { // so shortly after it was marked its producer may be enqueuing it
			t.Errorf("deleted: %+v", r)
		}
		if err := inspector.ArchiveTask(queue, clientApp+":later"); err != nil {
			t.Fatal(err)
		}
		if r := result("later"); r.WaitsFor != tasks.WaitsForArchive || !r.Late(time.Time{}) {
			t.Errorf("archived: %+v", r)
		}

		// A record that an older version wrote.
		rdb.HDel(ctx, ledger.TaskKey(clientApp, "due"), "last", "last_msg")
		if r := result("due"); r.Last != nil || r.WaitsFor != tasks.WaitsForHold {
			t.Errorf("of an older version: %+v", r)
		}
		if _, err := l.Settle(ctx, ref, ledger.SettleRequest{Outcome: "canceled", Result: tasks.Result{ID: "due", Outcome: tasks.OutcomeCanceled}.Encode(), Queue: queue}); err != nil {
			t.Fatal(err)
		}
		if r := result("due"); r.Outcome != tasks.OutcomeCanceled || r.WaitsFor != "" || r.Late(time.Now()) {
			t.Errorf("ended: %+v", r)
		}
	})
}

// TestWaitReturnsEarly: Wait with StopIfLate does not use up the deadline of a task that will not
// end by then, and goes on for one that may.
func TestWaitReturnsEarly(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		if _, err := client.Submit(t.Context(), message("held")); err != nil {
			t.Fatal(err)
		}
		set := func(until time.Time) {
			t.Helper()
			h := hold.Hold{App: clientApp, Scope: hold.WholeApp, Reason: "quota_day", By: "me", Until: until}
			if _, err := hold.NewStore(rdb).Set(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		wait := func(within time.Duration, options ...tasks.WaitOption) (tasks.Result, error) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return client.Wait(ctx, clientApp, "held", options...)
		}
		if r, err := wait(300*time.Millisecond, tasks.StopIfLate()); !errors.Is(err, context.DeadlineExceeded) || r.WaitsFor != tasks.WaitsForTurn {
			t.Errorf("a task in its turn: %+v, %v", r, err)
		}
		until := time.Now().Add(20 * time.Minute).Truncate(time.Millisecond)
		set(until)
		began := time.Now()
		r, err := wait(10*time.Minute, tasks.StopIfLate())
		if !errors.Is(err, tasks.ErrNotEnded) || r.WaitsFor != tasks.WaitsForHold || r.Reason != "quota_day" || !r.NextAt.Equal(until) {
			t.Errorf("a held task: %+v, %v", r, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		if r, err := wait(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) || r.WaitsFor != tasks.WaitsForHold {
			t.Errorf("without an option: %+v, %v", r, err)
		}
		stop := tasks.StopWhen(func(r tasks.Result) bool { return r.WaitsFor == tasks.WaitsForHold && r.State == tasks.StateWaiting })
		if r, err := wait(10*time.Minute, stop); !errors.Is(err, tasks.ErrNotEnded) || r.ID != "held" {
			t.Errorf("on request: %+v, %v", r, err)
		}
		set(time.Time{})
		if r, err := client.Wait(t.Context(), clientApp, "held", tasks.StopIfLate()); !errors.Is(err, tasks.ErrNotEnded) || !r.NextAt.IsZero() {
			t.Errorf("held until it is released, without a deadline: %+v, %v", r, err)
		}
		if _, err := client.Wait(t.Context(), clientApp, "nobody", tasks.StopIfLate()); !errors.Is(err, tasks.ErrNotFound) {
			t.Errorf("an unknown task: %v", err)
		}
	})
}

// TestLate ranges over the reasons: those that an operator ends are late without an end, the others
// only by their end.
func TestLate(t *testing.T) {
	now := time.Now()
	operators := []tasks.WaitReason{tasks.WaitsForHold, tasks.WaitsForLimit, tasks.WaitsForPause, tasks.WaitsForArchive, tasks.WaitsForSweep}
	for _, reason := range tasks.WaitReasons() {
		r := tasks.Result{WaitsFor: reason}
		if r.Late(now) != slices.Contains(operators, reason) {
			t.Errorf("%s without an end: late %t", reason, r.Late(now))
		}
		if r.NextAt = now.Add(time.Second); !r.Late(now) || r.Late(now.Add(time.Minute)) || r.Late(time.Time{}) {
			t.Errorf("%s: %t, %t, %t", reason, r.Late(now), r.Late(now.Add(time.Minute)), r.Late(time.Time{}))
		}
	}
}
