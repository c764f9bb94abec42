package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/wxcourier/wxcourier/tasks"
)

// TestRejectedLogCountsAll: the lines in full and the sums count every task, also beyond the
// largest number of kinds.
func TestRejectedLogCountsAll(t *testing.T) {
	var out bytes.Buffer
	r := rejectedLog{log: slog.New(slog.NewJSONHandler(&out, nil))}
	full, n := 0, 0
	reject := func(template string, code int, reason string, times int) {
		for range times {
			n++
			if r.first(tasks.Result{App: "wx1", Type: tasks.TypeSubscribe, ErrCode: code, Reason: reason}, template) {
				full++
			}
		}
	}
	reject("T1", 47003, "", 500)
	reject("T1", 40037, "", 3)
	reject("T2", 47003, "", 1)
	reject("T2", 0, "template_held", 2)
	reject("", 0, "media: status 404", 2)
	reject("", 0, "media: not an image", 2)
	if full != 5 {
		t.Errorf("%d tasks in full, want 5", full)
	}
	sum := func() (tasks, lines int) {
		r.flush()
		for d := json.NewDecoder(&out); d.More(); lines++ {
			var line struct {
				Tasks     int
				App, Type string
			}
			if err := d.Decode(&line); err != nil || line.App != "wx1" || line.Type != "send:subscribe" {
				t.Errorf("%+v, %v", line, err)
			}
			tasks += line.Tasks
		}
		return tasks, lines
	}
	if more, lines := sum(); more+full != n || lines != 4 {
		t.Errorf("%d in full and %d more in %d lines, of %d", full, more, lines, n)
	}
	if more, lines := sum(); more != 0 || lines != 0 {
		t.Errorf("a sum of nothing: %d in %d lines", more, lines)
	}

	full, n = 0, 0
	for i := range 2 * maxRejectedKinds {
		reject(fmt.Sprintf("template-%d", i), 40037, "", 2)
	}
	if len(r.more) > maxRejectedKinds+1 {
		t.Errorf("%d kinds", len(r.more))
	}
	if more, _ := sum(); more+full != n {
		t.Errorf("%d in full and %d more, of %d", full, more, n)
	}
}
