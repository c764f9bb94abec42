package worker_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	subscribePath = "/cgi-bin/message/subscribe/send"
	quotaPath     = "/cgi-bin/openapi/quota/get"
)

// learned waits until WeChat's limit of a window is stored, and returns the usage.
func (r *rig) learned(typ string, span ratelimit.Span) ratelimit.Usage {
	r.t.Helper()
	var found ratelimit.Usage
	redistest.Until(r.t, 10*time.Second, "the limits of "+typ+" are learned", func() bool {
		usage, err := r.limiter().Usage(r.t.Context(), app, typ)
		for _, u := range usage {
			if u.Name == typ && u.Window == span {
				found = u
			}
		}
		return err == nil && found.Learned > 0
	})
	return found
}

func (r *rig) submitMany(n int) {
	for i := range n {
		r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i)))
	}
}

// TestALowerLimitIsLearned: WeChat allows fewer calls a second than configured. After that is
// learned, no call is refused.
func TestALowerLimitIsLearned(t *testing.T) {
	onEach(t, sandbox.Options{Limits: map[string]sandbox.Limit{subscribePath: {PerSecond: 20}}}, func(t *testing.T, r *rig) {
		limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 200}}
		r.pace.Margin = 0.25 // the machine is busy with other tests
		r.replica(limits)
		r.replica(limits)
		r.submit(message("first", "first"))
		r.outcome("first")
		if u := r.learned(tasks.TypeSubscribe, ratelimit.PerSecond); u.Learned != 20 {
			t.Errorf("learned %+v", u)
		}
		r.submitMany(60)
		for i := range 60 {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
				t.Errorf("m%d: %s after %d attempts", i, got.Outcome, got.Attempts)
			}
		}
		if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 61 {
			t.Errorf("%d calls for 61 messages", n)
		}
		if peak := r.wx.Peak(app, subscribePath); peak.Second > 20 {
			t.Errorf("%d calls in a second", peak.Second)
		}
	})
}

// TestAHigherLimitChangesNothing: WeChat allows more calls than configured; the configured
// limit applies.
func TestAHigherLimitChangesNothing(t *testing.T) {
	onEach(t, sandbox.Options{Limits: map[string]sandbox.Limit{subscribePath: {PerSecond: 1000}}}, func(t *testing.T, r *rig) {
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 20}})
		r.submit(message("first", "first"))
		r.outcome("first")
		if u := r.learned(tasks.TypeSubscribe, ratelimit.PerSecond); u.Learned != 1000 {
			t.Errorf("learned %+v", u)
		}
		r.submitMany(60)
		for i := range 60 {
			r.outcome(fmt.Sprintf("m%d", i))
		}
		if peak := r.wx.Peak(app, subscribePath); peak.Second > 20 {
			t.Errorf("%d calls in a second, 20 are configured", peak.Second)
		}
	})
}

// TestUsageOfOtherSystemsIsLearned: another system has used 25 of the day's quota of 30. Five
// messages are sent; the others wait without being refused. The lane opens outside the app's
// hours, so that no message is sent before the query.
func TestUsageOfOtherSystemsIsLearned(t *testing.T) {
	onEach(t, sandbox.Options{Limits: map[string]sandbox.Limit{subscribePath: {PerDay: 30}}}, func(t *testing.T, r *rig) {
		awayFromMidnight(t)
		if err := r.wx.SetQuota(app, subscribePath, 25); err != nil {
			t.Fatal(err)
		}
		r.hours, r.clock = worker.Hours{"send:subscribe": "08:00-22:00"}, clockAt(t, "2026-12-01 23:00:00")
		r.replica(nil)
		r.submit(message("first", "first"))
		r.waitsForHours(tasks.TypeSubscribe, "first")
		r.learned(tasks.TypeSubscribe, ratelimit.PerDay)
		for i := range 20 {
			e := message(fmt.Sprintf("m%d", i), fmt.Sprintf("o%d", i))
			e.IgnoreHours = true
			r.submit(e)
		}
		accepted := func() (n int) {
			for i := range 20 {
				if got, err := r.client.Result(t.Context(), app, fmt.Sprintf("m%d", i)); err == nil && got.Outcome == tasks.OutcomeAccepted {
					n++
				}
			}
			return n
		}
		redistest.Until(t, 20*time.Second, "the day is used up", func() bool { return accepted() == 5 })
		r.submit(addressed(tasks.TypeCustom, "another-lane", "b")) // its delivery shows that time has passed
		r.outcome("another-lane")
		if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 5 {
			t.Errorf("%d calls, want the five that are left of the quota", n)
		}
		if holds, err := r.holds().List(t.Context(), app); err != nil || len(holds) > 0 {
			t.Errorf("held: %v, %v", holds, err)
		}
	})
}

// awayFromMidnight skips a test of a day's quota around midnight in China, when a call may
// count for either day.
func awayFromMidnight(t *testing.T) {
	t.Helper()
	if now := time.Now().In(calendar.Shanghai()); now.Hour() == 23 && now.Minute() == 59 || now.Hour() == 0 && now.Minute() == 0 {
		t.Skip("skipped: midnight in China")
	}
}

