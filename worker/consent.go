package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// The values of App.Consent.
const (
	// ConsentOff: nothing is counted, and nothing is asked of Redis.
	ConsentOff = "off"
	// ConsentObserve: all messages are sent; it is counted how many calls ConsentEnforce would have saved,
	// and how often it would have been wrong.
	ConsentObserve = "observe"
	// ConsentEnforce: a message to a person who has no consent left ends as refused, reason no_consent,
	// without a call.
	ConsentEnforce = "enforce"
)

// ConsentModes returns the values of App.Consent.
func ConsentModes() []string { return []string{ConsentOff, ConsentObserve, ConsentEnforce} }

// ConsentMode returns the mode of a configured value: "" is ConsentOff.
func ConsentMode(configured string) (mode string, err error) {
	switch {
	case configured == "":
		return ConsentOff, nil
	case !slices.Contains(ConsentModes(), configured):
		return "", fmt.Errorf("%q is not one of off, observe and enforce", configured)
	}
	return configured, nil
}

// ReasonNoConsent is the reason of a message that was refused without a call.
const ReasonNoConsent = "no_consent"

const (
	// errcodeRefused is WeChat's answer where the person has no credit left, or refuses the template.
	errcodeRefused = 43101
	// consentTimeout bounds a call for the consent of a person: the message does not depend on it.
	consentTimeout = time.Second
	// sendingDelay is the delay of a message while others to the person have reserved all credits.
	sendingDelay = 3 * time.Second
	// failureLogEvery is how often a failure of Redis is logged.
	failureLogEvery = time.Minute
)

// consentLedger reserves and takes the credits of messages.
type consentLedger struct {
	store   *consent.Store
	counts  *consent.Recorder
	metrics *metrics
	kindOf  consent.KindOf
	hold    time.Duration // until a run that was not heard of again is dead
	log     *slog.Logger
	now     func() time.Time
	// pushDelay is how long after a task was enqueued the push of its acceptance may come.
	pushDelay time.Duration
	// loggedAt is when a failure of Redis was last logged, in ns since 1970.
	loggedAt atomic.Int64
}

// consentCheck is what was found about the consent of a message's receiver before the call.
type consentCheck struct {
	send   consent.Send
	kind   consent.Kind
	answer consent.Answer
	held   bool // a credit is reserved
	early  bool // the push of the acceptance may not have come yet
	// wouldStop: the mode observe sends the message, which enforce would refuse.
	wouldStop bool
}

// hopeless reports whether the entry says that there is no credit, be it too old, or of a template of
// an unknown kind.
func (c *consentCheck) hopeless() bool {
	return c.answer.May == consent.No || c.answer.Why == consent.WhyRecheck || c.answer.Why == consent.WhyKind
}

// consentMode returns the mode of the app of a job, ConsentOff for tasks that need no consent.
func (j *job) consentMode() string {
	switch {
	case j.Type != tasks.TypeSubscribe && j.Type != tasks.TypeBizSubscribe, j.template == "", j.receiver == "", j.app.Consent == "":
		return ConsentOff
	}
	return j.app.Consent
}

// checkConsent reserves a credit of a message's receiver. It returns a *dispatch.NotSentError for a
// message that ends without a call, or waits. When Redis does not answer, the message is sent.
func (l *consentLedger) checkConsent(ctx context.Context, j *job) error {
	mode := j.consentMode()
	if mode == ConsentOff {
		return nil
	}
	c, err := l.reserve(ctx, j)
	if err != nil {
		l.failed(j, err)
		l.count(j, consent.CheckError)
		return nil
	}
	j.consent = c
	wait := time.Duration(0)
	switch {
	case c.answer.May == consent.No && c.early:
		wait = l.pushDelay - c.send.Began.Sub(j.opened.Enqueued)
	case c.answer.Why == consent.WhySending:
		wait = sendingDelay
	}
	switch {
	case wait > 0 && !j.capped():
		l.count(j, consent.CheckWaited)
		if mode == ConsentEnforce {
			return &dispatch.NotSentError{Reason: "news of the receiver's consent may be on their way", Delay: j.untilExpiry(c.send.Began, wait)}
		}
	case c.answer.May == consent.No && mode == ConsentEnforce:
		l.count(j, consent.CheckStopped)
		return &dispatch.NotSentError{Outcome: tasks.OutcomeRefused, Reason: ReasonNoConsent}
	case c.answer.May == consent.No:
		c.wouldStop = true
		l.count(j, consent.CheckWouldStop)
	case c.answer.May == consent.Yes:
		l.count(j, consent.CheckAllowed)
	default:
		l.count(j, consent.CheckUnknown)
	}
	return nil
}

