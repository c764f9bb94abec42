package worker_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// clockAt returns a clock that starts now at a time in China.
func clockAt(t *testing.T, text string) func() time.Time {
	t.Helper()
	at, err := time.ParseInLocation(time.DateTime, text, calendar.Shanghai())
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	return func() time.Time { return at.Add(time.Since(started)) }
}

// waitsForHours waits until a task of a lane is in asynq's retry set.
func (r *rig) waitsForHours(typ, id string) *asynq.TaskInfo {
	r.t.Helper()
	inspector := asynq.NewInspectorFromRedisClient(r.rdb)
	var info *asynq.TaskInfo
	redistest.Until(r.t, 10*time.Second, id+" waits for the hours", func() bool {
		got, err := inspector.GetTaskInfo(tasks.QueueName(app, typ, tasks.Urgent), app+":"+id)
		info = got
		return err == nil && got.State == asynq.TaskStateRetry
	})
	return info
}

// TestTasksWaitOutsideHours: tasks are handed back until the hours open, without an attempt, a
// fence or an error. A task that ignores the hours is sent, a task that expires before they
// open ends in time, and types without hours are not affected.
func TestTasksWaitOutsideHours(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hours = worker.Hours{"send:*": "08:00-22:00"}
		r.clock = clockAt(t, "2026-12-01 23:00:00")
		p := r.replica(nil)
		for _, id := range []string{"sleeps", "sleeps-too"} {
			r.submit(message(id, id))
			info := r.waitsForHours(tasks.TypeSubscribe, id)
			if wait := time.Until(info.NextProcessAt); wait < 9*time.Hour-time.Minute || wait > 9*time.Hour+2*time.Second {
				t.Errorf("%s waits %v, want the nine hours until eight", id, wait)
			}
			if info.Retried != 0 || info.LastErr != "outside of the app's hours" {
				t.Errorf("%s: asynq counts %d retries, %q", id, info.Retried, info.LastErr)
			}
			got, err := r.client.Result(t.Context(), app, id)
			if err != nil || got.State != tasks.StateWaiting || got.Attempts != 0 {
				t.Errorf("%s: %+v, %v", id, got, err)
			}
			if fence := r.rdb.HGet(t.Context(), "wxcourier:{"+app+"}:task:"+id, "fence").Val(); fence != "" {
				t.Errorf("%s has the fence %s", id, fence)
			}
		}
		late := message("late", "c")
		late.NotAfter = r.clock().Add(2 * time.Second)
		r.submit(late)
		urgent := message("urgent", "sleeps") // to a receiver that has a waiting message
		urgent.IgnoreHours = true
		r.submit(urgent)
		r.submit(tasks.Envelope{Type: tasks.TypeScheme, ID: "link", Body: []byte(`{}`)})
		for id, want := range map[string]tasks.Outcome{
			"urgent": tasks.OutcomeAccepted, "link": tasks.OutcomeAccepted, "late": tasks.OutcomeExpired,
		} {
			if got := r.outcome(id); got.Outcome != want {
				t.Errorf("%s: %s %s", id, got.Outcome, got.Reason)
			}
		}
		if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 1 {
			t.Errorf("%d messages outside the hours, want the one that ignores them", n)
		}
		if n := strings.Count(r.log.String(), `level=INFO msg="outside of the app's hours"`); n != 1 {
			t.Errorf("the wait is logged %d times, want 1", n)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		r.usedToday(tasks.TypeSubscribe, 1)
	})
}

// usedToday checks how much of a type's daily quota is used.
func (r *rig) usedToday(typ string, want int64) {
	r.t.Helper()
	usage, err := r.limiter().Usage(r.t.Context(), app, typ)
	if err != nil || len(usage) != 1 || usage[0].Window != ratelimit.PerDay || usage[0].Used != want {
		r.t.Errorf("used: %+v, %v; want %d", usage, err, want)
	}
}

// TestTasksAreSentWhenTheHoursOpen: waiting tasks are sent when the hours open, and not before.
func TestTasksAreSentWhenTheHoursOpen(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hours = worker.Hours{"send:*": "08:00-22:00"}
		r.clock = clockAt(t, "2026-12-01 07:59:57")
		opens := time.Now().Add(3 * time.Second)
		r.replica(nil)
		r.submit(message("waits", "a"))
		if got := r.outcome("waits"); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
			t.Errorf("%+v", got)
		}
		for _, call := range r.wx.Calls(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}) {
			if call.At.Before(opens) {
				t.Errorf("sent %v before the hours opened", opens.Sub(call.At))
			}
		}
	})
}

// TestTheHoursCloseBeforeTheCall: when the hours close between the dequeue and the call, the
// task is handed back without an attempt.
func TestTheHoursCloseBeforeTheCall(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hours = worker.Hours{"*": "08:00-22:00"}
		evening, night := clockAt(t, "2026-12-01 21:59:00"), clockAt(t, "2026-12-01 22:00:00")
		var reads atomic.Int64
		r.clock = func() time.Time {
			if reads.Add(1) == 1 { // in prepare
				return evening()
			}
			return night()
		}
		r.replica(nil)
		r.submit(message("too-late", "a"))
		info := r.waitsForHours(tasks.TypeSubscribe, "too-late")
		if wait := time.Until(info.NextProcessAt); wait < 10*time.Hour-time.Minute || info.Retried != 0 {
			t.Errorf("the task waits %v, after %d retries", wait, info.Retried)
		}
		got, err := r.client.Result(t.Context(), app, "too-late")
		if err != nil || got.State != tasks.StateWaiting || got.Attempts != 0 {
			t.Errorf("%+v, %v", got, err)
		}
		if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}

// TestACappedTaskOutsideHoursFails: asynq would archive the task instead of retrying it when
// the hours open, so it ends with an outcome.
func TestACappedTaskOutsideHoursFails(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.hours = worker.Hours{"send:subscribe": "08:00-22:00"}
	r.clock = clockAt(t, "2026-12-01 23:00:00")
	r.replica(nil)
	r.failsCapped("a")
	if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 0 {
		t.Errorf("%d calls outside the hours", n)
	}
}
