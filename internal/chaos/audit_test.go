package chaos

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// audit compares what was recorded of each task with what WeChat's ledger says.
type audit struct {
	w       *world
	all     map[string]sent
	results map[string][]tasks.Result // by id, as the streams tell
	calls   map[string][]sandbox.Call // by id, the oldest first
	fences  map[string]fence          // of tasks that ended as unknown
	counts  map[tasks.Outcome]int
	doubles []string // ids of messages that arrived more than once
}

// fence is what a record says about the request that got no answer.
type fence struct {
	Runner string `json:"runner"`
	Since  int64  `json:"since"` // Redis' time in ms
}

func (f fence) since() time.Time { return time.UnixMilli(f.Since) }

// audit reads everything once, and checks all that holds whatever happens to Redis.
func (w *world) audit(all map[string]sent) *audit {
	w.t.Helper()
	a := &audit{
		w: w, all: all, results: make(map[string][]tasks.Result), calls: make(map[string][]sandbox.Call),
		fences: make(map[string]fence), counts: make(map[tasks.Outcome]int),
	}
	for _, call := range w.wx.Calls(sandbox.Filter{}) {
		if id := idPattern.FindString(string(call.Body)); id != "" {
			a.calls[id] = append(a.calls[id], call)
		}
	}
	for _, app := range []string{mini, official, third} {
		for result, err := range w.client.Results(w.t.Context(), app, "", false) {
			must(w.t, err)
			a.results[result.ID] = append(a.results[result.ID], result)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(all)) {
		a.oneOutcome(id)
	}
	for id := range a.results {
		if _, known := all[id]; !known {
			w.t.Errorf("the stream has %q, which nobody enqueued", id)
		}
	}
	a.batches()
	a.nothingLeft()
	return a
}

// oneOutcome: the record, the stream and WeChat agree on one outcome.
func (a *audit) oneOutcome(id string) {
	t, task := a.w.t, a.all[id]
	fields, err := a.w.rdb.HMGet(t.Context(), ledger.TaskKey(task.app, id), "state", "outcome", "run", "fence").Result()
	must(t, err)
	text := func(i int) string { s, _ := fields[i].(string); return s }
	outcome := tasks.Outcome(text(1))
	a.counts[outcome]++
	if text(0) != "done" || outcome == "" || text(2) != "" {
		t.Errorf("%s: the record says %v", id, fields)
	}
	entries := a.results[id]
	for i, e := range entries {
		if i > 0 && e.Supersedes != tasks.OutcomeUnknown {
			t.Errorf("%s has two outcomes: %s and %s", id, entries[0].Outcome, e.Outcome)
		}
	}
	if len(entries) == 0 || entries[len(entries)-1].Outcome != outcome {
		t.Errorf("%s: the record says %s, the stream has %d entries: %+v", id, outcome, len(entries), entries)
	}
	var taken, delivered int
	for _, call := range a.calls[id] {
		if call.Delivered || call.Repeated {
			taken++
		}
		if call.Delivered {
			delivered++
		}
	}
	switch {
	case outcome == tasks.OutcomeAccepted && taken == 0:
		t.Errorf("%s is accepted, and WeChat never took it", id)
	case outcome != tasks.OutcomeAccepted && outcome != tasks.OutcomeUnknown:
		t.Errorf("%s: %s %s", id, outcome, entries[len(entries)-1].Reason)
	case outcome == tasks.OutcomeUnknown:
		var f fence
		must(t, json.Unmarshal([]byte(text(3)), &f))
		a.fences[id] = f
	}
	if spec, _ := tasks.Lookup(task.typ); spec.Kind == tasks.Message && delivered > 1 {
		a.doubles = append(a.doubles, id)
	}
}

// batches: the counters of the batch agree with the records.
func (a *audit) batches() {
	sums := make(map[string]int64)
	for _, app := range []string{mini, official, third} {
		counts, err := a.w.client.Batch(a.w.t.Context(), app, "chaos")
		must(a.w.t, err)
		for name, n := range counts {
			sums[name] += n
		}
	}
	for name, want := range map[string]int{
		"total": len(a.all), "done": len(a.all),
		"accepted": a.counts[tasks.OutcomeAccepted], "unknown": a.counts[tasks.OutcomeUnknown],
	} {
		if sums[name] != int64(want) {
			a.w.t.Errorf("the batch counts %d %s, want %d", sums[name], name, want)
		}
	}
}

// nothingLeft: asynq keeps no task but those in its archive, and these are no accepted ones.
func (a *audit) nothingLeft() {
	t := a.w.t
	archived := make(map[string]bool)
	for _, key := range a.w.keys("asynq:{*}:archived") {
		ids, err := a.w.rdb.ZRange(t.Context(), key, 0, -1).Result()
		must(t, err)
		for _, id := range ids {
			archived[strings.TrimSuffix(key, "archived")+"t:"+id] = true
			_, short, _ := strings.Cut(id, ":")
			if !slices.ContainsFunc(a.results[short], func(r tasks.Result) bool { return r.Outcome == tasks.OutcomeUnknown }) {
				t.Errorf("asynq's archive has %s, which was never unknown", short)
			}
		}
	}
	for _, key := range a.w.keys("asynq:{*}:*") {
		_, name, _ := strings.Cut(key, "}:")
		switch kind, _, _ := strings.Cut(name, ":"); {
		case kind == "t" && !archived[key], kind == "unique", kind == "paused",
			kind == "pending", kind == "active", kind == "lease", kind == "retry", kind == "scheduled":
			t.Errorf("left over: %s", key)
		}
	}
}

// noDoubles: no message arrived more than once.
func (a *audit) noDoubles() {
	for _, id := range a.doubles {
		a.w.t.Errorf("%s was delivered %d times: %s", id, len(a.calls[id]), a.story(id))
	}
	if d := a.w.wx.Duplicates(); len(d) > len(a.doubles) {
		a.w.t.Errorf("%d messages were delivered twice", len(d))
	}
}

// doublesWithin: only messages that first arrived in a span of time arrived again.
func (a *audit) doublesWithin(from, to time.Time) {
	for _, id := range a.doubles {
		for _, call := range a.calls[id] {
			if call.Delivered {
				if call.At.Before(from) || call.At.After(to) {
					a.w.t.Errorf("%s was doubled, and first arrived %v after the span began: %s", id, call.At.Sub(from), a.story(id))
				}
				break
			}
		}
	}
}

// unknownsWereInFlight: each task that ended as unknown was under way when something
// broke: its own connection, its replica, or what Redis kept.
func (a *audit) unknownsWereInFlight() {
	why := make(map[string]int)
	for id, f := range a.fences {
		if at := slices.IndexFunc(a.calls[id], func(c sandbox.Call) bool { return !c.Answered }); at >= 0 && a.calls[id][at].Fault != "" {
			why["its connection broke"]++
			continue
		}
		met := a.metBy(f)
		if met == "" {
			a.w.t.Errorf("%s is unknown, and nothing broke: %s", id, a.story(id))
			continue
		}
		why[met]++
	}
	a.w.t.Logf("outcomes %v; unknown because of %v; doubled: %d", a.counts, why, len(a.doubles))
}

// unread is how long a command of a replica that has died may lie with Redis before it is
// carried out.
const unread = time.Second

// metBy is the fault that a run met which began then.
func (a *audit) metBy(f fence) string {
	all := a.w.faults.list()
	longest := attemptTimeout + time.Second
	for _, one := range all {
		if one.replica == "" { // while Redis was away, what is known could not be recorded
			longest += one.to.Sub(one.from)
		}
	}
	runner, _, _ := strings.Cut(f.Runner, "-")
	for _, one := range all {
		if (one.replica == "" || one.replica == runner) && !f.since().After(one.to.Add(unread)) && one.from.Sub(f.since()) < longest {
			if one.replica == "" && !strings.Contains(one.what, "lost") {
				continue // Redis kept everything: that is no excuse
			}
			return one.what
		}
	}
	return ""
}

// story is what is known of a task, for a failure's message.
func (a *audit) story(id string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  results %+v\n  fence %+v\n", a.results[id], a.fences[id])
	for _, c := range a.calls[id] {
		fmt.Fprintf(&b, "  call at %s errcode %d delivered %t answered %t fault %q\n", c.At.Format(time.StampMilli), c.ErrCode, c.Delivered, c.Answered, c.Fault)
	}
	for _, f := range a.w.faults.list() {
		if at := a.fences[id].Since; at != 0 && f.from.Sub(a.fences[id].since()).Abs() > time.Minute {
			continue
		}
		fmt.Fprintf(&b, "  %s to %s: %s %s\n", f.from.Format(time.StampMilli), f.to.Format("05.000"), f.what, f.replica)
	}
	return b.String()
}
