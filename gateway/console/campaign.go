package console

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/draft"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) campaignPage() page {
	return page{
		name: "campaign", path: UploadPath + "/{app}/{draft}", live: true, load: c.loadCampaign,
		actions: map[string]action{
			"confirm": {apikey.Enqueue, c.confirmCampaign},
			"check":   {apikey.Enqueue, c.checkAgain},
			"discard": {apikey.Enqueue, c.discardCampaign},
		},
	}
}

// checkedFor is how long the estimate of a check is taken for current.
const checkedFor = 10 * time.Minute

// campaignPath is the path of a draft's page.
func campaignPath(app, id string) string {
	return UploadPath + "/" + url.PathEscape(app) + "/" + url.PathEscape(id)
}

// stage is where a draft is.
type stage string

const (
	stageChecked stage = "checked" // it can be confirmed
	stageSending stage = "sending" // a gateway enqueues its rows
	stageBroken  stage = "broken"  // the gateway that enqueued its rows is gone: it can be continued
	stageFailed  stage = "failed"  // the sending ended early
	stageSent    stage = "sent"    // all rows are enqueued
)

// campaignView is the data of a draft's page.
type campaignView struct {
	App, ID  string
	Stage    stage
	Form     sendForm
	Check    *campaignCheck
	At       time.Time // of the form
	Run      *campaignRun
	Refusal  string             // id of the text why it cannot be sent as it is; ""
	Old      bool               // the check was a while ago
	Changed  bool               // it can be sent only with another table or template than the batch began with
	Progress *campaign.Progress // of the batch; nil before it is sent
	Enqueued bar
	Done     bar
}

// Path is the path of the page.
func (v *campaignView) Path() string { return campaignPath(v.App, v.ID) }

// Changes reports whether the form can still be changed.
func (v *campaignView) Changes() bool { return v.Stage == stageChecked || v.Stage == stageFailed }

// Continues reports whether the sending can be continued.
func (v *campaignView) Continues() bool {
	return v.Stage == stageBroken || v.Stage == stageFailed && v.Run.Error != "send.error.canceled" && v.Run.Error != "send.error.foreign"
}

// sentRows is the number of rows that this sending and those before it have enqueued.
func (v *campaignView) sentRows() int { return v.Run.Sent.Enqueued + v.Run.Sent.Earlier }

// Preview is the body of the first message, as text.
func (v *campaignView) Preview() string {
	var text bytes.Buffer
	if err := json.Indent(&text, v.Check.Preview.Body, "", "  "); err != nil {
		return string(v.Check.Preview.Body)
	}
	return text.String()
}

// loadCampaign shows a draft: the result of its check, or how far its sending is.
func (c *Console) loadCampaign(r *request) (any, error) {
	app, id := r.PathValue("app"), r.PathValue("draft")
	d, info, err := c.draftOf(r, apikey.Read)
	if err != nil {
		return nil, err
	}
	v := &campaignView{App: app, ID: id, Form: info.Form, Check: info.Check, Stage: stageChecked}
	if info.Form.At != "" {
		v.At, _ = parseLocalTime(info.Form.At) // it was checked
	}
	if d.Run == nil {
		v.decide()
		v.Old = r.now.Sub(info.Check.At) > checkedFor
		return v, nil
	}
	v.Run = new(campaignRun)
	if err := json.Unmarshal(d.Run, v.Run); err != nil {
		return nil, err
	}
	v.Stage = v.Run.stage(d.Sending)
	progress, err := shared(r.Context(), c, "campaign:"+app+":"+d.Batch, func(ctx context.Context) (campaign.Progress, error) {
		return c.campaigns.sender.Progress(ctx, campaign.Plan{App: app, Batch: d.Batch})
	})
	v.Progress = &progress
	v.bars(r)
	return v, err
}

// stage returns where a sending is.
func (run *campaignRun) stage(locked bool) stage {
	switch {
	case run.Ended.IsZero() && locked:
		return stageSending
	case run.Ended.IsZero():
		return stageBroken
	case run.Error != "":
		return stageFailed
	}
	return stageSent
}

// draftOf reads the draft of a request's path, for which the key must have a scope.
func (c *Console) draftOf(r *request, scope apikey.Scope) (draft.Draft, campaignInfo, error) {
	app := r.PathValue("app")
	if err := r.require(scope, app); err != nil {
		return draft.Draft{}, campaignInfo{}, err
	}
	return c.openDraft(r, app, r.PathValue("draft"))
}

// openDraft reads a draft that was checked.
func (c *Console) openDraft(r *request, app, id string) (draft.Draft, campaignInfo, error) {
	var info campaignInfo
	if !tasks.ValidApp(app) {
		return draft.Draft{}, info, faultf(http.StatusNotFound, "send.gone")
	}
	read := func(ctx context.Context) (draft.Draft, error) { return c.campaigns.store.Read(ctx, app, id) }
	var d draft.Draft
	var err error
	if wantsEvents(r.Request) {
		d, err = shared(r.Context(), c, "draft:"+app+":"+id, read)
	} else { // what an action has just changed
		d, err = read(r.Context())
	}
	if err == nil {
		err = json.Unmarshal(d.Info, &info)
	}
	if errors.Is(err, draft.ErrNotFound) || err == nil && info.Check == nil {
		err = faultf(http.StatusNotFound, "send.gone")
	}
	return d, info, err
}

// decide sets whether a checked draft can be sent.
func (v *campaignView) decide() {
	state := v.Check.State
	switch err := state.Err(true); {
	case err != nil:
		v.Refusal = sendError(err)
	case v.Check.Valid == 0:
		v.Refusal = "send.error.none"
	case v.Form.Strict && v.Check.Faulty() > 0:
		v.Refusal = "send.error.strict"
	case state.Remaining == 0:
		v.Refusal = "send.error.all"
	}
	v.Changed = state.Changed()
}

