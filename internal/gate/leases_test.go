package gate

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestLeasesAreExtendedTogether: asynq extends the leases of 50 queues one after the other,
// which costs two round trips. asynq's own command is sent for a task that started since, and
// for a lease that is gone.
func TestLeasesAreExtendedTogether(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const queues = 50
		ctx, hook := t.Context(), NewHook(rdb)
		d := serveLanes(hook)
		found, _ := hook.servers.Load("lanes")
		own := found.(*Server).leases //nolint:forcetypeassert // nothing else is stored
		name := func(i int) string { return fmt.Sprint("q", i) }
		for i := range queues {
			g := New([]string{name(i)}, &fakePace{}, manySlots)
			g.mayHaveWork = false
			d.add(g)
			defer g.Close()
			own.begin(name(i), "a")
			if err := rdb.ZAdd(ctx, "asynq:{"+name(i)+"}:lease", redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 1, Member: "b"}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		rdb.AddHook(hook)
		sent := redistest.Count(rdb)
		extend := func(i int, ids ...string) {
			t.Helper()
			var zs []redis.Z
			for _, id := range ids {
				zs = append(zs, redis.Z{Score: 100, Member: id})
			}
			if err := rdb.ZAddXX(ctx, "asynq:{"+name(i)+"}:lease", zs...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { return p.Ping(ctx).Err() }); err != nil { // opens the connection
			t.Fatal(err)
		}
		_, trips := sent.During(func() {
			for i := range queues {
				extend(i, "a")
			}
		})
		if trips != 2 {
			t.Errorf("%d round trips for %d queues", trips, queues)
		}
		lease := func(i int, id string) float64 { return rdb.ZScore(ctx, "asynq:{"+name(i)+"}:lease", id).Val() }
		for i := range queues {
			if a, b := lease(i, "a"), lease(i, "b"); a != 100 || b != 1 {
				t.Errorf("queue %d: %v and %v", i, a, b)
			}
		}
		extend(0, "a")
		own.end(name(1), "a")
		own.begin(name(1), "b")
		extend(1, "a", "b") // b is not among those that were extended together
		if lease(1, "b") != 100 {
			t.Error("the lease of a task that started since was not extended")
		}
		if n := rdb.ZCard(ctx, "asynq:{"+name(2)+"}:lease").Val(); n != 2 {
			t.Errorf("%d leases", n)
		}
	})
}