// untilExpiry shortens a delay so that the outcome "expired" does not wait for it.
func (j *job) untilExpiry(now time.Time, delay time.Duration) time.Duration {
	if j.NotAfter.IsZero() {
		return delay
	}
	return max(min(delay, j.NotAfter.Sub(now)+time.Nanosecond), time.Nanosecond)
}

// reserve reserves a credit of a one-time template, and reads the entry of a long-term one.
func (l *consentLedger) reserve(ctx context.Context, j *job) (*consentCheck, error) {
	ctx, cancel := context.WithTimeout(ctx, consentTimeout)
	defer cancel()
	now := l.now()
	c := &consentCheck{
		send: consent.Send{App: j.App, OpenID: j.receiver, Template: j.template, Run: j.runner, Began: now},
		kind: l.kindOf.Of(j.App, j.template),
	}
	var (
		entry consent.Entry
		err   error
	)
	if c.kind == consent.LongTerm {
		entry, err = l.store.Get(ctx, j.App, j.receiver, j.template)
	} else {
		entry, c.held, err = l.store.Reserve(ctx, c.send, l.hold)
	}
	if err != nil {
		return nil, err
	}
	c.answer = entry.Answer(c.kind, now)
	c.early = now.Sub(j.opened.Enqueued) < l.pushDelay
	return c, nil
}

// settle applies WeChat's answer to the entry of the receiver. After no answer it does nothing: the
// reservation expires. A failure of Redis is counted; the credit then counts as doubtful.
func (l *consentLedger) settle(ctx context.Context, j *job) {
	c := j.consent
	if c == nil {
		return
	}
	var api *wechat.APIError
	var step func(context.Context, consent.Send) error
	switch {
	case j.err == nil:
		step = l.accepted(j, c)
	case errors.As(j.err, &api) && api.Code == errcodeRefused:
		l.countRefusal(j, c)
		step = l.store.Zero
	case c.held && !dispatch.NoAnswer(j.err):
		step = l.store.Release
	}
	if step == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, consentTimeout)
	defer cancel()
	if err := step(ctx, c.send); err != nil {
		l.failed(j, err)
		l.count(j, consent.CheckError)
	}
}

// accepted returns the step after WeChat accepted a message, nil for none.
func (l *consentLedger) accepted(j *job, c *consentCheck) func(context.Context, consent.Send) error {
	if c.wouldStop {
		l.count(j, consent.CheckWrong)
	}
	var basis consent.Basis
	switch {
	case c.held:
		basis = consent.Reserved
	case c.early && (c.hopeless() || c.answer.Why == consent.WhyNoNews) && c.kind != consent.LongTerm:
		basis = consent.PushAhead
	case c.hopeless():
		basis = consent.NoCredit
	default:
		return nil
	}
	return func(ctx context.Context, m consent.Send) error { return l.store.Commit(ctx, m, basis) }
}

// countRefusal counts a call that met 43101.
func (l *consentLedger) countRefusal(j *job, c *consentCheck) {
	switch {
	case c.wouldStop:
		l.count(j, consent.CheckRight)
	case c.answer.May == consent.Yes:
		l.count(j, consent.CheckMissed)
	default:
		l.count(j, consent.CheckUnforeseen)
	}
}

func (l *consentLedger) count(j *job, check consent.Check) {
	l.metrics.consentChecks.WithLabelValues(j.App, j.Type, string(check)).Inc()
	l.counts.Add(j.App, j.Type, check)
}

// failed logs a failure of Redis, once a minute.
func (l *consentLedger) failed(j *job, err error) {
	now, last := time.Now().UnixNano(), l.loggedAt.Load()
	if now-last > int64(failureLogEvery) && l.loggedAt.CompareAndSwap(last, now) {
		l.log.Warn("the consent of a receiver is not known: Redis did not answer; the message does not wait for it", j.attrs(slog.Any("err", err))...)
	}
}