// TestOneReplicaQueriesForAll: there is one query for each API, whatever the number of replicas
// and lanes, and no other one when lanes open again.
func TestOneReplicaQueriesForAll(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		for range 3 {
			r.replica(nil)
		}
		r.submitMany(20)
		r.submit(addressed(tasks.TypeCustom, "custom", "a"))
		for i := range 20 {
			r.outcome(fmt.Sprintf("m%d", i))
		}
		r.outcome("custom")
		for _, typ := range []string{tasks.TypeSubscribe, tasks.TypeCustom} {
			r.learned(typ, ratelimit.PerDay)
			ttl := r.rdb.TTL(t.Context(), "wxcourier:{"+app+"}:quota:"+typ).Val()
			if ttl < 59*time.Minute || ttl > time.Hour {
				t.Errorf("the next query for %s is allowed in %v", typ, ttl)
			}
		}
		late := r.replica(nil)
		redistest.Until(t, 10*time.Second, "the replica has polled the queues", late.Ready)
		r.submit(message("later", "later"))
		r.outcome("later")
		if n := r.wx.Count(sandbox.Filter{Path: quotaPath}); n != 2 {
			t.Errorf("%d queries for two APIs", n)
		}
	})
}

// TestARefusalTriggersAQuery: another system uses up the day's quota after the lane has
// opened. WeChat's refusal leads to one more query, whose answer is stored.
func TestARefusalTriggersAQuery(t *testing.T) {
	onEach(t, sandbox.Options{Limits: map[string]sandbox.Limit{subscribePath: {PerDay: 50}}}, func(t *testing.T, r *rig) {
		awayFromMidnight(t)
		r.replica(nil)
		r.submit(message("first", "first"))
		r.outcome("first")
		r.learned(tasks.TypeSubscribe, ratelimit.PerDay)
		if err := r.wx.SetQuota(app, subscribePath, 50); err != nil {
			t.Fatal(err)
		}
		r.submit(message("refused", "refused"))
		r.held(tasks.TypeSubscribe)
		redistest.Until(t, 10*time.Second, "the used quota is learned", func() bool {
			return r.learned(tasks.TypeSubscribe, ratelimit.PerDay).Used >= 50
		})
		if _, err := r.holds().Lift(t.Context(), app, tasks.TypeSubscribe); err != nil {
			t.Fatal(err)
		}
		r.submit(addressed(tasks.TypeCustom, "another-lane", "b"))
		r.outcome("another-lane")
		if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 2 {
			t.Errorf("%d calls, want 2, the second refused", n)
		}
		queries := 0
		for _, call := range r.wx.Calls(sandbox.Filter{Path: quotaPath}) {
			if strings.Contains(string(call.Body), subscribePath) {
				queries++
			}
		}
		if queries != 2 {
			t.Errorf("%d queries, want 2", queries)
		}
	})
}

// TestARefusedQuotaQueryHoldsNothing: for an API that quota/get does not know, the next query
// is a day later; nothing is held, and the log has no warning.
func TestARefusedQuotaQueryHoldsNothing(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		if _, err := r.wx.AddFault(sandbox.Fault{ErrCode: 76021, Path: quotaPath}); err != nil {
			t.Fatal(err)
		}
		r.replica(nil)
		r.submit(message("one", "person-1"))
		if got := r.outcome("one"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
		redistest.Until(t, 10*time.Second, "the next query is a day later", func() bool {
			ttl := r.rdb.TTL(t.Context(), "wxcourier:{"+app+"}:quota:"+tasks.TypeSubscribe).Val()
			return ttl > 23*time.Hour
		})
		if holds, err := r.holds().List(t.Context(), app); err != nil || len(holds) > 0 {
			t.Errorf("held: %v, %v", holds, err)
		}
		if text := r.log.String(); strings.Contains(text, "level=WARN") || !strings.Contains(text, "76021") {
			t.Errorf("the log:\n%s", text)
		}
		noLeak(t, r)
	})
}

// TestALoweredPaceIsInTheMetrics: the metrics have the pace factor and the learned limit.
func TestALoweredPaceIsInTheMetrics(t *testing.T) {
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{Limits: map[string]sandbox.Limit{subscribePath: {PerSecond: 50}}})
	p := r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 100}})
	r.submit(message("fast", "second-a"))
	labels := `{api="` + subscribePath + `",app="` + app + `"`
	redistest.Until(t, 20*time.Second, "the metrics have the factor and the limit", func() bool {
		w := httptest.NewRecorder()
		p.Handler(p.registry).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		text := w.Body.String()
		return strings.Contains(text, "wxcourier_pace_factor"+labels+"} 0.7") &&
			strings.Contains(text, "wxcourier_quota_limit"+labels+`,window="second"} 50`)
	})
}

// TestPaceRecoveryIsLogged: the log reports once that a lowered pace is full again.
func TestPaceRecoveryIsLogged(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("skipped: -short, a pace recovers in steps of ten seconds")
	}
	m, _ := redistest.Mini(t)
	r := newRig(t, m.Addr(), sandbox.Options{})
	r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 100}})
	r.submit(message("fast", "second-a"))
	r.outcome("fast")
	if strings.Contains(r.log.String(), "back at full pace") {
		t.Fatal("logged too early")
	}
	redistest.Until(t, 3*time.Minute, "the recovery is logged", func() bool {
		return strings.Contains(r.log.String(), `msg="back at full pace" app=`+app+" type="+tasks.TypeSubscribe)
	})
	if n := strings.Count(r.log.String(), "back at full pace"); n != 1 {
		t.Errorf("logged %d times, want 1", n)
	}
}
