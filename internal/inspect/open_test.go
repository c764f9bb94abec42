package inspect_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestOpen: tasks without an outcome are listed by their place, over several queues and pages.
func TestOpen(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, reader := t.Context(), newReader(rdb)
		var all []tasks.Envelope
		for i := range 70 {
			m := message(findA, fmt.Sprintf("a%02d", i), "oPerson")
			if i%2 == 0 {
				m.Batch = "even"
			}
			all = append(all, m)
		}
		bulk, later := message(findB, "bulk", "oPerson"), message(findB, "later", "oPerson")
		bulk.Priority, later.ProcessAt = tasks.Bulk, time.Now().Add(time.Hour)
		for _, m := range tasks.NewClient(rdb).SubmitMany(ctx, append(all, bulk, later)) {
			if m.Err != nil {
				t.Fatal(m.Err)
			}
		}
		lanes, err := inspect.Lanes(ctx, rdb, []string{findA, findB})
		if err != nil {
			t.Fatal(err)
		}
		list := func(q inspect.OpenQuery) (ids []string) {
			t.Helper()
			q.Queues = inspect.QueuesIn(lanes, q.Place)
			for {
				page, err := reader.Open(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range page.Items {
					ids = append(ids, f.ID)
				}
				if q.Cursor = page.Cursor; q.Cursor == "" {
					return ids
				}
			}
		}
		waiting := list(inspect.OpenQuery{Place: inspect.PlaceWaiting, Limit: 20})
		if sorted := slices.Sorted(slices.Values(waiting)); len(sorted) != 71 || len(slices.Compact(sorted)) != 71 || waiting[0] != "a69" {
			t.Errorf("waiting: %v", waiting)
		}
		even := list(inspect.OpenQuery{Place: inspect.PlaceWaiting, Limit: 20, Match: func(f *inspect.Found) bool { return f.Batch == "even" }})
		if len(even) != 35 {
			t.Errorf("of a batch: %v", even)
		}
		if got := list(inspect.OpenQuery{Place: inspect.PlaceScheduled, Limit: 20}); !slices.Equal(got, []string{"later"}) {
			t.Errorf("scheduled: %v", got)
		}
		for _, place := range []inspect.Place{inspect.PlaceRetrying, inspect.PlaceSending, inspect.PlaceArchived} {
			if got := list(inspect.OpenQuery{Place: place, Limit: 20}); len(got) > 0 {
				t.Errorf("%s: %v", place, got)
			}
		}
		for _, cursor := range []string{"x", "x|1", findA + ":send:custom|-1", findA + ":send:custom|"} {
			if _, err := reader.Open(ctx, inspect.OpenQuery{Place: inspect.PlaceWaiting, Limit: 1, Cursor: cursor}); !errors.Is(err, resultlog.ErrCursor) {
				t.Errorf("the cursor %q: %v", cursor, err)
			}
		}
		if _, err := reader.Open(ctx, inspect.OpenQuery{Place: inspect.PlaceDone, Queues: []string{findA + ":send:custom"}, Limit: 1}); err == nil {
			t.Error("ended tasks are in a queue")
		}
	})
}

// TestContent: the content of a task has names and no values, before its end and after one that a
// redrive may undo.
func TestContent(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, reader, client := t.Context(), newReader(rdb), tasks.NewClient(rdb)
		e := tasks.Envelope{App: findA, Type: tasks.TypeSubscribe, ID: "m", Body: []byte(`{"touser":"oPerson","template_id":"T1","data":{"thing1":{"value":"secret text"},"time2":{"value":"2026-12-01"}}}`)}
		for _, m := range []tasks.Envelope{e, message(findA, "done", "oPerson")} {
			if _, err := client.Submit(ctx, m); err != nil {
				t.Fatal(err)
			}
		}
		task, err := reader.Task(ctx, findA, "m", nil)
		if err != nil {
			t.Fatal(err)
		}
		c, known, err := reader.Content(ctx, task)
		if want := []string{"data.thing1", "data.time2", "template_id", "touser"}; err != nil || !known || c.Template != "T1" || !slices.Equal(c.Fields, want) || c.Bytes == 0 {
			t.Errorf("%+v %v %v", c, known, err)
		}
		if text := fmt.Sprintf("%+v", c); strings.Contains(text, "secret") || strings.Contains(text, "oPerson") {
			t.Errorf("it has values: %s", text)
		}
		end(t, rdb, tasks.Result{App: findA, ID: "done", Type: tasks.TypeCustom, Outcome: tasks.OutcomeAccepted})
		if task, err = reader.Task(ctx, findA, "done", nil); err != nil {
			t.Fatal(err)
		}
		if _, known, err := reader.Content(ctx, task); known || err != nil {
			t.Errorf("of an accepted task: %v %v", known, err)
		}
	})
}
