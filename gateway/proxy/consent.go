package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// newChecker returns what checks the consent of the receivers of messages that clients send.
func newChecker(deps Deps, kinds *templates.Cache, count func(app, typ string, check consent.Check)) *consent.Checker {
	return consent.NewChecker(consent.CheckerDeps{
		Store: consent.NewStore(deps.Redis, nil), Counts: consent.NewRecorder(deps.Redis, deps.Log, nil),
		KindOf: kinds.Kind, Hold: deps.Policy.DeadAfter, PushDelay: consent.PushDelay,
		OnCheck: count, Log: deps.Log,
	})
}

// newRunner returns a name for a request that no other of any gateway has.
func newRunner() string { return "gateway-" + strings.ToLower(rand.Text()[:16]) }

// checkConsent reserves a credit of the receiver of a message; nil where the consents of the app are not
// counted, or the request needs none. A message whose receiver has no credit waits for the push of an
// acceptance, as long as for a permit: a mini program's server sends the message at once after the
// person accepted.
func (p *Proxy) checkConsent(ctx context.Context, e endpoint, r Request, runner string) *consent.Checked {
	if !e.spec.Consent {
		return nil
	}
	app, _ := p.deps.App(r.App)
	if !app.Consent.Counts() {
		return nil
	}
	receiver, template := tasks.Envelope{Type: e.spec.Type, Body: r.Body}.ReceiverAndTemplate()
	if receiver == "" || template == "" {
		return nil // WeChat refuses it
	}
	return p.consents.CheckWithin(ctx, consent.Message{
		Send: consent.Send{App: r.App, OpenID: receiver, Template: template, Run: runner},
		Type: e.spec.Type, Mode: app.Consent, Enqueued: time.Now(),
	}, min(p.caller.wait, consent.PushDelay))
}

// refused reports whether a message ends without a call.
func refused(check *consent.Checked) bool { return check != nil && check.Decision == consent.Refuse }

// settleConsent applies what became of a call to what is known of the receiver's consent.
func (p *Proxy) settleConsent(ctx context.Context, check *consent.Checked, a attempt) {
	reply := consent.NotTaken
	if a.called {
		reply = dispatch.ConsentReply(a.err)
	}
	p.consents.Settle(ctx, check, reply)
}

// send makes a call, unless its receiver has no consent left.
func (p *Proxy) send(ctx context.Context, e endpoint, r Request) attempt {
	check := p.checkConsent(ctx, e, r, newRunner())
	if refused(check) {
		return attempt{refusal: errNoConsent}
	}
	a := p.caller.attempt(ctx, e, r, nil)
	p.settleConsent(ctx, check, a)
	return a
}

// refuseOnce ends a message with an Idempotency-Key whose receiver has no consent left.
func (p *Proxy) refuseOnce(ctx context.Context, w http.ResponseWriter, m *message) error {
	switch err := p.open(ctx, m); {
	case errors.Is(err, errSettled), errors.Is(err, errUnderWay):
		return p.answerKnown(ctx, w, m)
	case err != nil:
		return err
	}
	p.end(context.WithoutCancel(ctx), m, attempt{verdict: dispatch.Verdict{Outcome: tasks.OutcomeRefused, Reason: consent.ReasonNoConsent}})
	return errNoConsent
}
