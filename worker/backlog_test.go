package worker_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestBacklogMetrics: the metrics show how long a lane's oldest task has waited, and its tasks in
// asynq's retry set and archive, also while the lane is held; an info metric joins the labels
// type and api.
func TestBacklogMetrics(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hold(hold.Hold{Scope: tasks.TypeCustom, Until: time.Now().Add(time.Hour)})
		waiting := func(id string, p tasks.Priority) tasks.Envelope {
			return tasks.Envelope{
				Type: tasks.TypeCustom, ID: id, Priority: p, Body: []byte(`{"touser":"o","msgtype":"text","text":{"content":"x"}}`),
			}
		}
		r.submit(waiting("old", tasks.Bulk))
		r.submit(waiting("new", tasks.Urgent))
		bulk := tasks.QueueName(app, tasks.TypeCustom, tasks.Bulk)
		enqueued := time.Now().Add(-90 * time.Second)
		if err := r.rdb.HSet(t.Context(), asynqwire.TaskKey(bulk, app+":old"), asynqwire.PendingSince, enqueued.UnixNano()).Err(); err != nil {
			t.Fatal(err)
		}
		later := message("later", "o")
		later.ProcessAt = time.Now().Add(time.Hour)
		queue := r.submit(later).Queue
		if err := asynq.NewInspectorFromRedisClient(r.rdb).ArchiveTask(queue, app+":later"); err != nil {
			t.Fatal(err)
		}
		p := r.replica(nil)
		r.submit(message("again", "busy-o")) // WeChat's -1 is retried after five seconds
		text := ""
		value := func(metric, typ string) float64 {
			found := regexp.MustCompile(metric + `\{app="` + app + `",type="` + typ + `"\} (\S+)`).FindStringSubmatch(text)
			if found == nil {
				return -1
			}
			n, err := strconv.ParseFloat(found[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		redistest.Until(t, 20*time.Second, "a task waits for its retry", func() bool {
			w := httptest.NewRecorder()
			p.Handler(p.registry).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			text = w.Body.String()
			return value("wxcourier_lane_retrying", tasks.TypeSubscribe) == 1
		})
		if age, least := value("wxcourier_lane_oldest_seconds", tasks.TypeCustom), 90.0; age < least || age > time.Since(enqueued).Seconds() {
			t.Errorf("the oldest task has waited for %v s", age)
		}
		for metric, want := range map[string][2]float64{ // of the held lane, of the other
			"wxcourier_lane_retrying": {0, 1}, "wxcourier_lane_archived": {0, 1},
		} {
			if got := [2]float64{value(metric, tasks.TypeCustom), value(metric, tasks.TypeSubscribe)}; got != want {
				t.Errorf("%s: %v, want %v", metric, got, want)
			}
		}
		if age := value("wxcourier_lane_oldest_seconds", tasks.TypeSubscribe); age != 0 {
			t.Errorf("a lane without pending tasks: %v s", age)
		}
		for _, spec := range tasks.Catalog() {
			if !strings.Contains(text, `wxcourier_type_info{api="`+spec.Path+`",type="`+spec.Type+`"} 1`) {
				t.Errorf("%s is not joined with %s", spec.Type, spec.Path)
			}
		}
	})
}