// bars sets the bars of what is enqueued, and of what has an outcome.
func (v *campaignView) bars(r *request) {
	rows := int64(max(v.Check.Valid, v.sentRows()))
	v.Enqueued = newBar(r.text("send.bar.enqueued", shown(v.sentRows()), shown(rows)), rows, share{"done", int64(v.sentRows())})
	var shares []share
	for _, outcome := range tasks.Outcomes() {
		shares = append(shares, share{string(outcome), v.Progress.Outcomes[outcome]})
	}
	v.Done = newBar(r.text("send.bar.done", shown(v.Progress.Done), shown(v.Progress.Total)), v.Progress.Total, shares...)
}

// shown returns a number for a text.
func shown[N int | int64](n N) string {
	text, err := number(int64(n))
	if err != nil {
		return ""
	}
	return text
}

// confirmCampaign begins to send a draft, or continues it.
func (c *Console) confirmCampaign(r *request) (next string, err error) {
	app, id := r.PathValue("app"), r.PathValue("draft")
	d, info, err := c.draftOf(r, apikey.Enqueue)
	if err != nil {
		return "", err
	}
	acceptChange := r.PostFormValue("accept_change") != ""
	if d.Run == nil {
		v := &campaignView{Form: info.Form, Check: info.Check}
		if v.decide(); v.Refusal != "" {
			return "", faultf(http.StatusConflict, v.Refusal)
		}
		if v.Changed && !acceptChange {
			return "", faultf(http.StatusConflict, "send.error.changed")
		}
	} else {
		var run campaignRun
		if err := json.Unmarshal(d.Run, &run); err != nil {
			return "", err
		}
		if run.stage(d.Sending) == stageSent {
			return campaignPath(app, id), nil // the button of an older page
		}
		acceptChange = acceptChange || run.AcceptChange
	}
	return campaignPath(app, id), c.start(r, d, info, acceptChange)
}

// checkAgain checks a draft again: holds, limits and what was sent may have changed.
func (c *Console) checkAgain(r *request) (next string, err error) {
	app, id := r.PathValue("app"), r.PathValue("draft")
	d, info, err := c.draftOf(r, apikey.Enqueue)
	if err != nil {
		return "", err
	}
	if d.Run != nil {
		return campaignPath(app, id), nil
	}
	plan, err := c.planOfDraft(r.Context(), d, info)
	if err != nil {
		return "", err
	}
	if info.Check, err = c.checkCampaign(r, plan); err != nil {
		return "", err
	}
	text, err := info.encode()
	if err != nil {
		return "", err
	}
	return campaignPath(app, id), c.campaigns.store.SetInfo(r.Context(), app, id, d.Batch, text)
}

// planOfDraft returns the plan of a draft, with its table.
func (c *Console) planOfDraft(ctx context.Context, d draft.Draft, info campaignInfo) (campaign.Plan, error) {
	content, err := c.campaigns.store.Table(ctx, d.App, d.ID)
	if errors.Is(err, draft.ErrNotFound) {
		err = faultf(http.StatusNotFound, "send.gone")
	}
	if err != nil {
		return campaign.Plan{}, err
	}
	return info.Form.plan(content)
}

// discardCampaign deletes a draft that was not sent.
func (c *Console) discardCampaign(r *request) (next string, err error) {
	app, id := r.PathValue("app"), r.PathValue("draft")
	d, _, err := c.draftOf(r, apikey.Enqueue)
	if err != nil {
		return "", err
	}
	if d.Run != nil {
		return "", faultf(http.StatusConflict, "send.begun")
	}
	r.notice("send.discarded")
	return UploadPath, c.campaigns.store.Delete(r.Context(), app, id)
}

// serveReport sends the report of a draft: a CSV with what became of each row. It has openids.
func (c *Console) serveReport(w http.ResponseWriter, r *request) {
	p := page{name: "campaign"}
	app, id := r.PathValue("app"), r.PathValue("draft")
	err := r.require(apikey.Read, app)
	var checked *campaign.Checked
	var d draft.Draft
	if err == nil {
		var leave func()
		if leave, err = c.campaigns.enter(r.Context()); err == nil {
			defer leave()
			d, checked, err = c.checkedDraft(r, app, id)
		}
	}
	if err != nil {
		c.answer(w, r, p, 0, nil, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/csv; charset=utf-8")
	header.Set("Content-Disposition", `attachment; filename="`+d.Batch+`.csv"`) // a name of a batch is safe
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if err := c.campaigns.sender.WriteReport(r.Context(), w, checked); err != nil {
		c.logFailure(r, p, err)
		panic(http.ErrAbortHandler) // a part was sent: the browser must not take it for the whole
	}
}

func (c *Console) checkedDraft(r *request, app, id string) (draft.Draft, *campaign.Checked, error) {
	d, info, err := c.openDraft(r, app, id)
	if err != nil {
		return d, nil, err
	}
	plan, err := c.planOfDraft(r.Context(), d, info)
	if err != nil {
		return d, nil, err
	}
	if plan.Templates, err = c.campaigns.templatesOf(r.Context(), plan.App); err != nil {
		return d, nil, err
	}
	checked, err := campaign.Check(r.Context(), plan, info.Check.At)
	return d, checked, err
}

// Bound is the id of the text that says what limits a campaign.
func (v *campaignView) Bound() string {
	return "send.bound." + cmp.Or(string(v.Check.Estimate.Bound), "none")
}
