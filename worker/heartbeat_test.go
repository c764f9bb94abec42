package worker_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// TestIdleReplicaIsListed: a replica without work is in the list of replicas and among asynq's
// servers, and in neither after its end.
func TestIdleReplicaIsListed(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		inspector := asynq.NewInspectorFromRedisClient(r.rdb)
		listed := func() (replicas []heartbeat.Replica, servers int) {
			t.Helper()
			replicas, err := heartbeat.List(t.Context(), r.rdb)
			if err != nil {
				t.Fatal(err)
			}
			all, err := inspector.Servers()
			if err != nil {
				t.Fatal(err)
			}
			return replicas, len(all)
		}
		first, second := r.replica(nil), r.replica(nil)
		redistest.Until(t, 10*time.Second, "both are listed", func() bool {
			replicas, servers := listed()
			return len(replicas) == 2 && servers == 2
		})
		replicas, _ := listed()
		for _, got := range replicas {
			if got.ID == "" || got.Host == "" || got.PID == 0 || got.Version == "" || got.Apps != 1 || got.Lost || time.Since(got.Started) > time.Minute {
				t.Errorf("%+v", got)
			}
		}
		if err := first.stop(); err != nil {
			t.Error(err)
		}
		if replicas, servers := listed(); len(replicas) != 1 || servers != 1 {
			t.Errorf("after one has stopped: %+v, %d servers", replicas, servers)
		}
		if err := second.stop(); err != nil {
			t.Error(err)
		}
		if replicas, servers := listed(); len(replicas) != 0 || servers != 0 {
			t.Errorf("after both have stopped: %+v, %d servers", replicas, servers)
		}
	})
}
