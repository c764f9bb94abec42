package chaos

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// audit compares the record of each task with the calls that the sandbox received.
type audit struct {
	w          *world
	all        map[string]testTask
	allowed    interventions
	results    map[string][]tasks.Result // by id, from the result streams
	calls      map[string][]sandbox.Call // by id, oldest first
	fences     map[string]fence          // of tasks that ended as unknown
	counts     map[tasks.Outcome]int
	batched    map[string]map[string]int64 // by batch: the expected counters
	redrove    map[string]int              // number of redrives, by id
	duplicates []string                    // ids of messages that arrived more than once in a generation
}

// interventions are the operators' actions that widen the allowed outcomes of tasks.
type interventions struct {
	deleted  map[string]bool // by id: deleted in asynq; may have no outcome
	canceled map[string]bool // by id: may be canceled
	redriven bool            // tasks may have several generations, with one outcome each
	held     bool            // tasks may be rejected because their template was held
}

// fence is the field of a record about a request without an answer.
type fence struct {
	Runner string `json:"runner"`
	Since  int64  `json:"since"` // Redis' clock, ms
}

func (f fence) since() time.Time { return time.UnixMilli(f.Since) }

// audit checks everything that must hold whatever happens to Redis.
func (w *world) audit(all map[string]testTask) *audit {
	w.t.Helper()
	return w.auditWith(all, interventions{})
}

