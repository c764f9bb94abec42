package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// noOptions are the options of a WeChat without faults or limits.
var noOptions = sandbox.Options{}

// hold sets an operator's hold.
func (r *rig) hold(h hold.Hold) {
	r.t.Helper()
	h.App, h.Reason, h.By = app, "operator", "somebody@somewhere"
	if set, err := r.holds().Set(r.t.Context(), h); err != nil || !set {
		r.t.Fatalf("not held: %v, %v", set, err)
	}
}

// unhold lifts a hold.
func (r *rig) unhold(scope string) {
	r.t.Helper()
	if lifted, err := r.holds().Lift(r.t.Context(), app, scope); err != nil || !lifted {
		r.t.Fatalf("not lifted: %v, %v", lifted, err)
	}
}

// lanes waits until so many lanes are open.
func (r *rig) lanes(p *running, want int) {
	r.t.Helper()
	redistest.Until(r.t, 20*time.Second, fmt.Sprintf("%d lanes are open", want), func() bool {
		return worker.OpenLanesForTest(p.Replica) == want
	})
}

// TestHeldLaneCloses: a held lane closes, stays closed although tasks are enqueued, and its
// pending tasks are still counted. Other lanes are not affected. The lane opens when the
// hold is lifted.
func TestHeldLaneCloses(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		r.submit(message("first", "a"))
		r.outcome("first")
		r.submit(addressed(tasks.TypeCustom, "custom-first", "a"))
		r.outcome("custom-first")
		r.lanes(p, 2)
		r.hold(hold.Hold{Scope: tasks.TypeSubscribe})
		r.lanes(p, 1)
		const n = 20
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		r.submit(addressed(tasks.TypeCustom, "custom", "b"))
		r.outcome("custom")
		redistest.Until(t, 20*time.Second, "the waiting tasks are counted", func() bool { return worker.WaitingForTest(p.Replica) == n })
		if open := worker.OpenLanesForTest(p.Replica); open > 1 {
			t.Errorf("%d lanes are open", open)
		}
		if calls := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); calls != 1 {
			t.Errorf("%d calls, want the one before the hold", calls)
		}
		r.unhold(tasks.TypeSubscribe)
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("m%d: %s after %d attempts", i, got.Outcome, got.Attempts)
			}
		}
	})
}

// TestHeldLaneOpensAtTheEnd: a lane opens when its hold expires, and sends nothing before.
func TestHeldLaneOpensAtTheEnd(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		until := time.Now().Add(4 * time.Second)
		r.hold(hold.Hold{Scope: hold.WholeApp, Until: until})
		p := r.replica(nil)
		r.submit(message("one", "a"))
		redistest.Until(t, 10*time.Second, "the replica is ready", p.Ready)
		if open := worker.OpenLanesForTest(p.Replica); open > 0 && time.Until(until) > 3*time.Second {
			t.Errorf("%d lanes of a held app are open", open)
		}
		got := r.outcome("one")
		if got.Outcome != tasks.OutcomeAccepted || got.FinishedAt.Before(until) {
			t.Errorf("%s at %v, held until %v", got.Outcome, got.FinishedAt, until)
		}
		pausedBy(t, r.rdb, tasks.TypeSubscribe, "")
	})
}

// TestOperatorHoldStopsTheApp: all lanes of two replicas stop, and continue within the limit
// when the hold is lifted.
func TestOperatorHoldStopsTheApp(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		const perSecond, n = 20, 60
		limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: perSecond}}
		replicas := []*running{r.replica(limits), r.replica(limits)}
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		calls := func() int { return r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) }
		redistest.Until(t, 10*time.Second, "calls are under way", func() bool { return calls() > 0 })
		r.hold(hold.Hold{Scope: hold.WholeApp})
		for _, p := range replicas {
			r.lanes(p, 0)
		}
		before := calls()
		if before == n {
			t.Skip("skipped: this machine was so slow that all was sent before the hold")
		}
		// Tasks whose handlers had not called WeChat were handed back to the queue, or to the
		// retry set where that was before the hold.
		r.becomesIdle()
		waiting, _ := r.waiting()
		for _, p := range replicas {
			redistest.Until(t, 20*time.Second, "the waiting tasks are counted", func() bool { return worker.WaitingForTest(p.Replica) == waiting })
		}
		if after := calls(); after != before {
			t.Errorf("%d calls while the app was held", after-before)
		}
		r.unhold(hold.WholeApp)
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("m%d: %s after %d attempts", i, got.Outcome, got.Attempts)
			}
		}
		// TestPaceIsKept is strict. This check only detects a burst, since single calls may be
		// late on a busy machine.
		if peak := r.wx.Peak(app, "/cgi-bin/message/subscribe/send"); peak.Second > perSecond*5/4 {
			t.Errorf("%d calls in one second, %d are allowed", peak.Second, perSecond)
		}
	})
}

