package worker_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// TestASweepEndsDeletedTasks: a task that was deleted in asynq ends as canceled, for its
// producer and for OnResult. Its id can be enqueued again, although its queue was deleted, too.
func TestASweepEndsDeletedTasks(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		var ended atomic.Int64
		r.hooks = worker.Hooks{OnResult: func(got tasks.Result) {
			if got.ID == "deleted" && got.Outcome == tasks.OutcomeCanceled {
				ended.Add(1)
			}
		}}
		later := message("deleted", "oPerson")
		later.ProcessAt, later.Batch = time.Now().Add(time.Hour), "sale"
		receipt := r.submit(later)
		inspector := asynq.NewInspectorFromRedisClient(r.rdb)
		if err := inspector.DeleteTask(receipt.Queue, app+":deleted"); err != nil {
			t.Fatal(err)
		}
		if err := inspector.DeleteQueue(receipt.Queue, false); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			r.sweeping()
		}
		if got := r.outcome("deleted"); got.Outcome != tasks.OutcomeCanceled || got.Reason != "deleted" || got.Batch != "sale" {
			t.Errorf("%+v", got)
		}
		redistest.Until(t, 5*time.Second, "OnResult is called", func() bool { return ended.Load() == 1 })
		now := message("deleted", "oPerson")
		if again := r.submit(now); again.Already {
			t.Errorf("repeated: %+v", again)
		}
		if got := r.outcome("deleted"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("repeated: %+v", got)
		}
		if holder := r.rdb.Get(t.Context(), "wxcourier:sweep").Val(); holder == "" {
			t.Error("no replica has the lease")
		}
	})
}

// sweeping starts a replica that sweeps without a pause.
func (r *rig) sweeping() *running {
	r.t.Helper()
	p, closeParts := r.unstarted(r.newRedis(), nil)
	worker.SweepForTest(p.Replica, time.Hour)
	r.start(p, closeParts)
	return p
}
