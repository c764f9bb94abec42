package worker_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// submitTo enqueues n messages of an app to one person each.
func (r *rig) submitTo(app string, n int) {
	r.t.Helper()
	for i := range n {
		e := addressed(tasks.TypeCustom, fmt.Sprint("t", i), fmt.Sprint("oReceiver-", i))
		e.App = app
		r.submit(e)
	}
}

func (r *rig) deliveredOf(app string) int {
	return int(r.wx.Count(sandbox.Filter{App: app, Delivered: true}))
}

// gauges returns the series of an app that a replica exports, of the metrics with a prefix.
func (p *running) gauges(t *testing.T, app string) (series []string) {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetType().String() != "GAUGE" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "app" && l.GetValue() == app {
					series = append(series, f.GetName())
				}
			}
		}
	}
	return series
}

// TestSetApps: under load an app is added to a running replica, removed and added again. What is
// under way is finished, the rest waits, and nothing is lost or doubled.
func TestSetApps(t *testing.T) {
	opts := manyApps(1)
	opts.Latency = 100 * time.Millisecond
	onEach(t, opts, func(t *testing.T, r *rig) {
		const n = 200
		other, limits := appNumber(0), map[string]ratelimit.Limit{tasks.TypeCustom: {Concurrency: 8}}
		one, both := []worker.App{{ID: app}}, []worker.App{{ID: app}, {ID: other}}
		r.submitTo(other, n)
		r.submitTo(app, 1)
		p := r.replica(limits)
		redistest.Until(t, 20*time.Second, "the app's own message", func() bool { return r.deliveredOf(app) == 1 })
		if r.deliveredOf(other) != 0 {
			t.Error("messages of an app that the replica does not have")
		}
		set := func(apps []worker.App) {
			t.Helper()
			if err := p.SetApps(apps); err != nil {
				t.Fatal(err)
			}
		}
		set(both)
		redistest.Until(t, 20*time.Second, "calls are under way", func() bool { return r.deliveredOf(other) >= 20 })
		if len(p.gauges(t, other)) == 0 {
			t.Error("the app has no gauges")
		}
		set(one)
		active := "asynq:{" + tasks.QueueName(other, tasks.TypeCustom, tasks.Urgent) + "}:active"
		redistest.Until(t, 20*time.Second, "the calls under way end, and the lane closes", func() bool {
			return r.rdb.LLen(t.Context(), active).Val() == 0 && worker.OpenLanesForTest(p.Replica) <= 1
		})
		sent := r.deliveredOf(other)
		if sent == n {
			t.Fatal("all messages were sent before the app was removed")
		}
		results := r.rdb.XLen(t.Context(), "wxcourier:{"+other+"}:results")
		if err := results.Err(); err != nil || int(results.Val()) != sent {
			t.Errorf("%d messages delivered, %d results, %v", sent, results.Val(), err)
		}
		if series := p.gauges(t, other); len(series) != 0 {
			t.Errorf("gauges of an app that was removed: %v", series)
		}
		r.submitTo(app, 2) // the replica goes on; t0 is known
		redistest.Until(t, 20*time.Second, "another message of the app that stays", func() bool { return r.deliveredOf(app) == 2 })
		if now := r.deliveredOf(other); now != sent {
			t.Errorf("%d messages after the app was removed", now-sent)
		}

		set(both)
		redistest.Until(t, 30*time.Second, "all messages", func() bool { return r.deliveredOf(other) == n })
		if twice := r.wx.Duplicates(); len(twice) > 0 {
			t.Errorf("sent twice: %+v", twice)
		}
		noLeak(t, r)
	})
}

// TestSetAppsChangesGuards: hours and receivers apply to tasks that wait already.
func TestSetAppsChangesGuards(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.FixedZone("", 8*3600))
		r.clock, r.hours = func() time.Time { return noon }, worker.Hours{"send:*": "22:00-23:00"}
		p := r.replica(nil)
		r.submit(addressed(tasks.TypeCustom, "waits", "oFriend"))
		redistest.Until(t, 20*time.Second, "the message is handed back", func() bool {
			return strings.Contains(r.log.String(), "outside of the app's hours")
		})
		if err := p.SetApps([]worker.App{{ID: app, Hours: worker.Hours{"send:*": "8-22"}}}); err == nil {
			t.Error("hours that are not valid were accepted")
		}
		if err := p.SetApps([]worker.App{{ID: app, OnlyOpenIDs: []string{"oFriend"}}}); err != nil {
			t.Fatal(err)
		}
		r.submit(addressed(tasks.TypeCustom, "stranger", "oStranger"))
		r.submit(addressed(tasks.TypeCustom, "friend", "oFriend"))
		if got := r.outcome("stranger"); got.Outcome != tasks.OutcomeRejected || got.Reason != "staging" {
			t.Errorf("%+v", got)
		}
		if got := r.outcome("friend"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
	})
}

// TestSetAppsChangesConcurrency: an open lane follows.
func TestSetAppsChangesConcurrency(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Start(t).Addr(), sandbox.Options{Latency: 20 * time.Millisecond})
	var slots, active, most atomic.Int64
	slots.Store(1)
	r.limits = func() map[string]ratelimit.Limit {
		return map[string]ratelimit.Limit{tasks.TypeCustom: {Concurrency: int(slots.Load())}}
	}
	r.hooks = worker.Hooks{
		OnSending: func(context.Context, worker.Sending) error {
			most.Store(max(most.Load(), active.Add(1)))
			return nil
		},
		OnResult:  func(tasks.Result) { active.Add(-1) },
		OnNotSent: func(worker.Sending) { active.Add(-1) },
	}
	const n = 300
	r.submitTo(app, n)
	p := r.replica(nil)
	redistest.Until(t, time.Minute, "some messages, one at a time", func() bool { return r.deliveredOf(app) >= 10 })
	if most.Load() != 1 {
		t.Errorf("%d calls at the same time, want 1", most.Load())
	}
	slots.Store(10)
	if err := p.SetApps([]worker.App{{ID: app}}); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, time.Minute, "all messages", func() bool { return r.deliveredOf(app) == n })
	if got := most.Load(); got < 2 || got > 10 {
		t.Errorf("%d calls at the same time, want 2 to 10", got)
	}
}

// TestSetConfiguration: the list of replicas shows what the process tells about its configuration.
func TestSetConfiguration(t *testing.T) {
	t.Parallel()
	r := newRig(t, redistest.Start(t).Addr(), sandbox.Options{})
	p := r.replica(nil)
	want := worker.Configuration{Hash: "01234567", Read: time.Now().Truncate(time.Second), Restart: []string{"redis.db"}}
	p.SetConfiguration(want)
	redistest.Until(t, 20*time.Second, "the configuration is shown", func() bool { // long before the next beat is due
		replicas, err := heartbeat.List(t.Context(), r.rdb)
		if err != nil {
			t.Fatal(err)
		}
		return len(replicas) == 1 && replicas[0].Configuration != nil && replicas[0].Configuration.Hash == want.Hash &&
			replicas[0].Configuration.Read.Equal(want.Read) && len(replicas[0].Configuration.Restart) == 1
	})
}
