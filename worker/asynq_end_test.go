package worker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// subscribeQueue is the queue of message.
var subscribeQueue = tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)

// copyOf waits until asynq has no copy of a task of subscribeQueue, or one that has ended, and
// returns it; nil when there is none.
func (r *rig) copyOf(id string) *asynq.TaskInfo {
	r.t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(r.rdb)
	var info *asynq.TaskInfo
	redistest.Until(r.t, 10*time.Second, id+" has ended in asynq", func() bool {
		var err error
		info, err = inspector.GetTaskInfo(subscribeQueue, app+":"+id)
		if errors.Is(err, asynq.ErrTaskNotFound) {
			info = nil
			return true
		}
		return err == nil && (info.State == asynq.TaskStateArchived || info.State == asynq.TaskStateCompleted)
	})
	return info
}

// endings are the tasks of these tests: by id the receiver, the outcome, and texts of the error with
// which asynq archives it.
var endings = []struct {
	id, receiver string
	outcome      tasks.Outcome
	texts        []string
}{
	{"accepted", "o1", tasks.OutcomeAccepted, nil},
	{"refused", "unsubscribed-o", tasks.OutcomeRefused, []string{"refused: errcode 43101", "rid: "}},
	{"rejected", "badopenid-o", tasks.OutcomeRejected, []string{"rejected: errcode 40003", "rid: "}},
	{"unknown", "reset9-o", tasks.OutcomeUnknown, []string{"unknown: "}},
	{"failed", "busy9-o", tasks.OutcomeFailed, []string{"failed: attempts_exhausted: errcode -1"}},
}

// end enqueues the endings and waits for their outcomes.
func (r *rig) end() {
	r.t.Helper()
	r.config.Attempts = 1
	r.replica(nil)
	for _, e := range endings {
		r.submit(message(e.id, e.receiver))
	}
	for _, e := range endings {
		if got := r.outcome(e.id); got.Outcome != e.outcome {
			r.t.Fatalf("%s: %+v", e.id, got)
		}
	}
}

// TestArchivedOutcomes: by default asynq archives failed, unknown and rejected tasks as failed, with
// the reason as their error, so that its error rate shows a campaign that WeChat rejects.
func TestArchivedOutcomes(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.end()
		for _, e := range endings {
			info := r.copyOf(e.id)
			if archived := e.outcome != tasks.OutcomeAccepted && e.outcome != tasks.OutcomeRefused; archived != (info != nil) {
				t.Errorf("%s: asynq has %+v", e.id, info)
				continue
			} else if !archived {
				continue
			}
			for _, text := range e.texts {
				if info.State != asynq.TaskStateArchived || !strings.Contains(info.LastErr, text) {
					t.Errorf("%s is %s with the error %q, which does not contain %q", e.id, info.State, info.LastErr, text)
				}
			}
			if strings.Contains(info.LastErr, e.receiver) || strings.Contains(info.LastErr, "skip retry") {
				t.Errorf("%s has the error %q", e.id, info.LastErr)
			}
		}
		counts, err := asynq.NewInspectorFromRedisClient(r.rdb).GetQueueInfo(subscribeQueue)
		if err != nil || counts.Processed != len(endings) || counts.Failed != 3 {
			t.Errorf("%+v, %v", counts, err)
		}
	})
}

// TestArchiveIsConfigured: the outcomes of results.archive are archived, and no others.
func TestArchiveIsConfigured(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.results.Archive = []tasks.Outcome{tasks.OutcomeRefused}
		r.end()
		for _, e := range endings {
			if info := r.copyOf(e.id); (e.outcome == tasks.OutcomeRefused) != (info != nil) {
				t.Errorf("%s: asynq has %+v", e.id, info)
			} else if info != nil && !strings.Contains(info.LastErr, e.texts[0]) {
				t.Errorf("%s: %s", e.id, info.LastErr)
			}
		}
	})
}

// TestAsynqKeepsCompletedTasks: with results.asynq_retention, completed tasks stay in asynq with
// their results, for that long. asynq deletes them then.
func TestAsynqKeepsCompletedTasks(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.results.AsynqRetention = 5 * time.Minute
		r.end()
		for _, e := range endings[:2] {
			info := r.copyOf(e.id)
			if info == nil || info.State != asynq.TaskStateCompleted || info.Retention != 5*time.Minute || time.Since(info.CompletedAt) > time.Minute {
				t.Errorf("%s: asynq has %+v", e.id, info)
				continue
			}
			var result tasks.Result
			if err := json.Unmarshal(info.Result, &result); err != nil || !reflect.DeepEqual(result, r.outcome(e.id)) {
				t.Errorf("%s has the result %s (%v)", e.id, info.Result, err)
			}
			if strings.Contains(string(info.Result), e.receiver) {
				t.Errorf("%s: the result contains the receiver: %s", e.id, info.Result)
			}
		}
		if receipt := r.submit(message("accepted", "o1")); !receipt.Done || !receipt.Already {
			t.Errorf("enqueued again: %+v", receipt)
		}
		past := redis.Z{Score: float64(time.Now().Add(-time.Second).Unix()), Member: app + ":accepted"}
		if err := r.rdb.ZAddXX(t.Context(), "asynq:{"+subscribeQueue+"}:completed", past).Err(); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 20*time.Second, "asynq's janitor deletes the completed task", func() bool {
			r.submit(message(fmt.Sprint("at-", time.Now().Unix()), "o3")) // keeps the lane open
			return r.copyOf("accepted") == nil
		})
	})
}

