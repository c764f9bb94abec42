package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// pauseKeys returns asynq's pause keys of a lane.
func pauseKeys(typ string) []string {
	return []string{
		"asynq:{" + tasks.QueueName(app, typ, tasks.Urgent) + "}:paused",
		"asynq:{" + tasks.QueueName(app, typ, tasks.Bulk) + "}:paused",
	}
}

// pausedBy checks the values of both pause keys of a lane; "" means not paused.
func pausedBy(t *testing.T, rdb redis.UniversalClient, typ, want string) {
	t.Helper()
	for _, key := range pauseKeys(typ) {
		if got := rdb.Get(t.Context(), key).Val(); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// TestReplicasSyncPauses: a replica writes the pauses of the holds at its start and of later
// ones, deletes them when the holds are lifted, and deletes stale pauses of other processes.
func TestReplicasSyncPauses(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		shown := func(typ, want string) {
			t.Helper()
			redistest.Until(t, 10*time.Second, fmt.Sprintf("%s is paused by %q", typ, want), func() bool {
				for _, key := range pauseKeys(typ) {
					if r.rdb.Get(t.Context(), key).Val() != want {
						return false
					}
				}
				return true
			})
		}
		for _, key := range pauseKeys(tasks.TypeScheme) { // stale: left by a process that crashed
			if err := r.rdb.Set(t.Context(), key, "wxcourier:scheme:generate", time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
		}
		r.hold(hold.Hold{Scope: tasks.TypeCustom})
		r.replica(nil)
		shown(tasks.TypeCustom, "wxcourier:send:custom")
		shown(tasks.TypeScheme, "")
		r.hold(hold.Hold{Scope: hold.WholeApp, Until: time.Now().Add(time.Hour)})
		shown(tasks.TypeScheme, "wxcourier:*")
		shown(tasks.TypeCustom, "wxcourier:send:custom")
		r.unhold(tasks.TypeCustom)
		shown(tasks.TypeCustom, "wxcourier:*")
		r.unhold(hold.WholeApp)
		shown(tasks.TypeCustom, "")
		shown(tasks.TypeScheme, "")
	})
}
