package dispatch

import (
	"errors"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// A Verdict decides what happens to a task after an attempt, or instead of one.
type Verdict struct {
	Outcome tasks.Outcome   // the task ends with it; "": the task is retried
	Reason  string          // explains an outcome or a hold
	Delay   time.Duration   // until the retry
	Counts  bool            // the attempt counts as failed
	stops   stop            // what is held
	hold    verdictHold     // the hold, unless stops is stopNothing
	slows   ratelimit.Span  // the window whose pace was too fast for WeChat; "" for none
	learns  bool            // query WeChat's limit again
	Place   asynqwire.Place // where the task waits for the retry
}

// verdictHold is the hold that a verdict sets. Its end is computed by Redis' clock.
type verdictHold struct {
	reason string
	end    hold.End
	probe  bool // of a breaker: only the attempt that sets the hold counts as failed
}

// stop is the scope of the hold that a verdict sets.
type stop uint8

const (
	stopNothing  stop = iota
	stopLane          // one app and type
	stopApp           // all lanes of the app
	stopTemplate      // one template of the app
)

// A rule is the part of a verdict that depends only on the class of the answer.
type rule struct {
	outcome    tasks.Outcome
	reason     string
	counts     bool
	stops      stop
	slows      ratelimit.Span
	learns     bool
	wait       func(now time.Time, n int) time.Duration // n is the number of failed attempts, or of holds in a row, from 0
	ends       hold.Boundary                            // the hold ends then, by Redis' clock; "": it ends after wait
	tripReason string                                   // the answers trip the lane's breaker, with a hold for this reason; "": they do not
}

// rules defines what the worker does about each class of answers, one row a class. Package
// wechat defines the class of each code.
var rules = map[wechat.Class]rule{
	wechat.ClassOK:          {outcome: tasks.OutcomeAccepted},
	wechat.ClassRisky:       {outcome: tasks.OutcomeAccepted},
	wechat.ClassRefused:     {outcome: tasks.OutcomeRefused},
	wechat.ClassRejected:    {outcome: tasks.OutcomeRejected},
	wechat.ClassRetired:     {outcome: tasks.OutcomeRejected, reason: "retired_api"},
	wechat.ClassTemplate:    {outcome: tasks.OutcomeRejected, reason: ReasonTemplateHeld, stops: stopTemplate, wait: backoff(templateProbes)},
	wechat.ClassBusy:        {counts: true, wait: backoff(retries)},
	wechat.ClassUnlisted:    {counts: true, wait: backoff(retries), tripReason: ReasonUnlistedCode},
	wechat.ClassPerUser:     {wait: after(3 * time.Second)},
	wechat.ClassPerUserLong: {wait: after(time.Hour)},
	wechat.ClassRateSecond:  {reason: "rate_second", stops: stopLane, slows: ratelimit.PerSecond, wait: after(time.Second)},
	wechat.ClassRateMinute:  {reason: "rate_minute", stops: stopLane, slows: ratelimit.PerMinute, learns: true, wait: until(calendar.NextMinute), ends: hold.NextMinute},
	wechat.ClassQuotaDay:    {reason: "quota_day", stops: stopLane, learns: true, wait: until(calendar.EndOfDay), ends: hold.EndOfDay},
	wechat.ClassToken:       {reason: tokenRejected, stops: stopApp, wait: backoff(appProbes)},
	wechat.ClassConfig:      {reason: appConfig, stops: stopApp, wait: backoff(appProbes)},
	wechat.ClassAccount:     {reason: capability, stops: stopLane, wait: backoff(capabilityProbes)},

	wechat.ClassUnauthorized: {reason: hold.ReasonUnauthorized, stops: stopApp, wait: backoff(appProbes)},
}

// Reasons of holds that are used outside of rules, too.
const (
	tokenUnavailable = "token_unavailable" //nolint:gosec // no credential
	tokenRejected    = "token_rejected"    //nolint:gosec // likewise
	appConfig        = "app_config"
	capability       = "capability"
	// ReasonTemplateHeld is the reason of a hold on a template, and of the outcome of the
	// messages with it.
	ReasonTemplateHeld = "template_held"
	// ReasonUnlistedCode is the reason of a hold on a lane that got the same errcode several
	// times in a row, and the code table has no row for it. The hold's code needs a row.
	ReasonUnlistedCode = "unlisted_code"
)

// IsHoldReason reports whether a reason is one of the holds that verdicts set, and not an
// operator's.
func IsHoldReason(reason string) bool {
	for _, r := range rules {
		if r.reason == reason || r.tripReason == reason {
			return true
		}
	}
	return reason == tokenUnavailable
}

// breakerThreshold is how many answers in a row trip a lane's breaker, where the cause of
// each may be its task alone: an unlisted code, or a token that WeChat refuses for this API
// and takes for another.
const breakerThreshold = 3

// judge returns the verdict on an attempt. It is total: every error has a verdict.
func judge(a Attempt) Verdict {
	var (
		unsent *NotSentError
		token  *wechat.TokenError
		api    *wechat.APIError
	)
	switch {
	case a.Err == nil:
		return a.apply(rules[wechat.ClassOK])
	case errors.As(a.Err, &unsent):
		return unsent.verdict()
	case errors.As(a.Err, &token):
		return a.tokenVerdict(token)
	case errors.As(a.Err, &api):
		return a.apply(a.ruleOf(api))
	}
	// Unreachable, or no answer.
	v := a.apply(rules[wechat.ClassBusy])
	if a.Repeat == tasks.Never && NoAnswer(a.Err) {
		return Verdict{Outcome: tasks.OutcomeUnknown, Reason: "no_answer"}
	}
	return v
}

// ruleOf returns the rule of an answer, without what it would mean for other calls where it means
// nothing for them.
func (a Attempt) ruleOf(e *wechat.APIError) rule {
	r := rules[e.Class()]
	switch {
	case a.Unchecked && !a.Secret && slices.Contains(requestIdentityCodes(), e.Code):
		return rules[wechat.ClassRejected]
	case a.Unchecked && e.Class() == wechat.ClassUnlisted:
		r.tripReason = ""
	case a.noLane && r.stops == stopLane, a.noTemplate && r.stops == stopTemplate:
		r.stops, r.slows, r.learns = stopNothing, "", false
	}
	return r
}

// requestIdentityCodes are the codes about an app id or a secret. The app's own never reach WeChat
// in a request that a client wrote, and its token was accepted: what is wrong is in the request.
func requestIdentityCodes() []int { return []int{40013, 40125, 41002, 41004} }

// tokenVerdict judges an attempt that had no valid token. The attempt does not count as
// failed, since the cause is not the task, unless WeChat takes the token for another API.
func (a Attempt) tokenVerdict(e *wechat.TokenError) Verdict {
	if errors.Is(e, wechat.ErrTokenRejected) {
		if a.tokenWorks { // the cause is the task or the lane, not the app
			return a.apply(rule{counts: true, wait: backoff(retries), tripReason: tokenRejected})
		}
		return a.apply(rules[wechat.ClassToken])
	}
	if errors.Is(e, wechat.ErrUnauthorized) {
		return a.apply(rules[wechat.ClassUnauthorized])
	}
	var api *wechat.APIError
	if errors.As(e.Err, &api) {
		if r := rules[api.Class()]; r.stops != stopNothing {
			r.stops, r.slows, r.learns = stopApp, "", false // a token that is out of quota stops all of the app's types
			return a.apply(r)
		}
	}
	return a.apply(rule{reason: tokenUnavailable, stops: stopApp, wait: backoff(tokenWaits)})
}

// apply returns the verdict of a rule, with the hold that it sets.
func (a Attempt) apply(r rule) Verdict {
	v := a.applyToTask(r)
	switch {
	case r.stops != stopNothing:
		v.hold = verdictHold{reason: r.reason, end: hold.End{At: r.ends, After: v.Delay}}
	case r.tripReason != "" && a.consecutive >= breakerThreshold:
		v.stops = stopLane
		v.hold = verdictHold{reason: r.tripReason, end: hold.End{After: backoff(laneProbes)(a.now, a.holds)}, probe: true}
	}
	return v
}

// applyToTask returns the verdict of a rule without its hold.
func (a Attempt) applyToTask(r rule) Verdict {
	v := Verdict{Outcome: r.outcome, Reason: r.reason, Counts: r.counts, stops: r.stops, slows: r.slows, learns: r.learns}
	n := a.holds
	if r.counts {
		n = a.Failed
		if a.Failed+1 >= a.Budget {
			return a.exhausted()
		}
	}
	if r.wait != nil {
		v.Delay = r.wait(a.now, n)
	}
	return v
}

// underHold returns the verdict for a hold that is in force: the task waits in its queue, and
// continues at once when the hold ends or is lifted. begun means that this verdict set the
// hold.
//
// A task that was refused for its pace goes to the front of its queue. Where the hold is
// probed, the task goes to the back: if it alone is the cause, the next probe with another
// task shows that.
func (v Verdict) underHold(begun bool) Verdict {
	switch {
	case v.hold.probe && !begun:
		return Verdict{Place: asynqwire.QueueBack}
	case v.hold.probe || v.Outcome != "" || v.Counts:
		return v
	}
	v.Place = asynqwire.QueueBack
	if v.slows != "" || v.learns {
		v.Place = asynqwire.QueueFront
	}
	return v
}

// exhausted returns the verdict on the last attempt: failed, or unknown when a request that
// got no answer may have been taken.
func (a Attempt) exhausted() Verdict {
	if a.Repeat != tasks.Always && (a.Doubt || NoAnswer(a.Err)) {
		return Verdict{Outcome: tasks.OutcomeUnknown, Reason: "no_answer"}
	}
	return Verdict{Outcome: tasks.OutcomeFailed, Reason: "attempts_exhausted"}
}
