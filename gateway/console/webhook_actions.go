package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

func (c *Console) webhookActionPage() page {
	return confirmPage("/webhooks/{webhook}/{app}/{verb}", c.loadWebhookAction, c.postWebhookAction)
}

// The verbs.
const (
	verbResume = "resume" // repeat failed calls now, and enable an endpoint that answered 410
	verbResend = "resend" // send dead letters again
	verbReplay = "replay" // send all results since a time again
	verbSkip   = "skip"   // go on after the last result
)

// resendTime bounds how long one request sends dead letters.
const resendTime = 20 * time.Second

// webhookAction is a form that changes an endpoint for an app.
type webhookAction struct {
	verb     string
	endpoint webhook.Endpoint
	status   webhook.Status
	since    time.Duration // of replay
}

// webhookAction returns what a path and a form name; form is the URL's query before it is confirmed.
func (c *Console) webhookAction(r *request, since string) (a webhookAction, err error) {
	a.verb = r.PathValue("verb")
	if !slices.Contains([]string{verbResume, verbResend, verbReplay, verbSkip}, a.verb) {
		return a, faultf(http.StatusNotFound, "fault.missing")
	}
	if a.endpoint, a.status, err = c.findWebhook(r, apikey.Operate); err != nil {
		return a, err
	}
	if a.verb == verbReplay {
		if a.since, err = time.ParseDuration(since); err != nil || !slices.Contains(replaySpans(), a.since) {
			return a, faultf(http.StatusUnprocessableEntity, "webhook.fault.since")
		}
	}
	if a.status.State == webhook.StateNotStarted {
		return a, faultf(http.StatusConflict, "webhook.fault.not_started")
	}
	if a.verb == verbResume && a.status.State == webhook.StateDisabled && !ownsEndpoint(r.key, a.endpoint) {
		return a, faultf(http.StatusForbidden, "webhook.fault.apps")
	}
	return a, nil
}

// ownsEndpoint reports whether a key may use all apps of an endpoint: to enable it concerns them all.
func ownsEndpoint(key *apikey.Key, e webhook.Endpoint) bool {
	if len(e.Apps) == 0 {
		return len(key.Apps) == 0
	}
	return !slices.ContainsFunc(e.Apps, func(app string) bool { return !key.AllowsApp(app) })
}

// loadWebhookAction asks before a change, with the number of results.
func (c *Console) loadWebhookAction(r *request) (any, error) {
	since := r.URL.Query().Get("since")
	a, err := c.webhookAction(r, since)
	if err != nil {
		return nil, err
	}
	ask := confirmation{
		Title: r.says("webhook." + a.verb + ".title"), Button: r.says("webhook." + a.verb + ".do"),
		Notes: []string{r.says("webhook." + a.verb + ".note")}, Back: webhookURL(a.endpoint.Name, a.status.App),
	}
	switch a.verb {
	case verbResume:
		ask.Question = r.says("webhook.resume.ask", a.endpoint.Name)
		if a.status.State == webhook.StateDisabled {
			ask.Warning = r.says("webhook.resume.disabled")
		}
	case verbResend:
		ask.Question = r.says("webhook.resend.ask", a.status.Dead, a.endpoint.Name)
	case verbReplay:
		ask.Question = r.says("webhook.replay.ask", duration(r.lang, a.since), a.endpoint.Name)
		ask.Fields, ask.Warning = map[string]string{"since": since}, r.says("webhook.replay.warning")
	case verbSkip:
		ask.Question = r.says("webhook.skip.ask", a.status.Lag, a.endpoint.Name)
		ask.Warning = r.says("webhook.skip.warning")
	}
	return ask, nil
}

// postWebhookAction changes an endpoint for an app.
func (c *Console) postWebhookAction(r *request) (string, error) {
	a, err := c.webhookAction(r, r.PostForm.Get("since"))
	if err != nil {
		return "", err
	}
	note, count := a.verb, int64(0)
	switch a.verb {
	case verbResume:
		if a.status.State == webhook.StateDisabled {
			note, err = "enabled", webhook.Enable(r.Context(), c.Redis, a.endpoint)
		} else {
			note, err = "resumed", webhook.Resume(r.Context(), c.Redis, a.endpoint, a.status.App)
		}
		r.notice("webhook.resume.done")
	case verbResend:
		note = "dead letters were sent again"
		count, err = c.resendDead(r, a)
	case verbReplay:
		since := r.now.Add(-a.since)
		note = "results are sent again from " + since.UTC().Format(time.RFC3339)
		count, err = webhook.Rewind(r.Context(), c.Redis, a.endpoint, a.status.App, since)
		r.notice("webhook.replay.done", count)
	case verbSkip:
		note, count = "results were skipped", a.status.Lag
		err = webhook.Skip(r.Context(), c.Redis, a.endpoint, a.status.App)
		r.notice("webhook.skip.done", count)
	}
	if errors.Is(err, ledger.ErrNoReader) {
		return "", faultf(http.StatusConflict, "webhook.fault.not_started")
	}
	if err != nil {
		return "", err
	}
	c.record(r, audit.Entry{Action: audit.Webhook, App: a.status.App, Target: a.endpoint.Name, Count: count, Note: note})
	c.cache.forget("webhooks")
	return webhookURL(a.endpoint.Name, a.status.App), nil
}

// resendDead sends dead letters, and returns how many were accepted.
func (c *Console) resendDead(r *request, a webhookAction) (int64, error) {
	ctx, cancel := context.WithTimeout(r.Context(), resendTime)
	defer cancel()
	n, err := webhook.ResendDead(ctx, c.Redis, a.endpoint, a.status.App)
	if err != nil && ctx.Err() == nil {
		return int64(n.Delivered), err
	}
	c.cache.forget("dead letters " + a.endpoint.Name + " " + a.status.App + " ")
	r.notice("webhook.resend.done", n.Delivered)
	if n.Refused > 0 {
		r.notice("webhook.resend.refused", n.Refused)
	}
	if n.Left || err != nil {
		r.notice("webhook.resend.left")
	}
	return int64(n.Delivered), nil
}
