package worker_test

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

func redriveOf(outcomes ...tasks.Outcome) tasks.Redrive { return tasks.Redrive{Outcomes: outcomes} }

// redriven waits for the outcome of a task's second generation.
func (r *rig) redriven(id string) tasks.Result {
	r.t.Helper()
	got := r.outcome(id)
	if got.Generation != 1 {
		r.t.Errorf("%s: generation %d", id, got.Generation)
	}
	return got
}

// TestRejectedIsRedriven: after the cause is corrected, rejected tasks of all types are
// redriven with the same body, and a check with the same image.
func TestRejectedIsRedriven(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		if _, err := r.wx.AddFault(sandbox.Fault{ErrCode: 47001, App: app}); err != nil {
			t.Fatal(err)
		}
		r.replica(nil)
		first := map[string]tasks.Result{}
		ids := map[string]string{}
		for _, spec := range tasks.Catalog() {
			if spec.Warning != "" || spec.Callback {
				continue // retired: always rejected; or see TestFailedMediaCheck
			}
			id := strings.ReplaceAll(spec.Type, ":", "-")
			ids[id] = spec.Path
			r.submit(tasks.Envelope{Type: spec.Type, ID: id, Body: []byte(spec.Example), Batch: "b"})
		}
		for id := range ids {
			if first[id] = r.outcome(id); first[id].Outcome != tasks.OutcomeRejected {
				t.Fatalf("%s: %+v", id, first[id])
			}
		}
		r.wx.ClearFaults()
		for id, path := range ids {
			done, err := r.inspector.Redrive(t.Context(), app, id, redriveOf(tasks.OutcomeRejected))
			if err != nil || done != tasks.RedriveDone {
				t.Fatalf("%s: %s, %v", id, done, err)
			}
			got := r.redriven(id)
			if got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 || got.EnqueuedAt.IsZero() || !got.EnqueuedAt.Equal(first[id].EnqueuedAt) {
				t.Errorf("%s: %+v", id, got)
			}
			calls := r.wx.Calls(sandbox.Filter{Path: path})
			if len(calls) != 2 || !bytes.Equal(calls[0].Body, calls[1].Body) && path != "/wxa/img_sec_check" { // the multipart boundary is random
				t.Errorf("%s: calls %+v", id, calls)
			}
			past, err := r.inspector.History(t.Context(), app, id)
			if err != nil || len(past) != 1 || past[0].Outcome != tasks.OutcomeRejected || past[0].ErrCode != 47001 {
				t.Errorf("%s: history %+v, %v", id, past, err)
			}
		}
		c, err := r.client.Batch(t.Context(), app, "b")
		if n := int64(len(ids)); err != nil || c["total"] != n || c["done"] != n || c["accepted"] != n || c["rejected"] != 0 {
			t.Errorf("batch %v, %v", c, err)
		}
	})
}

// TestUnknownIsRedriven: ten concurrent redrives of an unknown message, whose receiver may get
// it twice, lead to one more message.
func TestUnknownIsRedriven(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		r.submit(message("one", "lost-a"))
		if got := r.outcome("one"); got.Outcome != tasks.OutcomeUnknown {
			t.Fatalf("%+v", got)
		}
		var put atomic.Int64
		var operators sync.WaitGroup
		for range 10 {
			operators.Go(func() {
				done, err := r.inspector.Redrive(t.Context(), app, "one", redriveOf(tasks.OutcomeUnknown))
				if err != nil {
					t.Error(err)
				}
				if done == tasks.RedriveDone {
					put.Add(1)
				}
			})
		}
		operators.Wait()
		if put.Load() == 0 {
			t.Error("no redrive succeeded")
		}
		if got := r.redriven("one"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
		if done, err := r.inspector.Redrive(t.Context(), app, "one", redriveOf(tasks.OutcomeUnknown)); err != nil || done != tasks.RedriveUnmatched {
			t.Errorf("a redrive of an accepted task: %s, %v", done, err)
		}
		if n := r.wx.Delivered(app, "lost-a", ""); n != 2 {
			t.Errorf("delivered %d times", n)
		}
	})
}

