package worker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestASlowTokenCausesNoBurst: neither calls that wait for a token to be fetched nor calls that
// are repeated after a refused token exceed the limit together.
func TestASlowTokenCausesNoBurst(t *testing.T) {
	const limit, n = 50, 90
	onEach(t, sandbox.Options{Latency: 900 * time.Millisecond}, func(t *testing.T, r *rig) {
		r.wechat.Timeout, r.wechat.AttemptTimeout = 3*time.Second, 6*time.Second
		r.pace.Margin = 0.3
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: limit}})
		r.submitMany(n)
		redistest.Until(t, 10*time.Second, "calls are under way", func() bool {
			return r.wx.Count(sandbox.Filter{Path: subscribePath}) >= n/4
		})
		r.wx.Revoke(app)
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeAccepted {
				t.Errorf("%s: %s %s", got.ID, got.Outcome, got.Reason)
			}
		}
		if peak := r.wx.Peak(app, subscribePath); peak.Second > limit {
			t.Errorf("%d calls in a second, of %d allowed", peak.Second, limit)
		}
		if calls := r.wx.Count(sandbox.Filter{Path: subscribePath}); calls == n {
			t.Error("no call met the revoked token: the test shows nothing")
		}
	})
}

// TestARefusedTokenEndsTheCalls: the secret is changed and the tokens are revoked while messages
// flow. Only the calls that were written before the first refusal arrived are refused, and no
// probe of the hold makes a call with the refused token.
func TestARefusedTokenEndsTheCalls(t *testing.T) {
	const inFlight = 64 // the concurrency of a lane
	onEach(t, sandbox.Options{Latency: 20 * time.Millisecond}, func(t *testing.T, r *rig) {
		r.replica(map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: 400}})
		r.submitMany(3000)
		redistest.Until(t, 20*time.Second, "messages flow", func() bool { return r.wx.Count(sandbox.Filter{Path: subscribePath}) > 100 })
		r.wx.SetSecret(app, "changed")
		r.wx.Revoke(app)
		r.held("*")
		probe := func() (refused int) {
			if _, err := r.holds().Lift(t.Context(), app, "*"); err != nil {
				t.Fatal(err)
			}
			r.held("*")
			return r.wx.Count(sandbox.Filter{Path: subscribePath, ErrCodes: []int{40001}})
		}
		refused := probe() // all that were in flight have ended
		if refused == 0 || refused > inFlight {
			t.Errorf("%d calls with the refused token, want 1 to %d", refused, inFlight)
		}
		for range 4 {
			if n := probe(); n != refused {
				t.Errorf("%d calls of a probe with the refused token", n-refused)
				refused = n
			}
		}
	})
}
