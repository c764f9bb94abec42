package tasks_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestCutResultsAreSaid: who asks for results that were removed gets an error with the time to which
// the stream goes back, and then those that there are.
func TestCutResultsAreSaid(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		inspector := tasks.NewInspector(rdb)
		began := time.Now()
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 50})
		settle := func(n int) {
			for i := range n {
				id := fmt.Sprintf("m%d-%d", time.Now().UnixNano(), i)
				if _, err := l.Settle(t.Context(), ledger.Ref{App: clientApp, ID: id}, ledger.SettleRequest{
					Outcome: "rejected", Result: tasks.Result{ID: id, App: clientApp, Outcome: tasks.OutcomeRejected, FinishedAt: time.Now()}.Encode(),
				}); err != nil {
					t.Fatal(err)
				}
			}
		}
		read := func(from tasks.Cursor) (n int, cut *tasks.ResultsCutError) {
			for _, err := range inspector.Results(t.Context(), clientApp, from, false) {
				switch {
				case errors.As(err, &cut):
				case err != nil:
					t.Fatal(err)
				default:
					n++
				}
			}
			return n, cut
		}
		settle(20)
		if n, cut := read(tasks.Since(began.Add(-time.Hour))); n != 20 || cut != nil {
			t.Errorf("before: %d results, %v", n, cut)
		}
		settle(980)
		n, cut := read(tasks.Since(began.Add(-time.Second)))
		if n < 50 || n > 250 || cut == nil || !cut.ByLength || cut.App != clientApp || cut.Start.Before(began.Add(-time.Second)) {
			t.Errorf("%d results, %+v", n, cut)
		}
		if _, cut := read(""); cut != nil {
			t.Errorf("all: %v", cut)
		}
		end, err := inspector.End(t.Context(), clientApp)
		if err != nil {
			t.Fatal(err)
		}
		if n, cut := read(end); n != 0 || cut != nil {
			t.Errorf("at the end: %d, %v", n, cut)
		}
		for _, since := range []time.Time{{}, began.Add(-time.Second)} {
			candidates, cuts := 0, 0
			want := tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeRejected}, Since: since}
			for _, err := range inspector.RedriveCandidates(t.Context(), clientApp, want) {
				if errors.As(err, &cut) {
					cuts++
				} else if candidates++; err != nil {
					t.Fatal(err)
				}
			}
			if candidates != n || cuts != 1 {
				t.Errorf("since %v: %d candidates and %d cuts, want %d and 1", since, candidates, cuts, n)
			}
		}
		rdb.XTrimMaxLen(t.Context(), ledger.StreamKey(clientApp), 0)
		if end, err = inspector.End(t.Context(), clientApp); err != nil {
			t.Fatal(err)
		}
		if _, cut := read(end); cut != nil {
			t.Errorf("at the end of an empty stream: %v", cut)
		}
	})
}
