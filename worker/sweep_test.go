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

// TestASweepEndsDeletedTasks: the producer that waits for it is told, and so are the hooks;
// the queue that was deleted serves again.
func TestASweepEndsDeletedTasks(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		var told atomic.Int64
		r.hooks = worker.Hooks{OnResult: func(got tasks.Result) {
			if got.ID == "deleted" && got.Outcome == tasks.OutcomeCanceled {
				told.Add(1)
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
		redistest.Until(t, 5*time.Second, "the hook is told", func() bool { return told.Load() == 1 })
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
