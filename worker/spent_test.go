package worker_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// metricsOf returns the metrics of a replica.
func metricsOf(t *testing.T, p *running) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler(p.registry).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

// pauseOf returns the value of asynq's pause key of a queue.
func (r *rig) pauseOf(queue string) string {
	return r.rdb.Get(r.t.Context(), "asynq:{"+queue+"}:paused").Val()
}

// TestASpentLimitIsShownLikeAHold: the day's limit is spent by our own count. Two replicas log it
// once, their metrics and the asynq web UI show it, and no hold is set. When WeChat's lower count
// is learned, the waiting tasks are sent.
func TestASpentLimitIsShownLikeAHold(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		awayFromMidnight(t)
		limits := map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerDay: 5}}
		first, second := r.replica(limits), r.replica(limits)
		const n = 20
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("receiver-%d", i)))
		}
		labels := `{app="` + app + `",reason="quota_day",type="` + tasks.TypeSubscribe + `"}`
		redistest.Until(t, 30*time.Second, "both replicas and the web UI show it", func() bool {
			return strings.Contains(metricsOf(t, first), "wxcourier_hold"+labels+" 1\n") &&
				strings.Contains(metricsOf(t, second), "wxcourier_hold"+labels+" 1\n") &&
				r.pauseOf(tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)) == "wxcourier:"+tasks.TypeSubscribe
		})
		left := regexp.MustCompile(regexp.QuoteMeta("wxcourier_hold_seconds"+labels) + ` (\S+)`).FindStringSubmatch(metricsOf(t, first))
		if left == nil {
			t.Fatal("no metric for the time left")
		}
		if s, err := strconv.ParseFloat(left[1], 64); err != nil || s <= 0 || s > 24*3600+10 {
			t.Errorf("%s seconds left, %v", left[1], err)
		}
		if holds, err := r.holds().List(t.Context(), app); err != nil || len(holds) > 0 {
			t.Errorf("held: %v, %v", holds, err)
		}
		logged := func(text string) int { return strings.Count(r.log.String(), text) }
		if n := logged(`level=WARN msg="held by our own count: the limit is spent"`); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 5 {
			t.Errorf("%d calls", n)
		}

		limiter := ratelimit.NewLimiter(r.rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return limits })
		now, err := limiter.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		cleared := ratelimit.Learned{PerDay: 100_000, Asked: now, Settle: time.Microsecond}
		redistest.Until(t, 10*time.Second, "the last grant is some time ago", func() bool {
			cleared.Asked, err = limiter.Now(t.Context())
			return err == nil && limiter.Learn(t.Context(), app, tasks.TypeSubscribe, cleared) == nil && usedToday(t, limiter) == 0
		})
		if err := r.holds().Announce(t.Context(), app); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, 10*time.Second, "five more calls", func() bool { return r.wx.Count(sandbox.Filter{Path: subscribePath}) == 10 })
		redistest.Until(t, 30*time.Second, "spent and logged again", func() bool {
			return logged(`msg="held by our own count: the limit is spent"`) == 2 && logged(`msg="no longer held by our own count"`) == 1
		})
		noLeak(t, r)
	})
}

// usedToday returns our count of subscribe messages.
func usedToday(t *testing.T, l *ratelimit.Limiter) int64 {
	t.Helper()
	usage, err := l.Usage(t.Context(), app, tasks.TypeSubscribe)
	if err != nil || len(usage) != 1 {
		t.Fatalf("%+v, %v", usage, err)
	}
	return usage[0].Used
}

// TestDispatchersBelieveNoLowerCount: the queries of a worker raise our count and never lower it;
// an operator's query does.
func TestDispatchersBelieveNoLowerCount(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		awayFromMidnight(t)
		limiter := r.limiter()
		if err := limiter.Learn(t.Context(), app, tasks.TypeSubscribe, ratelimit.Learned{UsedToday: 50}); err != nil {
			t.Fatal(err)
		}
		r.replica(nil)
		r.submit(message("one", "person-1"))
		r.outcome("one")
		r.learned(tasks.TypeSubscribe, ratelimit.PerDay)
		if n := usedToday(t, limiter); n < 50 {
			t.Errorf("our count is %d", n)
		}
		tokens := wechat.NewTokens(r.wechat, r.rdb, func(app string) (wechat.Credential, bool) {
			return wechat.Credential{App: app, Secret: secret}, true
		})
		defer tokens.Close()
		reader := dispatch.QuotaReader{WeChat: wechat.NewClient(r.wechat, tokens), Limiter: limiter, Attempt: time.Second}
		for range 2 { // WeChat must be asked some time after the last call
			quota, asked, err := reader.Ask(t.Context(), app, tasks.TypeSubscribe)
			if err != nil || quota.Used != 1 || time.Since(asked).Abs() > time.Minute {
				t.Fatalf("%+v, %v, %v", quota, asked, err)
			}
		}
		if n := usedToday(t, limiter); n < 50 {
			t.Errorf("right after a call, the lower count was believed: %d", n)
		}
	})
}

// TestReservedQuotaPausesTheBulkQueue: what is left of the day's limit is reserved for urgent
// tasks. The bulk queue is shown as paused, and an urgent task is sent.
func TestReservedQuotaPausesTheBulkQueue(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		awayFromMidnight(t)
		r.reserve = 0.5
		p := r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerDay: 6}})
		for i := range 10 {
			e := message(fmt.Sprintf("m%d", i), fmt.Sprintf("receiver-%d", i))
			e.Priority = tasks.Bulk
			r.submit(e)
		}
		labels := `{app="` + app + `",reason="quota_reserved",type="` + tasks.TypeSubscribe + `"}`
		bulk := tasks.QueueName(app, tasks.TypeSubscribe, tasks.Bulk)
		redistest.Until(t, 30*time.Second, "the bulk queue is paused", func() bool {
			return strings.Contains(metricsOf(t, p), "wxcourier_hold"+labels+" 1\n") && r.pauseOf(bulk) == "wxcourier:"+hold.BulkScope(tasks.TypeSubscribe)
		})
		r.submit(message("urgent", "someone"))
		if got := r.outcome("urgent"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
		if n := r.wx.Count(sandbox.Filter{Path: subscribePath}); n != 4 {
			t.Errorf("%d calls, want 3 bulk and the urgent one", n)
		}
		if value := r.pauseOf(tasks.QueueName(app, tasks.TypeSubscribe, tasks.Urgent)); value != "" {
			t.Errorf("the urgent queue is paused by %q", value)
		}
	})
}
