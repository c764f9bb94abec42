package inspect_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	mine   = "wx0123456789abcdef"
	others = "wxfedcba9876543210"
)

// TestLanes: lanes show the tasks of both queues by state, and whose pause holds a queue.
func TestLanes(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		client := tasks.NewClient(rdb)
		submit := func(e tasks.Envelope) {
			e.Type, e.Body = tasks.TypeTextCheck, []byte(`{"content":"x","version":2,"scene":1,"openid":"o"}`)
			if _, err := client.Submit(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		submit(tasks.Envelope{App: mine})
		submit(tasks.Envelope{App: mine})
		submit(tasks.Envelope{App: mine, Priority: tasks.Bulk})
		submit(tasks.Envelope{App: mine, ProcessAt: time.Now().Add(time.Hour)})
		submit(tasks.Envelope{App: others})
		if err := rdb.Set(t.Context(), "asynq:{"+others+":seccheck:text}:paused", "wxcourier:quota_day", 0).Err(); err != nil {
			t.Fatal(err)
		}
		rdb.SAdd(t.Context(), "asynq:queues", "default") // not one of ours

		lanes, err := inspect.Lanes(t.Context(), rdb, []string{mine})
		if err != nil {
			t.Fatal(err)
		}
		if len(lanes) != len(tasks.Catalog())+1 {
			t.Errorf("%d lanes", len(lanes))
		}
		want := map[string]inspect.Lane{
			mine:   {App: mine, Type: tasks.TypeTextCheck, Waiting: 2, Bulk: 1, Scheduled: 1},
			others: {App: others, Type: tasks.TypeTextCheck, Waiting: 1, Paused: true, PausedBy: "quota_day"},
		}
		for _, lane := range lanes {
			if lane.Type != tasks.TypeTextCheck {
				if !lane.Empty() {
					t.Errorf("not empty: %+v", lane)
				}
				continue
			}
			if lane != want[lane.App] {
				t.Errorf("got  %+v\nwant %+v", lane, want[lane.App])
			}
		}
	})
}

func TestLanesWithNothingConfigured(t *testing.T) {
	_, rdb := redistest.Mini(t)
	if lanes, err := inspect.Lanes(t.Context(), rdb, nil); err != nil || len(lanes) != 0 {
		t.Errorf("%v, %v", lanes, err)
	}
}
