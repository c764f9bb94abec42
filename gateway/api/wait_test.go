package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestWait: many requests wait for tasks, some for the same one, and each is answered when its
// task ends.
func TestWait(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		const n = 20
		ended := make(chan string, 3*n)
		var all sync.WaitGroup
		for i := range n {
			id := fmt.Sprint(i)
			f.do(http.MethodPost, "/v1/tasks", envelope(id))
			for range 2 {
				all.Go(func() {
					a := f.do(http.MethodGet, "/v1/tasks/"+app+"/"+id+"?wait=60s", "")
					if task := decode[inspect.Task](f, a.body); a.status != http.StatusOK || task.ID != id || task.Outcome != tasks.OutcomeAccepted {
						t.Errorf("%s: %d %s", id, a.status, a.body)
					}
					ended <- id
				})
			}
			all.Go(func() {
				a := f.do(http.MethodPost, "/v1/tasks?wait=60", envelope(id))
				if r := decode[enqueuedTask](f, a.body); a.status != http.StatusOK || r.Task == nil || r.Task.Outcome != tasks.OutcomeAccepted {
					t.Errorf("%s: %d %s", id, a.status, a.body)
				}
				ended <- id
			})
		}
		for i := range n {
			f.end(fmt.Sprint(i), tasks.OutcomeAccepted)
		}
		all.Wait()
		if len(ended) != 3*n {
			t.Errorf("%d answers", len(ended))
		}
	})
}

// TestWaitIsOver: a task that has not ended is answered as it is.
func TestWaitIsOver(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	a := f.do(http.MethodPost, "/v1/tasks?wait=10ms", envelope("1"))
	if r := decode[enqueuedTask](f, a.body); a.status != http.StatusAccepted || r.Task == nil || r.Task.Outcome != "" || r.Task.State != tasks.StateWaiting {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = f.do(http.MethodGet, "/v1/tasks/"+app+"/1?wait=10ms", "")
	if task := decode[inspect.Task](f, a.body); a.status != http.StatusOK || task.State != tasks.StateWaiting {
		t.Errorf("%d %s", a.status, a.body)
	}
	f.problem(f.do(http.MethodGet, "/v1/tasks/"+app+"/2?wait=1s", ""), http.StatusNotFound)
}

// TestWaitForARedrivenTask: an outcome from before the redrive does not end the wait.
func TestWaitForARedrivenTask(t *testing.T) {
	f := newFixture(t, redistest.Start(t).Client(t))
	f.do(http.MethodPost, "/v1/tasks", envelope("1"))
	f.end("1", tasks.OutcomeFailed)
	inspector := tasks.NewInspector(f.rdb)
	if err := asynq.NewInspectorFromRedisClient(f.rdb).DeleteTask(queue, app+":1"); err != nil { // as after a delivery
		t.Fatal(err)
	}
	redriven, err := inspector.Redrive(t.Context(), app, "1", tasks.Redrive{Outcomes: []tasks.Outcome{tasks.OutcomeFailed}})
	if err != nil || redriven != tasks.RedriveDone {
		t.Fatal(redriven, err)
	}
	done := make(chan inspect.Task)
	go func() {
		done <- decode[inspect.Task](f, f.do(http.MethodGet, "/v1/tasks/"+app+"/1?wait=60s", "").body)
	}()
	f.endGeneration("1", tasks.OutcomeAccepted, 1)
	if task := <-done; task.Outcome != tasks.OutcomeAccepted || len(task.History) != 1 {
		t.Errorf("%+v", task)
	}
}

// TestEndWaits: at the shutdown, requests that wait are answered.
func TestEndWaits(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	f.do(http.MethodPost, "/v1/tasks", envelope("1"))
	answers := make(chan answer)
	go func() { answers <- f.do(http.MethodGet, "/v1/tasks/"+app+"/1?wait=60s", "") }()
	begun := time.Now()
	f.api.EndWaits()
	if a := <-answers; a.status != http.StatusOK || !strings.Contains(a.body, `"state":"waiting"`) || time.Since(begun) > 50*time.Second {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestOneFollowerForAllWaits: the reads of the results do not depend on how many requests wait,
// and end with the last one.
func TestOneFollowerForAllWaits(t *testing.T) {
	f := newFixture(t, redistest.Start(t).Client(t))
	reads := func() int64 {
		info, err := redisinfo.Read(t.Context(), f.rdb, "everything")
		if err != nil {
			t.Fatal(err)
		}
		return info.Calls()["xread"]
	}
	const n = 200
	var all sync.WaitGroup
	begun, before := time.Now(), reads()
	for i := range n {
		f.do(http.MethodPost, "/v1/tasks", envelope(fmt.Sprint(i)))
		all.Go(func() { f.do(http.MethodGet, "/v1/tasks/"+app+"/"+fmt.Sprint(i)+"?wait=60s", "") })
	}
	redistest.Until(t, 20*time.Second, "the results are read", func() bool { return reads() > before+5 })
	for i := range n {
		f.end(fmt.Sprint(i), tasks.OutcomeAccepted)
	}
	all.Wait()
	// One read each 20 ms at most, and some for full pages.
	if took, done := time.Since(begun), reads()-before; done > int64(took/(20*time.Millisecond))+20 {
		t.Errorf("%d reads in %v", done, took)
	}
	last := reads()
	redistest.Until(t, 20*time.Second, "the reads end", func() bool {
		now := reads()
		ended := now == last
		last = now
		if !ended {
			return false
		}
		return background.Sleep(t.Context(), 100*time.Millisecond) && reads() == last
	})
}
