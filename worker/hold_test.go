package worker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// limiter returns a limiter of the test's own, and holds a store of holds.
func (r *rig) limiter() *ratelimit.Limiter {
	return ratelimit.NewLimiter(r.rdb, ratelimit.DefaultConfig(), nil)
}

func (r *rig) holds() *hold.Store { return hold.NewStore(r.rdb) }

// held waits until a scope is held, and returns the record.
func (r *rig) held(scope string) hold.Hold {
	r.t.Helper()
	var found hold.Hold
	redistest.Until(r.t, 10*time.Second, scope+" is held", func() bool {
		h, active, err := r.holds().Get(r.t.Context(), app, scope)
		found = h
		return err == nil && active
	})
	return found
}

// TestDayQuotaHoldsTheLane: the lane is held until midnight; its tasks wait without attempts,
// and are sent when the hold is lifted. Another lane is not affected.
func TestDayQuotaHoldsTheLane(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.replica(nil)
		r.submit(message("spent", "day-a"))
		hold := r.held(tasks.TypeSubscribe)
		if hold.Code != 45009 || hold.Reason != "quota_day" {
			t.Errorf("hold %+v", hold)
		}
		if end := calendar.EndOfDay(time.Now()); hold.Until.Before(end.Add(-time.Minute)) || hold.Until.After(end.Add(time.Hour)) {
			t.Errorf("held until %v, the day ends at %v", hold.Until, end)
		}
		for i := range 10 {
			r.submit(message(fmt.Sprintf("waits%d", i), fmt.Sprintf("w%d", i)))
		}
		r.submit(addressed(tasks.TypeCustom, "goes-on", "b"))
		if got := r.outcome("goes-on"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("another lane: %s", got.Outcome)
		}
		if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 1 {
			t.Errorf("%d calls on a held lane, want only the refused one", n)
		}
		got, err := r.client.Result(t.Context(), app, "waits3")
		if err != nil || got.State != tasks.StateWaiting || got.Attempts != 0 {
			t.Errorf("a waiting task: %+v, %v", got, err)
		}
		if _, err := r.holds().Lift(t.Context(), app, tasks.TypeSubscribe); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if got := r.outcome(fmt.Sprintf("waits%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("after the hold: %s", got.Outcome)
			}
		}
	})
}

func TestSecondLimitSlowsOnly(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.replica(nil)
	r.submit(message("fast", "second-a"))
	if got := r.outcome("fast"); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 2 {
		t.Errorf("%+v", got)
	}
}

// TestWrongSecretHoldsTheApp: the app is held, the log warns once of the token and once of the
// hold, with advice, and no attempt counts.
// The tasks are sent without further action when the cause is corrected.
func TestWrongSecretHoldsTheApp(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.wx.BlockIP(app, true)
		r.replica(nil)
		for i := range 20 {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("person-%d", i)))
		}
		hold := r.held(hold.WholeApp)
		if hold.Code != 40164 || hold.Reason != "app_config" {
			t.Errorf("hold %+v", hold)
		}
		redistest.Until(t, 10*time.Second, "the error is logged", func() bool { return strings.Contains(r.log.String(), "40164") })
		r.wx.BlockIP(app, false)
		for i := range 20 {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("m%d: %s %s after %d attempts", i, got.Outcome, got.Reason, got.Attempts)
			}
		}
		text := r.log.String()
		if n, held := strings.Count(text, "level=WARN"), strings.Count(text, "level=WARN msg=held "); n != 2 || held != 1 || !strings.Contains(text, "IP whitelist") {
			t.Errorf("%d warnings, want 2; %d of them of the hold, want 1\n%s", n, held, text)
		}
		noLeak(t, r)
	})
}

// TestBannedTemplateIsNotCalledAgain: the task whose template is banned and later tasks with
// that template end rejected, after a single call. Other templates are not affected.
func TestBannedTemplateIsNotCalledAgain(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	if _, err := r.wx.AddFault(sandbox.Fault{ErrCode: 43107, Template: "T1"}); err != nil {
		t.Fatal(err)
	}
	r.replica(nil)
	r.submit(message("first", "a"))
	if got := r.outcome("first"); got.Outcome != tasks.OutcomeRejected || got.ErrCode != 43107 {
		t.Errorf("%+v", got)
	}
	r.submit(message("second", "b"))
	if got := r.outcome("second"); got.Outcome != tasks.OutcomeRejected || got.Attempts != 0 || got.Reason != "template_held" {
		t.Errorf("%+v", got)
	}
	other := message("other", "c")
	other.Body = []byte(strings.Replace(string(other.Body), `"T1"`, `"T2"`, 1))
	r.submit(other)
	if got := r.outcome("other"); got.Outcome != tasks.OutcomeAccepted {
		t.Errorf("another template: %+v", got)
	}
	if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n != 2 {
		t.Errorf("%d calls", n)
	}
}

// TestPaceIsKept: three replicas share a limit, and no sliding second has more calls than the
// limit allows.
func TestPaceIsKept(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		const perSecond, n = 40, 80
		limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: perSecond}}
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
		}
		for range 3 {
			r.replica(limits)
		}
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("m%d: %s", i, got.Outcome)
			}
		}
		if peak := r.wx.Peak(app, "/cgi-bin/message/subscribe/send"); peak.Second > perSecond {
			t.Errorf("%d calls in one second, %d are allowed", peak.Second, perSecond)
		}
	})
}

func TestUrgentPassesBulk(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		for i := range 60 {
			e := message(fmt.Sprintf("bulk%d", i), fmt.Sprintf("b%d", i))
			e.Priority = tasks.Bulk
			r.submit(e)
		}
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 20}})
		r.outcome("bulk0")
		r.submit(message("urgent", "u"))
		r.outcome("urgent")
		if n := r.wx.Count(sandbox.Filter{Path: "/cgi-bin/message/subscribe/send"}); n > 30 {
			t.Errorf("the urgent message came after %d bulk ones", n)
		}
	})
}
