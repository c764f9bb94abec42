package chaos

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
)

// unknownsWereInFlight checks that each task that ended as unknown was in flight during a fault: of
// its connection, of its replica, or of Redis.
func (a *audit) unknownsWereInFlight() {
	why := make(map[string]int)
	for id, f := range a.fences {
		if at := slices.IndexFunc(a.calls[id], func(c sandbox.Call) bool { return !c.Answered }); at >= 0 && a.calls[id][at].Fault != "" {
			why["its connection broke"]++
			continue
		}
		met := a.faultDuring(f)
		if met == "" {
			a.w.t.Errorf("%s is unknown without a fault: %s", id, a.history(id))
			continue
		}
		why[met]++
	}
	a.w.t.Logf("outcomes %v; unknown because of %v; duplicates: %d", a.counts, why, len(a.duplicates))
}

// commandDelay is how long Redis may take to execute a command that a killed replica had sent.
const commandDelay = time.Second

// faultDuring returns the fault during which the fence's run was in flight; "" for none.
func (a *audit) faultDuring(f fence) string {
	all := a.w.faults.list()
	longest := attemptTimeout + time.Second
	for _, one := range all {
		if one.replica == "" { // while Redis was unreachable, known outcomes could not be recorded
			longest += one.to.Sub(one.from)
		}
	}
	runner, _, _ := strings.Cut(f.Runner, "-")
	for _, one := range all {
		if (one.replica == "" || one.replica == runner) && !f.since().After(one.to.Add(commandDelay)) && one.from.Sub(f.since()) < longest {
			if one.replica == "" && !strings.Contains(one.what, "lost") {
				continue // Redis lost nothing, so this fault does not explain it
			}
			return one.what
		}
	}
	return ""
}

// history returns the results, fence and calls of a task, and the faults around it, for failure messages.
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
