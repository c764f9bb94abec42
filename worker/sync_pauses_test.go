package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
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

// syncPauses calls SyncPauses for app.
func syncPauses(t *testing.T, rdb redis.UniversalClient, holds ...hold.Hold) {
	t.Helper()
	for i := range holds {
		holds[i].App = app
	}
	if err := worker.SyncPauses(t.Context(), rdb, []string{app}, holds); err != nil {
		t.Fatal(err)
	}
}

// onEachServer runs a test on miniredis, on a real Redis and on a cluster.
func onEachServer(t *testing.T, fn func(t *testing.T, rdb redis.UniversalClient)) {
	t.Parallel()
	redistest.Each(t, fn)
	t.Run("cluster", func(t *testing.T) { fn(t, redistest.StartCluster(t)) })
}

func TestTheHoldThatEndsLastIsShown(t *testing.T) {
	onEachServer(t, func(t *testing.T, rdb redis.UniversalClient) {
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }
		whole := func(until time.Time) hold.Hold {
			return hold.Hold{Scope: hold.WholeApp, Until: until}
		}
		custom := func(until time.Time) hold.Hold {
			return hold.Hold{Scope: tasks.TypeCustom, Until: until}
		}
		for i, tt := range []struct {
			holds           []hold.Hold
			custom, another string
		}{
			{nil, "", ""},
			{[]hold.Hold{custom(in(time.Hour))}, "wxcourier:send:custom", ""},
			{[]hold.Hold{whole(in(time.Minute)), custom(in(time.Hour))}, "wxcourier:send:custom", "wxcourier:*"},
			{[]hold.Hold{whole(time.Time{}), custom(in(time.Hour))}, "wxcourier:*", "wxcourier:*"},
			{[]hold.Hold{{Scope: hold.TemplateScope("T1")}}, "", ""},
			{[]hold.Hold{whole(in(time.Hour))}, "wxcourier:*", "wxcourier:*"},
			{[]hold.Hold{whole(in(time.Second))}, "", ""}, // the hold ends soon: the gates wait for its end
		} {
			t.Log("case", i)
			for range 2 { // a repetition changes nothing
				syncPauses(t, rdb, tt.holds...)
				pausedBy(t, rdb, tasks.TypeCustom, tt.custom)
				pausedBy(t, rdb, tasks.TypeSubscribe, tt.another)
			}
		}
	})
}

// TestAPauseEndsWithItsHold: a pause expires at the end of its hold, also after that end was
// changed. The pause of a hold without an end expires after pauseTTL unless it is renewed.
func TestAPauseEndsWithItsHold(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		key := pauseKeys(tasks.TypeCustom)[1]
		for _, tt := range []struct {
			until time.Time
			most  time.Duration
		}{
			{time.Now().Add(time.Hour), time.Hour},
			{time.Now().Add(20 * time.Minute), 20 * time.Minute},
			{time.Time{}, 2 * time.Minute},
			{time.Now().Add(3 * time.Hour), 3 * time.Hour},
		} {
			syncPauses(t, rdb, hold.Hold{Scope: hold.WholeApp, Until: tt.until})
			if ttl := rdb.PTTL(t.Context(), key).Val(); ttl > tt.most || ttl < tt.most*9/10 {
				t.Errorf("until %v: the pause expires in %v", tt.until, ttl)
			}
		}
	})
}

// TestPausesExpireAfterACrash: a pause that no replica renews or deletes expires.
func TestPausesExpireAfterACrash(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	syncPauses(t, rdb, hold.Hold{Scope: hold.WholeApp})
	pausedBy(t, rdb, tasks.TypeCustom, "wxcourier:*")
	mini.FastForward(time.Minute)
	syncPauses(t, rdb, hold.Hold{Scope: hold.WholeApp})
	mini.FastForward(time.Minute + time.Second)
	pausedBy(t, rdb, tasks.TypeCustom, "wxcourier:*") // it was renewed
	mini.FastForward(time.Minute)
	pausedBy(t, rdb, tasks.TypeCustom, "")
}

// TestAnOperatorsPauseStays: neither holds nor their ends change a pause that an operator set.
func TestAnOperatorsPauseStays(t *testing.T) {
	onEachServer(t, func(t *testing.T, rdb redis.UniversalClient) {
		key := pauseKeys(tasks.TypeCustom)[0]
		if err := rdb.Set(t.Context(), key, "1764000000", 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, holds := range [][]hold.Hold{{{Scope: hold.WholeApp}}, {{Scope: tasks.TypeCustom, Until: time.Now().Add(time.Hour)}}, nil} {
			syncPauses(t, rdb, holds...)
			if v, ttl := rdb.Get(t.Context(), key).Val(), rdb.PTTL(t.Context(), key).Val(); v != "1764000000" || ttl >= 0 {
				t.Errorf("with %d holds the pause is %q and expires in %v", len(holds), v, ttl)
			}
		}
	})
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

// TestPausesGoByRedisClock: the replica's clock is an hour ahead of Redis'. A hold of half an
// hour is shown, and Store.Now follows Redis' clock.
func TestPausesGoByRedisClock(t *testing.T) {
	server := miniredis.RunT(t)
	redisNow := time.Now().Add(-time.Hour)
	server.SetTime(redisNow)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	until := redisNow.Add(30 * time.Minute)
	syncPauses(t, rdb, hold.Hold{Scope: tasks.TypeCustom, Until: until})
	pausedBy(t, rdb, tasks.TypeCustom, "wxcourier:send:custom")

	holds := hold.NewStore(rdb)
	if _, err := holds.Set(t.Context(), hold.Hold{App: app, Scope: tasks.TypeCustom, Reason: "legal", Until: until}); err != nil {
		t.Fatal(err)
	}
	if list, err := holds.List(t.Context(), app); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if ahead := holds.Now().Sub(redisNow); ahead < -time.Second || ahead > time.Minute {
		t.Errorf("Now is %v away from Redis' clock", ahead)
	}
}
