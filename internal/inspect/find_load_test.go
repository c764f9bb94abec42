package inspect_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestFindLoad makes an index of openids of one day and finds tasks by their receivers: it reports the
// memory of the index, and how long a search takes. With the default it takes a second.
//
//	WXCOURIER_FIND_LOAD=10000000 go test -run FindLoad -v ./internal/inspect
func TestFindLoad(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("WXCOURIER_FIND_LOAD"))
	if err != nil {
		n = 20_000
	}
	rdb := redistest.Start(t).Client(t)
	used := func() int64 {
		t.Helper()
		info, err := rdb.InfoMap(t.Context(), "memory").Result()
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	before := used()
	receiver := func(i int) string { return fmt.Sprintf("oABCDEF0123456789abc%08d", i) }
	indexOnly(t, rdb, n, receiver)
	perTask := float64(used()-before) / float64(n)
	t.Logf("%d tasks: %.1f bytes each in the index", n, perTask)
	if n >= 1_000_000 && perTask > 40 {
		t.Errorf("a task costs %.1f bytes", perTask)
	}

	// A search finds the task that is enqueued here; half of them have ended. The records of the others in
	// the index do not exist: they cost the search nothing but one look, as those that have expired do.
	const searches = 500
	client, reader := tasks.NewClient(rdb), newReader(rdb)
	var took []time.Duration
	for i := range searches {
		id := fmt.Sprintf("found-%d", i)
		if _, err := client.Submit(t.Context(), message(findA, id, receiver(i*(n/searches)))); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			end(t, rdb, tasks.Result{App: findA, ID: id, Type: tasks.TypeCustom, Outcome: tasks.OutcomeAccepted})
		}
		began := time.Now()
		got, err := reader.Find(t.Context(), inspect.FindQuery{Apps: []string{findA}, OpenID: receiver(i * (n / searches))})
		took = append(took, time.Since(began))
		if err != nil || len(got.Items) != 1 || got.Items[0].ID != id {
			t.Fatalf("search %d: %+v, %v", i, found(got), err)
		}
	}
	slices.Sort(took)
	t.Logf("a search takes %v at the median, %v at p95, %v at most", took[searches/2], took[searches*95/100], took[searches-1])
	if p95 := took[searches*95/100]; n >= 1_000_000 && p95 > 50*time.Millisecond {
		t.Errorf("p95 is %v", p95)
	}
}

// indexOnly fills the index of openids of today as package ledger does.
func indexOnly(t *testing.T, rdb redis.UniversalClient, n int, receiver func(int) string) {
	t.Helper()
	const buckets, atOnce = 256, 500
	key := func(bucket int) string {
		return fmt.Sprintf("wxcourier:{%s}:openids:%d:%d", findA, ledger.Day(time.Now()), bucket)
	}
	rdb.ZAdd(t.Context(), "wxcourier:{"+findA+"}:openids", redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: ledger.Day(time.Now())})
	lists := make([][]any, buckets)
	push := func(bucket int) {
		if err := rdb.RPush(t.Context(), key(bucket), lists[bucket]...).Err(); err != nil {
			t.Fatal(err)
		}
		lists[bucket] = lists[bucket][:0]
	}
	for i := range n {
		sum := sha256.Sum256([]byte(receiver(i)))
		bucket := int(binary.BigEndian.Uint16(sum[8:])) % buckets
		lists[bucket] = append(lists[bucket], string(sum[:8])+fmt.Sprintf("order-%08d-ready", i))
		if len(lists[bucket]) == atOnce {
			push(bucket)
		}
	}
	for bucket, rest := range lists {
		if len(rest) > 0 {
			push(bucket)
		}
		rdb.ExpireAt(t.Context(), key(bucket), time.Now().Add(time.Hour))
	}
}
