package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// enqueueCapped enqueues messages to one openid by a plain asynq client, with MaxRetry 0.
func (r *rig) enqueueCapped(to string, ids ...string) {
	r.t.Helper()
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
	defer func() { _ = plain.Close() }()
	for _, id := range ids {
		task, err := tasks.NewSubscribeTask(app, tasks.SubscribePayload{
			ToUser: to, TemplateID: "T1", Data: map[string]tasks.Value{"thing1": {Value: id}},
		}, tasks.ID(id))
		if err != nil {
			r.t.Fatal(err)
		}
		if _, err := plain.EnqueueContext(r.t.Context(), task, asynq.MaxRetry(0)); err != nil {
			r.t.Fatal(err)
		}
	}
}

// ended waits for the outcome of a task of a plain client. Client.Wait needs a mark, which
// such a task does not have.
func (r *rig) ended(id string) (got tasks.Result) {
	r.t.Helper()
	redistest.Until(r.t, 20*time.Second, id+" has an outcome", func() bool {
		var err error
		got, err = r.client.Result(r.t.Context(), app, id)
		return err == nil && got.Outcome != ""
	})
	return got
}

// untilReceiverUsers waits until the handlers of n tasks hold their receiver's lock or wait for
// it. Before its handler has started, a dequeued task goes back to its queue at the shutdown.
func (r *rig) untilReceiverUsers(p *running, n int) {
	r.t.Helper()
	redistest.Until(r.t, 10*time.Second, "the handlers have started", func() bool {
		return worker.ReceiverUsersForTest(p.Replica) == n
	})
}

// TestCappedTasksWaitForTheirReceiver: asynq would archive tasks that are handed back, so all
// ten messages to one openid wait in their handlers and are sent one after the other.
func TestCappedTasksWaitForTheirReceiver(t *testing.T) {
	onEach(t, sandbox.Options{Latency: 300 * time.Millisecond}, func(t *testing.T, r *rig) {
		var ids []string
		for i := range 10 { // 3 s: longer than another task would wait
			ids = append(ids, fmt.Sprintf("capped%d", i))
		}
		r.enqueueCapped("somebody", ids...)
		r.replica(nil)
		for _, id := range ids {
			if got := r.ended(id); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("%s: %s %s after %d attempts", id, got.Outcome, got.Reason, got.Attempts)
			}
		}
	})
}

// TestCappedTasksEndWithTheLane: capped tasks that wait for their receiver when the replica
// stops end with an outcome.
func TestCappedTasksEndWithTheLane(t *testing.T) {
	onEach(t, sandbox.Options{Latency: 2 * time.Second}, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		r.enqueueCapped("somebody", "first", "second", "third")
		r.untilReceiverUsers(p, 3)
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		count := make(map[tasks.Outcome]int)
		for _, id := range []string{"first", "second", "third"} {
			got := r.ended(id)
			if count[got.Outcome]++; got.Outcome == tasks.OutcomeFailed && !strings.HasPrefix(got.Reason, "retries_capped") {
				t.Errorf("%s: %s", id, got.Reason)
			}
		}
		if count[tasks.OutcomeAccepted]+count[tasks.OutcomeFailed] != 3 || count[tasks.OutcomeFailed] == 0 {
			t.Errorf("outcomes: %v", count)
		}
	})
}

// TestACappedTaskWaitsForItsOtherRunner: the ledger has another runner for a capped task. The
// task waits for that runner, and ends as unknown when the replica stops.
func TestACappedTaskWaitsForItsOtherRunner(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		book := ledger.New(r.rdb, ledger.Policy{DeadAfter: time.Minute, LostLimit: 3, Retention: time.Hour, StreamMax: 100})
		ref, queue := ledger.Ref{App: app, ID: "taken"}, tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
		if got, err := book.Open(t.Context(), ref, ledger.OpenRequest{Runner: "another", Queue: queue, Fenced: true}); err != nil || got.Admission != ledger.Proceed {
			t.Fatal(got, err)
		}
		p := r.replica(nil)
		r.enqueueCapped("somebody", "taken")
		r.untilReceiverUsers(p, 1)
		if got, err := r.client.Result(t.Context(), app, "taken"); err == nil && got.Outcome != "" {
			t.Errorf("the task ended at once: %s %s", got.Outcome, got.Reason)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if got := r.ended("taken"); got.Outcome != tasks.OutcomeUnknown || got.Reason != "runner_lost" {
			t.Errorf("%s %s", got.Outcome, got.Reason)
		}
		if n := r.wx.Delivered(app, "somebody", ""); n != 0 {
			t.Error("the message was sent")
		}
	})
}
