package worker_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// counted returns how often each kind of outcome was counted over time.
func (r *rig) counted() string {
	r.t.Helper()
	points, err := series.Read(context.Background(), r.rdb, series.Query{
		Apps: []string{app}, From: time.Now().Add(-24 * time.Hour), To: time.Now().Add(time.Hour), Step: series.Hour,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	sums := make(map[string]int64)
	for _, p := range points {
		sums[fmt.Sprint(p.Type, " ", p.Outcome, " ", p.ErrCode)] += p.Count
	}
	kinds := slices.Sorted(maps.Keys(sums))
	for i, kind := range kinds {
		kinds[i] = fmt.Sprint(kind, " ×", sums[kind])
	}
	return strings.Join(kinds, "\n")
}

// TestOutcomesAreCountedOverTime: each outcome that a replica recorded counts once, while it runs and
// at its end. An id that has an outcome counts no more, one that was redriven does.
func TestOutcomesAreCountedOverTime(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		for i, openid := range []string{"a", "b", "unsubscribed-a", "badopenid-a", "reset-a"} {
			r.submit(addressed(tasks.TypeSubscribe, fmt.Sprintf("t%d", i), openid))
		}
		for i := range 5 {
			r.outcome(fmt.Sprintf("t%d", i))
		}
		r.submit(addressed(tasks.TypeSubscribe, "t0", "a")) // its id is taken
		want := `send:subscribe accepted 0 ×2
send:subscribe refused 43101 ×1
send:subscribe rejected 40003 ×1
send:subscribe unknown 0 ×1`
		redistest.Until(t, 20*time.Second, "the outcomes are counted", func() bool { return r.counted() == want })

		r.submit(addressed(tasks.TypeCustom, "last", "a"))
		r.outcome("last")
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		if got := r.counted(); got != "send:custom accepted 0 ×1\n"+want {
			t.Errorf("after the end:\n%s", got)
		}
	})
}

// TestSweptTasksAreCountedOverTime: the outcome of a task that was deleted from asynq counts, too.
func TestSweptTasksAreCountedOverTime(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		later := message("deleted", "oPerson")
		later.ProcessAt = time.Now().Add(time.Hour)
		receipt := r.submit(later)
		if err := asynq.NewInspectorFromRedisClient(r.rdb).DeleteTask(receipt.Queue, app+":deleted"); err != nil {
			t.Fatal(err)
		}
		r.sweeping()
		redistest.Until(t, 20*time.Second, "the outcome is counted", func() bool {
			return r.counted() == later.Type+" canceled 0 ×1"
		})
	})
}
