package worker_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// consentRig is a rig whose app has a mode of consent, and the one-time template T1 in its registry.
func consentRig(t *testing.T, r *rig, mode string) {
	t.Helper()
	r.consent = mode
	registry, err := json.Marshal(templates.Registry{Templates: []templates.Template{{ID: "T1", Source: templates.Subscribe, Kind: templates.OneTime}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.rdb.Set(t.Context(), templates.Key(app), registry, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// accepts makes a person accept T1 once, at WeChat; the push of it may be lost.
func (r *rig) accepts(openid string, lost bool) {
	r.t.Helper()
	r.wx.SetCredits(app, openid, "T1", 1)
	if lost {
		return
	}
	err := consent.NewStore(r.rdb, nil).Grant(r.t.Context(), app, consent.News{
		OpenID: openid, Template: "T1", Choice: consent.Accepted, At: time.Now().Add(-time.Minute),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// declines makes a person refuse T1.
func (r *rig) declines(openid string) {
	r.t.Helper()
	r.wx.SetCredits(app, openid, "T1", 0)
	err := consent.NewStore(r.rdb, nil).Grant(r.t.Context(), app, consent.News{
		OpenID: openid, Template: "T1", Choice: consent.Declined, At: time.Now().Add(-time.Minute),
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// consentReplica starts a replica that waits for pushes for a time.
func (r *rig) consentReplica(pushDelay time.Duration) *running {
	r.t.Helper()
	p, closeParts := r.unstarted(r.newRedis(), nil)
	worker.SetPushDelayForTest(p.Replica, pushDelay)
	r.start(p, closeParts)
	return p
}

// checks returns the value of the metric of a check.
func (p *running) checks(check consent.Check) int {
	families, err := p.registry.Gather()
	if err != nil {
		return -1
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			for _, label := range m.GetLabel() {
				if family.GetName() == "wxcourier_consent_checks_total" && label.GetName() == "check" && label.GetValue() == string(check) {
					return int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return 0
}

// refused checks that a task ended without a call, or with WeChat's refusal.
func (r *rig) expectRefused(id string, reason string, code int) {
	r.t.Helper()
	if got := r.outcome(id); got.Outcome != tasks.OutcomeRefused || got.Reason != reason || got.ErrCode != code {
		r.t.Errorf("%s: %+v; want refused, reason %q, code %d", id, got, reason, code)
	}
}

func TestConsentEnforced(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		consentRig(t, r, worker.ConsentEnforce)
		p := r.consentReplica(0)
		r.accepts("o1", false)
		r.submit(message("first", "o1"))
		if got := r.outcome("first"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("the first message: %+v", got)
		}
		before := r.wx.Count(sandbox.Filter{Path: sendPath})
		r.submit(message("second", "o1"))
		r.expectRefused("second", worker.ReasonNoConsent, 0)
		if got := r.wx.Count(sandbox.Filter{Path: sendPath}); got != before {
			t.Errorf("a refused message made %d calls", got-before)
		}
		// Nothing is known of o2: WeChat decides, and that is known then.
		r.wx.SetCredits(app, "o2", "T1", 0)
		r.submit(message("third", "o2"))
		r.expectRefused("third", "", 43101)
		r.submit(message("fourth", "o2"))
		r.expectRefused("fourth", worker.ReasonNoConsent, 0)
		for check, want := range map[consent.Check]int{
			consent.CheckAllowed: 1, consent.CheckStopped: 2, consent.CheckUnknown: 1, consent.CheckUnforeseen: 1,
			consent.CheckMissed: 0, consent.CheckWrong: 0, consent.CheckError: 0,
		} {
			again := want > 0 && (check == consent.CheckAllowed || check == consent.CheckUnknown) // after an attempt that got no permit
			if got := p.checks(check); got < want || got > want && !again {
				t.Errorf("%s: %d; want %d", check, got, want)
			}
		}
	})
}

// A message that was enqueued before the push of its acceptance waits for it.
func TestConsentWaitsForThePush(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		consentRig(t, r, worker.ConsentEnforce)
		p := r.consentReplica(4 * time.Second)
		r.declines("o1")
		r.wx.SetCredits(app, "o1", "T1", 1)
		r.submit(message("early", "o1"))
		redistest.Until(t, 30*time.Second, "the message waits", func() bool { return p.checks(consent.CheckWaited) == 1 })
		r.accepts("o1", false)
		if got := r.outcome("early"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("a message before its push: %+v", got)
		}
	})
}

// With the mode off there is no command for consents, and no key.
func TestConsentOffCostsNothing(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		r.consentReplica(0)
		r.submit(message("m", "o1"))
		r.outcome("m")
		if keys := r.rdb.Keys(t.Context(), "*consent*").Val(); len(keys) > 0 {
			t.Errorf("keys of consents: %v", keys)
		}
	})
}

// A broken entry, or a Redis that refuses the scripts, stops no message.
func TestConsentFailsOpen(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		consentRig(t, r, worker.ConsentEnforce)
		r.declines("o1")
		for _, key := range r.rdb.Keys(t.Context(), "wxcourier:{"+app+"}:consent:*").Val() {
			r.rdb.Del(t.Context(), key)
			r.rdb.Set(t.Context(), key, "of another program", redis.KeepTTL)
		}
		r.wx.SetCredits(app, "o1", "T1", 1)
		p := r.consentReplica(0)
		r.submit(message("m", "o1"))
		if got := r.outcome("m"); got.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v", got)
		}
		if p.checks(consent.CheckError) == 0 {
			t.Error("the failure was not counted")
		}
	})
}

// population sends a message to each of n persons, of whom 30 % have no credit left. Of the acceptances
// a tenth is not heard of where lost is set.
func population(t *testing.T, r *rig, n int, lost bool) (refused, accepted int) {
	t.Helper()
	for i := range n {
		openid := fmt.Sprint("o", i)
		switch {
		case i%10 < 3:
			r.declines(openid)
		case lost && i%10 == 9: // declined first, and the push of the acceptance is lost
			r.declines(openid)
			r.accepts(openid, true)
		default:
			r.accepts(openid, false)
		}
	}
	envelopes := make([]tasks.Envelope, n)
	for i := range envelopes {
		envelopes[i] = message(fmt.Sprint("m", i), fmt.Sprint("o", i))
		envelopes[i].App = app
	}
	for _, result := range r.client.SubmitMany(t.Context(), envelopes) {
		if result.Err != nil {
			t.Fatal(result.Err)
		}
	}
	for i := range n {
		switch got := r.outcome(fmt.Sprint("m", i)); {
		case got.Outcome == tasks.OutcomeAccepted:
			accepted++
		case got.Outcome == tasks.OutcomeRefused && (got.Reason == worker.ReasonNoConsent) == (r.consent == worker.ConsentEnforce):
			refused++
		default:
			t.Errorf("m%d: %+v", i, got)
		}
	}
	return refused, accepted
}

// Where all news are heard of, enforce saves the calls that would meet 43101, and stops no other.
func TestConsentOfAPopulation(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		consentRig(t, r, worker.ConsentEnforce)
		p := r.consentReplica(0)
		const n = 100
		if refused, accepted := population(t, r, n, false); refused != 30 || accepted != 70 {
			t.Errorf("%d refused, %d accepted", refused, accepted)
		}
		if stopped, missed := p.checks(consent.CheckStopped), p.checks(consent.CheckMissed); stopped != 30 || missed != 0 {
			t.Errorf("%d calls saved, %d not; want 30 and 0", stopped, missed)
		}
	})
}

// Where a tenth of the acceptances is lost, observe tells how often enforce would be wrong.
func TestConsentObserved(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		consentRig(t, r, worker.ConsentObserve)
		p := r.consentReplica(0)
		const n = 100
		if refused, accepted := population(t, r, n, true); refused != 30 || accepted != 70 {
			t.Errorf("%d refused, %d accepted: observe must not change that", refused, accepted)
		}
		if right, wrong := p.checks(consent.CheckRight), p.checks(consent.CheckWrong); right != 30 || wrong != 10 {
			t.Errorf("would have saved %d calls, and been wrong %d times; want 30 and 10", right, wrong)
		}
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
		days, err := consent.Counts(t.Context(), r.rdb, app, time.Now(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if total := consent.Total(days); total[consent.CheckRight] != 30 || total[consent.CheckWrong] != 10 || total[consent.CheckWouldStop] < 40 { // an attempt that got no permit is checked again
			t.Errorf("the counts in Redis: %v", days)
		}
	})
}