// TestAHoldIsFoundWithoutItsMessage: polling finds a hold record that was set, and then
// deleted, without a message.
func TestAHoldIsFoundWithoutItsMessage(t *testing.T) {
	onEach(t, noOptions, func(t *testing.T, r *rig) {
		p := r.replica(nil)
		r.submit(message("first", "a"))
		r.outcome("first")
		record, index := "wxcourier:{"+app+"}:hold:*", "wxcourier:{"+app+"}:holds"
		_, err := r.rdb.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
			tx.HSet(t.Context(), record, "reason", "operator", "code", 0, "by", "somebody", "since", 1, "until", 0, "tries", 1)
			tx.SAdd(t.Context(), index, hold.WholeApp)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 20*time.Second, "the hold is shown", func() bool {
			return r.rdb.Get(t.Context(), pauseKeys(tasks.TypeSubscribe)[0]).Val() == "wxcourier:*"
		})
		r.lanes(p, 0)
		r.submit(message("second", "b"))
		if err := r.rdb.Del(t.Context(), record, index).Err(); err != nil {
			t.Fatal(err)
		}
		if got := r.outcome("second"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// TestHeldLanesCostFewCommands: 600 lanes have pending tasks and are held by their types,
// which costs more than holds of whole apps. The poll of the queues, twice a second, costs as
// much as without tasks; the poll of the holds costs two short commands for each lane.
func TestHeldLanesCostFewCommands(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), noOptions)
	const apps = 50
	lanes := 0
	for i := range apps {
		other := fmt.Sprintf("wx%016x", i+1)
		r.others = append(r.others, worker.App{ID: other})
		for _, spec := range tasks.Catalog() {
			lanes++
			if _, err := r.holds().Set(t.Context(), hold.Hold{App: other, Scope: spec.Type, Reason: "operator"}); err != nil {
				t.Fatal(err)
			}
			queue := tasks.QueueName(other, spec.Type, tasks.Urgent)
			if err := r.rdb.LPush(t.Context(), "asynq:{"+queue+"}:pending", "somebody's task").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	rdb := r.newRedis()
	sent := redistest.Count(rdb)
	p, closeParts := r.unstarted(rdb, nil)
	defer closeParts()
	ctx := t.Context()
	worker.PollHoldsForTest(ctx, p.Replica) // the first call also writes the pauses
	commands, trips := sent.During(func() { worker.PollForTest(ctx, p.Replica) })
	if commands > 2 || trips > 2 {
		t.Errorf("a poll with %d held lanes: %d commands in %d round trips", lanes, commands, trips)
	}
	commands, trips = sent.During(func() { worker.PollHoldsForTest(ctx, p.Replica) })
	if most := int64(2*lanes + 3*apps); commands > most || trips > 5 {
		t.Errorf("a poll of the holds of %d lanes: %d commands, want at most %d, in %d round trips", lanes, commands, most, trips)
	}
	if n := worker.WaitingForTest(p.Replica); n != int64(lanes) {
		t.Errorf("%d pending tasks were counted in %d lanes", n, lanes)
	}
	if n := worker.OpenLanesForTest(p.Replica); n != 0 {
		t.Errorf("%d lanes are open", n)
	}
}

// TestOneScheduledTaskCostsFewCommands: one of 612 lanes has a scheduled task. A poll checks
// single queues only in the block of that lane.
func TestOneScheduledTaskCostsFewCommands(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), noOptions)
	for i := range 50 {
		r.others = append(r.others, worker.App{ID: fmt.Sprintf("wx%016x", i+1)})
	}
	later := message("later", "a")
	later.ProcessAt = time.Now().Add(time.Hour)
	r.submit(later)
	rdb := r.newRedis()
	sent := redistest.Count(rdb)
	p, closeParts := r.unstarted(rdb, nil)
	defer closeParts()
	commands, trips := sent.During(func() { worker.PollForTest(t.Context(), p.Replica) })
	if commands > 150 || trips > 3 {
		t.Errorf("a poll: %d commands in %d round trips", commands, trips)
	}
}
