package worker

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/tasks"
)

// The values of App.Consent.
const (
	// ConsentOff: nothing is counted, and nothing is asked of Redis.
	ConsentOff = string(consent.Off)
	// ConsentObserve: all messages are sent; it is counted how many calls ConsentEnforce would have saved,
	// and how often it would have been wrong.
	ConsentObserve = string(consent.Observe)
	// ConsentEnforce: a message to a person who has no consent left ends as refused, reason no_consent,
	// without a call.
	ConsentEnforce = string(consent.Enforce)
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
const ReasonNoConsent = consent.ReasonNoConsent

// consentMode returns the mode of the app of a job, ConsentOff for tasks that need no consent.
func (j *job) consentMode() consent.Mode {
	switch {
	case !j.spec.Consent, j.template == "", j.receiver == "", j.app.Consent == "":
		return consent.Off
	}
	return consent.Mode(j.app.Consent)
}

// checkConsent reserves a credit of a message's receiver. It returns a *dispatch.NotSentError for a
// message that ends without a call, or waits.
func (d *deliverer) checkConsent(ctx context.Context, j *job) error {
	mode := j.consentMode()
	if mode == consent.Off {
		return nil
	}
	j.consent = d.consents.Check(ctx, consent.Message{
		Send: consent.Send{App: j.App, OpenID: j.receiver, Template: j.template, Run: j.runner},
		Type: j.Type, Mode: mode, Enqueued: j.opened.Enqueued, Last: j.capped(),
	})
	switch j.consent.Decision {
	case consent.Proceed:
	case consent.Wait:
		return &dispatch.NotSentError{Reason: "news of the receiver's consent may be on their way", Delay: j.untilExpiry(d.now(), j.consent.Delay)}
	case consent.Refuse:
		return &dispatch.NotSentError{Outcome: tasks.OutcomeRefused, Reason: ReasonNoConsent}
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

// settleConsent applies WeChat's answer to what is known of the receiver's consent.
func (d *deliverer) settleConsent(ctx context.Context, j *job) {
	if j.consent != nil {
		d.consents.Settle(ctx, j.consent, dispatch.ConsentReply(j.err))
	}
}