// TestATemplateRedriveIsNoSecondMessage: WeChat drops the second message by its client_msg_id.
func TestATemplateRedriveIsNoSecondMessage(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.config.Attempts = 1
		r.replica(nil)
		r.submit(addressed(tasks.TypeTemplate, "one", "lost-b"))
		if got := r.outcome("one"); got.Outcome != tasks.OutcomeUnknown {
			t.Fatalf("%+v", got)
		}
		if done, err := r.inspector.Redrive(t.Context(), app, "one", redriveOf(tasks.OutcomeUnknown)); err != nil || done != tasks.RedriveDone {
			t.Fatalf("%s, %v", done, err)
		}
		if got := r.redriven("one"); got.Outcome != tasks.OutcomeAccepted || r.wx.Delivered(app, "lost-b", "") != 1 {
			t.Errorf("%+v, delivered %d times", got, r.wx.Delivered(app, "lost-b", ""))
		}
	})
}

// TestARunThatWasRedrivenMeanwhile: a run counted as dead and its task was redriven when its
// answer arrives. It changes neither the record nor asynq's copy of the task.
func TestARunThatWasRedrivenMeanwhile(t *testing.T) {
	onEach(t, sandbox.Options{Latency: 700 * time.Millisecond}, func(t *testing.T, r *rig) {
		receipt := r.submit(message("one", "a"))
		info, err := asynq.NewInspectorFromRedisClient(r.rdb).GetTaskInfo(receipt.Queue, app+":one")
		if err != nil {
			t.Fatal(err)
		}
		r.replica(nil)
		redistest.Until(t, 10*time.Second, "the call is under way", func() bool {
			got, err := r.client.Result(t.Context(), app, "one")
			return err == nil && got.State == tasks.StateSending
		})
		gaveUp := ledger.New(r.rdb, ledger.Policy{Retention: time.Hour, StreamMax: 100})
		_, err = gaveUp.Settle(t.Context(), ledger.Ref{App: app, ID: "one"}, ledger.SettleRequest{
			Outcome: "unknown", Result: []byte(`{"id":"one","app":"` + app + `","outcome":"unknown"}`), Queue: receipt.Queue,
			Content: ledger.TaskContent{Payload: info.Payload, Headers: info.Headers},
		})
		if err != nil {
			t.Fatal(err)
		}
		done, err := r.inspector.Redrive(t.Context(), app, "one", redriveOf(tasks.OutcomeUnknown))
		if err != nil || done != tasks.RedriveDone {
			t.Errorf("%s, %v", done, err)
		}
		if got := r.redriven("one"); got.Outcome != tasks.OutcomeAccepted || got.Supersedes != "" {
			t.Errorf("%+v", got)
		}
		if n := r.wx.Delivered(app, "a", ""); n != 2 {
			t.Errorf("delivered %d times", n)
		}
	})
}

// TestUndecodableTasksAreNotRedriven: the record of such a task keeps no payload.
func TestUndecodableTasksAreNotRedriven(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.replica(nil)
	queue := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: r.addr})
	defer func() { _ = plain.Close() }()
	_, err := plain.EnqueueContext(t.Context(), asynq.NewTask(tasks.TypeSubscribe, []byte("{")), asynq.Queue(queue), asynq.TaskID(app+":bad"))
	if err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, 10*time.Second, "the task has an outcome", func() bool {
		got, err := r.client.Result(t.Context(), app, "bad")
		return err == nil && got.Outcome == tasks.OutcomeFailed
	})
	if done, err := r.inspector.Redrive(t.Context(), app, "bad", redriveOf(tasks.OutcomeFailed)); err != nil || done != tasks.RedriveNoPayload {
		t.Errorf("%s, %v", done, err)
	}
}
