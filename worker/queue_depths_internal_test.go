package worker

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestQueueDepths: among more lanes than fit into one EXISTS, those with work are found at any
// position, and no others.
func TestQueueDepths(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, now := t.Context(), time.Now()
		var lanes []laneKey
		for i := range 20 {
			for _, spec := range tasks.Catalog() {
				lanes = append(lanes, laneKey{fmt.Sprintf("wx%016x", i), spec.Type})
			}
		}
		var queues []queueRef
		for _, lane := range lanes {
			queues = append(queues, queuesOf(lane)...)
		}
		if found, err := queueDepths(ctx, rdb, queues); err != nil || len(found) != 0 {
			t.Fatalf("without tasks: %v, %v", found, err)
		}
		first, middle, late, last := lanes[0], lanes[len(lanes)/2], lanes[len(lanes)/2+1], lanes[len(lanes)-1]
		soon := now.Add(time.Second)
		for _, err := range []error{
			rdb.RPush(ctx, keyOf(first, tasks.Urgent, asynqwire.Pending), "a", "b").Err(),
			rdb.RPush(ctx, keyOf(first, tasks.Bulk, asynqwire.Pending), "c").Err(),
			rdb.RPush(ctx, keyOf(middle, tasks.Bulk, asynqwire.Active), "d").Err(),
			rdb.ZAdd(ctx, keyOf(late, tasks.Urgent, asynqwire.Scheduled), redis.Z{Score: float64(now.Add(time.Hour).Unix()), Member: "e"}).Err(),
			rdb.ZAdd(ctx, keyOf(last, tasks.Bulk, asynqwire.Retry), redis.Z{Score: float64(now.Unix()), Member: "f"}).Err(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		found, err := queueDepths(ctx, rdb, queues)
		want := map[laneKey]laneDepth{
			first: {pending: 3}, middle: {active: 1}, last: {due: time.Unix(now.Unix(), 0)},
			late: {due: time.Unix(now.Add(time.Hour).Unix(), 0)},
		}
		if err != nil || !maps.Equal(found, want) {
			t.Errorf("found %v, %v; want %v", found, err, want)
		}
		for lane, w := range found {
			if busy := w.hasWorkBy(soon); busy != (lane != late) {
				t.Errorf("%v has work now: %v", lane, busy)
			}
		}
	})
}

func keyOf(lane laneKey, p tasks.Priority, name string) string {
	return queueRef{lane, p}.keys(name)[0]
}

// TestBacklogs: the oldest task, retries and archived tasks of both queues of a lane, and as many
// round trips for hundreds of lanes as for one.
func TestBacklogs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, since := t.Context(), time.Unix(1_700_000_000, 0)
		var queues []queueRef
		for i := range 50 {
			for _, spec := range tasks.Catalog() {
				queues = append(queues, queuesOf(laneKey{fmt.Sprintf("wx%016x", i), spec.Type})...)
			}
		}
		fill := func(q queueRef, age time.Duration) {
			t.Helper()
			for _, err := range []error{
				rdb.LPush(ctx, q.keys(asynqwire.Pending)[0], "old", "new").Err(),
				rdb.HSet(ctx, asynqwire.TaskKey(q.name(), "old"), asynqwire.PendingSince, since.Add(-age).UnixNano()).Err(),
				rdb.HSet(ctx, asynqwire.TaskKey(q.name(), "new"), asynqwire.PendingSince, since.UnixNano()).Err(),
				rdb.ZAdd(ctx, q.keys(asynqwire.Retry)[0], redis.Z{Score: 1, Member: "r"}).Err(),
				rdb.ZAdd(ctx, q.keys(asynqwire.Archived)[0], redis.Z{Score: 1, Member: "a"}).Err(),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		fill(queues[0], time.Minute)
		fill(queues[1], time.Hour)                                // of the same lane
		counted := redis.NewClient(rdb.(*redis.Client).Options()) //nolint:forcetypeassert // redistest.Each
		t.Cleanup(func() { _ = counted.Close() })
		sent := redistest.Count(counted)
		read := func() (map[laneKey]laneBacklog, int64) {
			t.Helper()
			before := sent.Trips()
			found, err := backlogs(ctx, counted, queues)
			if err != nil {
				t.Fatal(err)
			}
			return found, sent.Trips() - before
		}
		read() // go-redis opens its connections
		found, one := read()
		want := map[laneKey]laneBacklog{queues[0].lane: {retrying: 2, archived: 2, since: since.Add(-time.Hour)}}
		if len(found) != 1 || found[queues[0].lane] != want[queues[0].lane] {
			t.Errorf("found %v, want %v", found, want)
		}
		for _, q := range queues[2:] {
			fill(q, time.Minute)
		}
		if found, many := read(); many != one || one != 4 || len(found) != len(queues)/2 {
			t.Errorf("%d round trips for one lane, %d for %d", one, many, len(found))
		}
	})
}