// TestRunOnEndedTask: "run" in the asynq web UI does not send a rejected task again. It is archived
// again, with an error that says what to do; a redrive then sends it.
func TestRunOnEndedTask(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		rule, err := r.wx.AddFault(sandbox.Fault{ErrCode: 40037, App: app})
		if err != nil || rule == 0 {
			t.Fatal(rule, err)
		}
		r.replica(nil)
		r.submit(message("m", "o"))
		if got := r.outcome("m"); got.Outcome != tasks.OutcomeRejected {
			t.Fatalf("%+v", got)
		}
		r.copyOf("m")
		r.wx.ClearFaults()
		inspector := asynq.NewInspectorFromRedisClient(r.rdb)
		if err := inspector.RunTask(subscribeQueue, app+":m"); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 10*time.Second, "it is archived again", func() bool {
			info := r.copyOf("m")
			return info != nil && strings.Contains(info.LastErr, "rejected: errcode 40037") && strings.Contains(info.LastErr, "wxcourier redrive")
		})
		if n := r.wx.Count(sandbox.Filter{Path: sendPath}); n != 1 {
			t.Errorf("%d calls", n)
		}
		if !strings.Contains(r.log.String(), "already ended; not sent again") {
			t.Error("the log does not say so")
		}
		if done, err := r.inspector.Redrive(t.Context(), app, "m", redriveOf(tasks.OutcomeRejected)); err != nil || done != tasks.RedriveDone {
			t.Fatal(done, err)
		}
		if got := r.redriven("m"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// TestRunOnWaitingTask: "run" in the asynq web UI sends a scheduled task before its process_at, a
// task that waits for another attempt before its delay ends, and one that was archived by hand. A
// scheduled task that is not run stays.
func TestRunOnWaitingTask(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		inspector := asynq.NewInspectorFromRedisClient(r.rdb)
		later := func(id, receiver string) {
			e := message(id, receiver)
			e.ProcessAt = time.Now().Add(time.Hour)
			r.submit(e)
		}
		r.replica(nil)
		later("scheduled", "o1")
		later("archived", "o2")
		later("stays", "o3")
		r.submit(message("retried", "busy1-o"))
		redistest.Until(t, 10*time.Second, "one waits for another attempt", func() bool {
			info, err := inspector.GetTaskInfo(subscribeQueue, app+":retried")
			return err == nil && info.State == asynq.TaskStateRetry
		})
		if err := inspector.ArchiveTask(subscribeQueue, app+":archived"); err != nil {
			t.Fatal(err)
		}
		if got, err := r.client.Result(t.Context(), app, "archived"); err != nil || got.Outcome != "" {
			t.Errorf("archived by hand: %+v, %v", got, err)
		}
		for _, id := range []string{"scheduled", "archived", "retried"} {
			if err := inspector.RunTask(subscribeQueue, app+":"+id); err != nil {
				t.Fatal(err)
			}
		}
		for id, attempts := range map[string]int{"scheduled": 1, "archived": 1, "retried": 2} {
			if got := r.outcome(id); got.Outcome != tasks.OutcomeAccepted || got.Attempts != attempts || time.Since(got.EnqueuedAt) > time.Minute {
				t.Errorf("%s: %+v", id, got)
			}
		}
		if got, err := r.client.Result(t.Context(), app, "stays"); err != nil || got.State != tasks.StateScheduled {
			t.Errorf("not run: %+v, %v", got, err)
		}
	})
}

// TestResultsConfigFaults: all mistakes are reported, each with its key.
func TestResultsConfigFaults(t *testing.T) {
	cfg := worker.DefaultResultsConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	cfg.Archive = append(cfg.Archive, tasks.OutcomeAccepted, "lost")
	cfg.AsynqRetention = cfg.Retention + time.Second
	err := cfg.Validate()
	for _, want := range []string{`archive[3]: "accepted"`, `archive[4]: "lost"`, "asynq_retention: 24h0m1s exceeds results.retention (24h0m0s)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not contain %q", err, want)
		}
	}
	cfg = worker.DefaultResultsConfig()
	cfg.Archive, cfg.AsynqRetention = nil, time.Millisecond
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "asynq_retention: 1ms is neither 0") {
		t.Error(err)
	}
}
