package dispatch

import (
	"errors"
	"math/rand/v2"
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

// RetryDelay returns the delay before the nth retry after temporary errors, from 0.
func RetryDelay(n int) time.Duration { return retries[min(n, len(retries)-1)] }

// breakerThreshold is how many answers in a row trip a lane's breaker, where the cause of
// each may be its task alone: an unlisted code, or a token that WeChat refuses for this API
// and takes for another.
const breakerThreshold = 3

// The schedules: the length of the nth wait, with the running total beside each line. The
// last line is repeated.
var (
	// retries is for temporary errors of WeChat, and for a WeChat that cannot be reached.
	// With the default of eight attempts the last attempt is made after 1 h 45 min.
	retries = []time.Duration{
		5 * time.Second,  // 5 s: a shorter wait would meet the same busy server
		15 * time.Second, // 20 s
		1 * time.Minute,  // 1 min 20 s
		3 * time.Minute,  // 4 min 20 s
		10 * time.Minute, // 14 min 20 s
		30 * time.Minute, // 44 min 20 s
		1 * time.Hour,    // 1 h 44 min 20 s
	}
	// appProbes is for an app that gets no token until an operator corrects its settings.
	appProbes = []time.Duration{
		10 * time.Second, // 10 s
		30 * time.Second, // 40 s
		1 * time.Minute,  // 1 min 40 s
		5 * time.Minute,  // 6 min 40 s
		15 * time.Minute, // 21 min 40 s
		30 * time.Minute, // 51 min 40 s
	}
	// tokenWaits is for a token endpoint that is busy or cannot be reached.
	tokenWaits = []time.Duration{
		2 * time.Second,  // 2 s
		5 * time.Second,  // 7 s
		15 * time.Second, // 22 s
		30 * time.Second, // 52 s
		1 * time.Minute,  // 1 min 52 s
	}
	// capabilityProbes is for an API that WeChat took away from an app.
	capabilityProbes = []time.Duration{
		5 * time.Minute,  // 5 min
		30 * time.Minute, // 35 min
		2 * time.Hour,    // 2 h 35 min
		6 * time.Hour,    // 8 h 35 min
	}
	// laneProbes is for a lane whose breaker has tripped.
	laneProbes = []time.Duration{
		1 * time.Minute,  // 1 min
		5 * time.Minute,  // 6 min
		15 * time.Minute, // 21 min
		30 * time.Minute, // 51 min
		1 * time.Hour,    // 1 h 51 min
	}
	// templateProbes is for a template that WeChat took away.
	templateProbes = []time.Duration{
		10 * time.Minute, // 10 min
		1 * time.Hour,    // 1 h 10 min
		6 * time.Hour,    // 7 h 10 min
	}
)

// backoff returns a wait function that follows a schedule, with jitter.
func backoff(schedule []time.Duration) func(time.Time, int) time.Duration {
	return func(_ time.Time, n int) time.Duration {
		return jitter(schedule[min(max(n, 0), len(schedule)-1)])
	}
}

// after returns a wait function of constant length, with jitter.
func after(d time.Duration) func(time.Time, int) time.Duration {
	return func(time.Time, int) time.Duration { return jitter(d) }
}

// until returns a wait function that waits until the end of a span.
func until(end func(time.Time) time.Time) func(time.Time, int) time.Duration {
	return func(now time.Time, _ int) time.Duration { return end(now).Sub(now) }
}

// jitter adds up to a fifth, so that tasks that failed together are not retried together.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5+1) } //nolint:gosec // no secret

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
		return a.apply(rules[api.Class()])
	}
	// Unreachable, or no answer.
	v := a.apply(rules[wechat.ClassBusy])
	if a.Repeat == tasks.Never && NoAnswer(a.Err) {
		return Verdict{Outcome: tasks.OutcomeUnknown, Reason: "no_answer"}
	}
	return v
}

// tokenVerdict judges an attempt that had no valid token. The attempt does not count as
// failed, since the cause is not the task, unless WeChat takes the token for another API.
func (a Attempt) tokenVerdict(e *wechat.TokenError) Verdict {
	if errors.Is(e, wechat.ErrTokenRejected) {
		if a.tokenWorks { // the cause is the task or the lane, not the app
			return a.apply(rule{counts: true, wait: backoff(retries), tripReason: tokenRejected})
		}
		return a.apply(rules[wechat.ClassToken])
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
