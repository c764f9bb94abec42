package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestRecentBatches: the batches are listed by the last enqueue, in pages, and those that have expired
// leave the list.
func TestRecentBatches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l := t.Context(), newLedger(rdb, time.Minute)
		const other = "wx00000000000000aa"
		for i := range 10 {
			of := app
			if i%3 == 0 {
				of = other
			}
			must[ledger.Claim](t)(l.Mark(ctx, ledger.Ref{App: of, ID: fmt.Sprint(i), Batch: fmt.Sprint("b", i)}, of+":send:subscribe", "waiting"))
		}
		must[ledger.Claim](t)(l.Mark(ctx, ledger.Ref{App: app, ID: "again", Batch: "b1"}, queue, "waiting"))
		must[ledger.Claim](t)(l.Mark(ctx, ledger.Ref{App: app, ID: "2", Batch: "b2"}, queue, "waiting")) // known: no task joins
		must[ledger.OpenResult](t)(l.Open(ctx, ledger.Ref{App: app, ID: "plain", Batch: "b4"}, opening("r1")))
		rdb.Del(ctx, ledger.BatchKey(app, "b7"), ledger.BatchKey(other, "b9"), ledger.BatchKey(other, "b0"))

		var got []string
		var before time.Time
		for {
			page := must[[]ledger.RecentBatch](t)(l.RecentBatches(ctx, []string{app, other}, before, 3))
			for _, b := range page {
				got = append(got, b.Batch)
				if want := map[string]int64{"b1": 2, "b4": 2}[b.Batch]; b.Counts["total"] != max(want, 1) {
					t.Errorf("%s counts %v", b.Batch, b.Counts)
				}
			}
			if len(page) < 3 {
				break
			}
			before = page[2].LastEnqueued
		}
		if want := []string{"b4", "b1", "b8", "b6", "b5", "b3", "b2"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if n := rdb.ZCard(ctx, "wxcourier:{"+app+"}:batches").Val() + rdb.ZCard(ctx, "wxcourier:{"+other+"}:batches").Val(); n != 7 {
			t.Errorf("%d batches are listed", n)
		}
	})
}

// TestRecentBatchesAreBounded: an app's list keeps the last 10,000.
func TestRecentBatchesAreBounded(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, l, key := t.Context(), newLedger(rdb, time.Minute), "wxcourier:{"+app+"}:batches"
		members := make([]redis.Z, 10_000)
		for i := range members {
			members[i] = redis.Z{Score: float64(i), Member: fmt.Sprint(i)}
		}
		rdb.ZAdd(ctx, key, members...)
		must[ledger.Claim](t)(l.Mark(ctx, ledger.Ref{App: app, ID: "1", Batch: "new"}, queue, "waiting"))
		if n, first := rdb.ZCard(ctx, key).Val(), rdb.ZRange(ctx, key, 0, 0).Val(); n != 10_000 || first[0] != "1" {
			t.Errorf("%d batches from %v on", n, first)
		}
	})
}
