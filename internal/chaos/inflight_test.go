package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
)

// unknownsWereInFlight: each task that ended as unknown was under way when something
// broke: its own connection, its replica, or what Redis kept.
func (a *audit) unknownsWereInFlight() {
	why := make(map[string]int)
	for id, f := range a.fences {
		if at := slices.IndexFunc(a.calls[id], func(c sandbox.Call) bool { return !c.Answered }); at >= 0 && a.calls[id][at].Fault != "" {
			why["its connection broke"]++
			continue
		}
		met := a.faultDuring(f)
		if met == "" {
			a.w.t.Errorf("%s is unknown, and nothing broke: %s", id, a.history(id))
			continue
		}
		why[met]++
	}
	a.w.t.Logf("outcomes %v; unknown because of %v; doubled: %d", a.counts, why, len(a.duplicates))
}

// commandDelay is how long a command of a replica that has died may lie with Redis before it is
// carried out.
const commandDelay = time.Second

// faultDuring is the fault that a run met which began then.
func (a *audit) faultDuring(f fence) string {
	all := a.w.faults.list()
	longest := attemptTimeout + time.Second
	for _, one := range all {
		if one.replica == "" { // while Redis was away, what is known could not be recorded
			longest += one.to.Sub(one.from)
		}
	}
	runner, _, _ := strings.Cut(f.Runner, "-")
	for _, one := range all {
		if (one.replica == "" || one.replica == runner) && !f.since().After(one.to.Add(commandDelay)) && one.from.Sub(f.since()) < longest {
			if one.replica == "" && !strings.Contains(one.what, "lost") {
				continue // Redis kept everything: that is no excuse
			}
			return one.what
		}
	}
	return ""
}

// history is what is known of a task, for a failure's message.
func (a *audit) history(id string) string {
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
