package worker_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// clockAt is a clock that shows a time in China now, and goes on from there.
func clockAt(t *testing.T, text string) func() time.Time {
	t.Helper()
	at, err := time.ParseInLocation(time.DateTime, text, ratelimit.Shanghai())
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
	redistest.Until(r.t, 10*time.Second, id+" rests", func() bool {
		got, err := inspector.GetTaskInfo(tasks.QueueName(app, typ, tasks.Urgent), app+":"+id)
		info = got
		return err == nil && got.State == asynq.TaskStateRetry
	})
	return info
}

// TestTasksWaitOutsideHours: what comes at night is handed back until the morning as if nothing had
// happened. What ignores the hours goes, what expires before the morning ends in time, and
// other types go on.
func TestTasksWaitOutsideHours(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hours = worker.Hours{"send:*": "08:00-22:00"}
		r.clock = clockAt(t, "2026-12-01 23:00:00")
		p := r.replica(nil)
		for _, id := range []string{"sleeps", "sleeps-too"} {
			r.submit(message(id, id))
			info := r.waitsForHours(tasks.TypeSubscribe, id)
			if wait := time.Until(info.NextProcessAt); wait < 9*time.Hour-time.Minute || wait > 9*time.Hour+2*time.Second {
				t.Errorf("%s waits %v, nine hours are left of the night", id, wait)
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
		urgent := message("urgent", "sleeps") // to one who has a message waiting already
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
			t.Errorf("%d messages at night, want the one that ignores the hours", n)
		}
		if n := strings.Count(r.log.String(), `level=INFO msg="outside of the app's hours"`); n != 1 {
			t.Errorf("the night is said %d times", n)
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		r.usedToday(tasks.TypeSubscribe, 1)
	})
}

// usedToday checks how much of a type's day is used.
func (r *rig) usedToday(typ string, want int64) {
	r.t.Helper()
	usage, err := r.limiter().Usage(r.t.Context(), app, typ)
	if err != nil || len(usage) != 1 || usage[0].Window != ratelimit.PerDay || usage[0].Used != want {
		r.t.Errorf("used: %+v, %v; want %d", usage, err, want)
	}
}

// TestTasksAreSentWhenTheHoursOpen: what rests goes by itself when the hours open, and not before.
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

// TestTheHoursCloseBeforeTheCall: a task that was taken in time, and whose turn comes too
// late, goes back without an attempt.
func TestTheHoursCloseBeforeTheCall(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.hours = worker.Hours{"*": "08:00-22:00"}
		evening, night := clockAt(t, "2026-12-01 21:59:00"), clockAt(t, "2026-12-01 22:00:00")
		var looks atomic.Int64
		r.clock = func() time.Time {
			if looks.Add(1) == 1 { // when it is decoded
				return evening()
			}
			return night()
		}
		r.replica(nil)
		r.submit(message("too-late", "a"))
		info := r.waitsForHours(tasks.TypeSubscribe, "too-late")
		if wait := time.Until(info.NextProcessAt); wait < 10*time.Hour-time.Minute || info.Retried != 0 {
			t.Errorf("it waits %v, after %d retries", wait, info.Retried)
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

// TestACappedTaskOutsideHoursFails: asynq would archive it rather than bring it back in the
// morning; it has an outcome.
func TestACappedTaskOutsideHoursFails(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.hours = worker.Hours{"send:subscribe": "08:00-22:00"}
	r.clock = clockAt(t, "2026-12-01 23:00:00")
	r.replica(nil)
	r.failsCapped("a")
	if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 0 {
		t.Errorf("%d calls at night", n)
	}
}