// auditWith is audit after interventions of operators.
func (w *world) auditWith(all map[string]testTask, l interventions) *audit {
	w.t.Helper()
	a := &audit{
		w: w, all: all, allowed: l, results: make(map[string][]tasks.Result), calls: make(map[string][]sandbox.Call),
		fences: make(map[string]fence), counts: make(map[tasks.Outcome]int),
		batched: make(map[string]map[string]int64), redrove: make(map[string]int),
	}
	for _, call := range w.wx.Calls(sandbox.Filter{}) {
		if id := idPattern.FindString(string(call.Body)); id != "" {
			a.calls[id] = append(a.calls[id], call)
		}
	}
	for _, app := range []string{mini, official, third} {
		for result, err := range tasks.NewInspector(w.rdb).Results(w.t.Context(), app, "", false) {
			must(w.t, err)
			a.results[result.ID] = append(a.results[result.ID], result)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		a.oneOutcome(id)
	}
	for id := range a.results {
		if _, known := all[id]; !known {
			w.t.Errorf("the stream has %q, which was never enqueued", id)
		}
	}
	a.batches()
	a.nothingLeft()
	return a
}

// oneOutcome checks that the record, the stream and the calls agree on one outcome, and that it is
// allowed. Only tasks that an operator deleted may have none.
func (a *audit) oneOutcome(id string) {
	t, task := a.w.t, a.all[id]
	fields, err := a.w.rdb.HMGet(t.Context(), ledger.TaskKey(task.app, id), "state", "outcome", "run", "fence").Result()
	must(t, err)
	text := func(i int) string { s, _ := fields[i].(string); return s }
	outcome := tasks.Outcome(text(1))
	a.count(task, outcome)
	entries := a.results[id]
	if outcome == "" && len(entries) == 0 && a.allowed.deleted[id] {
		a.arrivals(id, "")
		return
	}
	if text(0) != "done" || outcome == "" || text(2) != "" {
		t.Errorf("%s: the record has %v%s", id, fields, a.history(id))
	}
	if !a.inOrder(id, outcome) {
		return
	}
	a.arrivals(id, outcome)
	if outcome == tasks.OutcomeUnknown {
		var f fence
		if err := json.Unmarshal([]byte(text(3)), &f); err != nil {
			t.Errorf("%s is unknown, but its record has no fence: %v%s", id, err, a.history(id))
		}
		a.fences[id] = f
	} else if !a.mayEnd(id, outcome) {
		t.Errorf("%s: %s %s%s", id, outcome, entries[len(entries)-1].Reason, a.history(id))
	}
}

// inOrder checks that the stream has one outcome per generation, and that the last one is the
// record's. Only unknown may be superseded.
func (a *audit) inOrder(id string, outcome tasks.Outcome) bool {
	entries := a.results[id]
	for i, e := range entries {
		if i == 0 {
			continue
		}
		redriven := a.allowed.redriven && e.Generation == entries[i-1].Generation+1
		if e.Supersedes != tasks.OutcomeUnknown && !redriven {
			a.w.t.Errorf("%s has two outcomes: %s and %s", id, entries[i-1].Outcome, e.Outcome)
		}
	}
	if len(entries) == 0 || entries[len(entries)-1].Outcome != outcome {
		a.w.t.Errorf("%s: the record has %s, the stream has %d entries: %+v", id, outcome, len(entries), entries)
		return false
	}
	a.redrove[id] = entries[len(entries)-1].Generation
	return true
}

// arrivals checks that WeChat accepted each accepted task and no canceled message. It collects the
// duplicates for noDuplicates.
func (a *audit) arrivals(id string, outcome tasks.Outcome) {
	var taken, delivered int
	for _, call := range a.calls[id] {
		if call.Delivered || call.Repeated {
			taken++
		}
		if call.Delivered {
			delivered++
		}
	}
	if outcome == tasks.OutcomeAccepted && taken == 0 {
		a.w.t.Errorf("%s is accepted, but WeChat never accepted it", id)
	}
	if spec, _ := tasks.Lookup(a.all[id].typ); spec.Kind != tasks.Message {
		return
	}
	if outcome == tasks.OutcomeCanceled && taken > a.redrove[id] {
		a.w.t.Errorf("%s is canceled, but WeChat accepted it%s", id, a.history(id))
	}
	if delivered > 1+a.redrove[id] {
		a.duplicates = append(a.duplicates, id)
	}
}

// mayEnd reports whether an outcome other than unknown is allowed: the expected one of the task, one
// that an intervention caused, or failed when WeChat was busy too often.
func (a *audit) mayEnd(id string, outcome tasks.Outcome) bool {
	switch outcome {
	case cmp.Or(a.all[id].outcome, tasks.OutcomeAccepted):
		return true
	case tasks.OutcomeCanceled:
		return a.allowed.canceled[id]
	case tasks.OutcomeRejected:
		entries := a.results[id]
		return a.allowed.held && strings.HasPrefix(entries[len(entries)-1].Reason, "template_held")
	case tasks.OutcomeFailed:
		busy := 0
		for _, call := range a.calls[id] {
			if call.ErrCode == -1 {
				busy++
			}
		}
		return a.w.tries > 0 && busy >= a.w.tries
	default:
		return false
	}
}

// count adds a task to the outcomes, and to the expected counters of its batch.
func (a *audit) count(task testTask, outcome tasks.Outcome) {
	a.counts[outcome]++
	if task.plain {
		return
	}
	want := a.batched[task.app+" "+task.batchName()]
	if want == nil {
		want = make(map[string]int64)
		a.batched[task.app+" "+task.batchName()] = want
	}
	want["total"]++
	if outcome != "" {
		want["done"]++
		want[string(outcome)]++
	}
}

// batches checks that the counters of each batch agree with the records.
func (a *audit) batches() {
	for key, want := range a.batched {
		app, batch, _ := strings.Cut(key, " ")
		counts, err := a.w.client.Batch(a.w.t.Context(), app, batch)
		must(a.w.t, err)
		names := []string{"total", "done"}
		for _, outcome := range tasks.Outcomes() {
			names = append(names, string(outcome))
		}
		for _, name := range names {
			if counts[name] != want[name] {
				a.w.t.Errorf("batch %s of %s counts %d %s, want %d", batch, app, counts[name], name, want[name])
			}
		}
	}
}

// nothingLeft checks that asynq holds only the tasks of ResultsConfig.Archive in its archive, and the
// completed tasks with a retention.
func (a *audit) nothingLeft() {
	t := a.w.t
	kept := make(map[string]bool)
	for _, set := range []string{"archived", "completed"} {
		for _, key := range a.w.keys("asynq:{*}:" + set) {
			ids, err := a.w.rdb.ZRange(t.Context(), key, 0, -1).Result()
			must(t, err)
			for _, id := range ids {
				kept[strings.TrimSuffix(key, set)+"t:"+id] = true
				_, short, _ := strings.Cut(id, ":")
				if set == "archived" && !slices.ContainsFunc(a.results[short], func(r tasks.Result) bool {
					return slices.Contains(worker.DefaultResultsConfig().Archive, r.Outcome)
				}) {
					t.Errorf("asynq's archive has %s, which never had an outcome that is archived%s", short, a.history(short))
				}
			}
		}
	}
	for _, key := range a.w.keys("asynq:{*}:*") {
		_, name, _ := strings.Cut(key, "}:")
		switch kind, _, _ := strings.Cut(name, ":"); {
		case kind == "t" && !kept[key], kind == "unique", kind == "paused", kind == "g",
			kind == "pending", kind == "active", kind == "lease", kind == "retry", kind == "scheduled":
			t.Errorf("left over: %s", key)
		}
	}
}

// noSecondCall checks that no message was sent again after WeChat may have accepted it, except by a
// redrive, or as a template message, whose repetition WeChat drops.
func (a *audit) noSecondCall() {
	for id, task := range a.all {
		if spec, _ := tasks.Lookup(task.typ); spec.Kind != tasks.Message || spec.Repeat != tasks.Never {
			continue
		}
		maybe := 0 // calls that WeChat may have accepted, as far as the caller can know
		for _, call := range a.calls[id] {
			if call.Delivered || !call.Answered || call.ErrCode == sandbox.Unanswered {
				maybe++
			}
		}
		if maybe > 1+a.redrove[id] {
			a.w.t.Errorf("%s was sent %d times although WeChat may have accepted it: %s", id, maybe, a.history(id))
		}
	}
}

// noDuplicates checks that no message arrived more than once in a generation.
func (a *audit) noDuplicates() {
	for _, id := range a.duplicates {
		a.w.t.Errorf("%s was delivered %d times: %s", id, len(a.calls[id]), a.history(id))
	}
	if d := a.w.wx.Duplicates(); !a.allowed.redriven && len(d) > len(a.duplicates) {
		a.w.t.Errorf("%d messages were delivered twice", len(d))
	}
}

// duplicatesWithin checks that only messages that first arrived in a time span arrived again.
func (a *audit) duplicatesWithin(from, to time.Time) {
	for _, id := range a.duplicates {
		for _, call := range a.calls[id] {
			if call.Delivered {
				if call.At.Before(from) || call.At.After(to) {
					a.w.t.Errorf("%s was doubled, and first arrived %v after the span began: %s", id, call.At.Sub(from), a.history(id))
				}
				break
			}
		}
	}
}
