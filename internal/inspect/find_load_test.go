package inspect_test

import (
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

// TestFindLoad marks tasks of one day and finds them by their receivers: it reports the memory of the
// index, and how long a search takes. With the default it takes a second.
//
//	WXCOURIER_FIND_LOAD=10000000 go test -timeout 60m -run FindLoad -v ./internal/inspect
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

	// What a search finds: a person has one task of each day, of which the last one waits.
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

// indexOnly fills the index of openids, and removes what else marking writes.
func indexOnly(t *testing.T, rdb redis.UniversalClient, n int, receiver func(int) string) {
	t.Helper()
	l := ledger.New(rdb, ledger.Policy{Retention: 24 * time.Hour, IndexOpenIDs: true})
	const step = 1000
	for from := 0; from < n; from += step {
		requests := make([]ledger.MarkRequest, 0, step)
		for i := from; i < min(from+step, n); i++ {
			requests = append(requests, ledger.MarkRequest{
				Ref:   ledger.Ref{App: findA, ID: fmt.Sprintf("order-%08d-ready", i)},
				Queue: findA + ":send:custom", State: "waiting", Enqueued: time.Now(), Receiver: receiver(i),
			})
		}
		redistest.Until(t, 5*time.Minute, "tasks are marked", func() bool { // again where the machine is too busy
			return !slices.ContainsFunc(l.MarkMany(t.Context(), requests), func(m ledger.MarkResult) bool { return m.Err != nil })
		})
	}
	keys := make(map[string]bool)
	for i := range min(n, 2_000_000) { // as many as name all hashes of marks
		keys[ledger.WaitingKey(findA, fmt.Sprintf("order-%08d-ready", i))] = true
	}
	for key := range keys {
		if err := rdb.Unlink(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
}
