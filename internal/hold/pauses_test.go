package hold

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// pauseKeys returns asynq's pause keys of a lane.
func pauseKeys(typ string) []string {
	return []string{
		"asynq:{" + testApp + ":" + typ + "}:paused",
		"asynq:{" + testApp + ":" + typ + ":bulk}:paused",
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

// testTypes are the task types of the tests. A type has two queues.
var testTypes = []string{"send:subscribe", "send:custom"}

func testQueues(app, typ string) []string {
	return []string{app + ":" + typ, app + ":" + typ + ":bulk"}
}

// syncPauses syncs the pauses of testApp.
func syncPauses(t *testing.T, rdb redis.UniversalClient, holds ...Hold) {
	t.Helper()
	for i := range holds {
		holds[i].App = testApp
	}
	if err := NewPauses(rdb, testTypes, testQueues).Sync(t.Context(), []string{testApp}, holds); err != nil {
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
		whole := func(until time.Time) Hold {
			return Hold{Scope: WholeApp, Until: until}
		}
		custom := func(until time.Time) Hold {
			return Hold{Scope: "send:custom", Until: until}
		}
		for i, tt := range []struct {
			holds           []Hold
			custom, another string
		}{
			{nil, "", ""},
			{[]Hold{custom(in(time.Hour))}, "wxcourier:send:custom", ""},
			{[]Hold{whole(in(time.Minute)), custom(in(time.Hour))}, "wxcourier:send:custom", "wxcourier:*"},
			{[]Hold{whole(time.Time{}), custom(in(time.Hour))}, "wxcourier:*", "wxcourier:*"},
			{[]Hold{{Scope: TemplateScope("T1")}}, "", ""},
			{[]Hold{whole(in(time.Hour))}, "wxcourier:*", "wxcourier:*"},
			{[]Hold{whole(in(time.Second))}, "", ""}, // the hold ends soon: the gates wait for its end
		} {
			t.Log("case", i)
			for range 2 { // a repetition changes nothing
				syncPauses(t, rdb, tt.holds...)
				pausedBy(t, rdb, "send:custom", tt.custom)
				pausedBy(t, rdb, "send:subscribe", tt.another)
			}
		}
	})
}

// TestAPauseEndsWithItsHold: a pause expires at the end of its hold, also after that end was
// changed. The pause of a hold without an end expires after pauseTTL unless it is renewed.
func TestAPauseEndsWithItsHold(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		key := pauseKeys("send:custom")[1]
		for _, tt := range []struct {
			until time.Time
			most  time.Duration
		}{
			{time.Now().Add(time.Hour), time.Hour},
			{time.Now().Add(20 * time.Minute), 20 * time.Minute},
			{time.Time{}, 2 * time.Minute},
			{time.Now().Add(3 * time.Hour), 3 * time.Hour},
		} {
			syncPauses(t, rdb, Hold{Scope: WholeApp, Until: tt.until})
			if ttl := rdb.PTTL(t.Context(), key).Val(); ttl > tt.most || ttl < tt.most*9/10 {
				t.Errorf("until %v: the pause expires in %v", tt.until, ttl)
			}
		}
	})
}

// TestPausesExpireAfterACrash: a pause that no replica renews or deletes expires.
func TestPausesExpireAfterACrash(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	syncPauses(t, rdb, Hold{Scope: WholeApp})
	pausedBy(t, rdb, "send:custom", "wxcourier:*")
	mini.FastForward(time.Minute)
	syncPauses(t, rdb, Hold{Scope: WholeApp})
	mini.FastForward(time.Minute + time.Second)
	pausedBy(t, rdb, "send:custom", "wxcourier:*") // it was renewed
	mini.FastForward(time.Minute)
	pausedBy(t, rdb, "send:custom", "")
}

// TestAnOperatorsPauseStays: neither holds nor their ends change a pause that an operator set.
func TestAnOperatorsPauseStays(t *testing.T) {
	onEachServer(t, func(t *testing.T, rdb redis.UniversalClient) {
		key := pauseKeys("send:custom")[0]
		if err := rdb.Set(t.Context(), key, "1764000000", 0).Err(); err != nil {
			t.Fatal(err)
		}
		for _, holds := range [][]Hold{{{Scope: WholeApp}}, {{Scope: "send:custom", Until: time.Now().Add(time.Hour)}}, nil} {
			syncPauses(t, rdb, holds...)
			if v, ttl := rdb.Get(t.Context(), key).Val(), rdb.PTTL(t.Context(), key).Val(); v != "1764000000" || ttl >= 0 {
				t.Errorf("with %d holds the pause is %q and expires in %v", len(holds), v, ttl)
			}
		}
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
	syncPauses(t, rdb, Hold{Scope: "send:custom", Until: until})
	pausedBy(t, rdb, "send:custom", "wxcourier:send:custom")

	holds := NewStore(rdb)
	if _, err := holds.Set(t.Context(), Hold{App: testApp, Scope: "send:custom", Reason: "legal", Until: until}); err != nil {
		t.Fatal(err)
	}
	if list, err := holds.List(t.Context(), testApp); err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if ahead := holds.Now().Sub(redisNow); ahead < -time.Second || ahead > time.Minute {
		t.Errorf("Now is %v away from Redis' clock", ahead)
	}
}

// TestBulkScopePausesTheBulkQueue: a limit of which the rest is reserved for urgent tasks pauses
// the bulk queue alone. A longer hold of the type is shown instead.
func TestBulkScopePausesTheBulkQueue(t *testing.T) {
	onEachServer(t, func(t *testing.T, rdb redis.UniversalClient) {
		const typ = "send:subscribe"
		keys := pauseKeys(typ)
		value := func(key string) string { return rdb.Get(t.Context(), key).Val() }
		bulk := Hold{Scope: BulkScope(typ), By: OurCount, Until: time.Now().Add(time.Hour)}
		syncPauses(t, rdb, bulk)
		if value(keys[0]) != "" || value(keys[1]) != "wxcourier:"+typ+":bulk" {
			t.Errorf("urgent paused by %q, bulk by %q", value(keys[0]), value(keys[1]))
		}
		pausedBy(t, rdb, "send:custom", "")
		syncPauses(t, rdb, bulk, Hold{Scope: typ, Until: time.Now().Add(2 * time.Hour)})
		pausedBy(t, rdb, typ, "wxcourier:"+typ)
		syncPauses(t, rdb)
		pausedBy(t, rdb, typ, "")
	})
}
