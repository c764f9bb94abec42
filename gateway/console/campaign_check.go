package console

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/hold"
)

// campaignInfo is what a draft keeps: the form, and what its check found.
type campaignInfo struct {
	Form    sendForm       `json:"form"`
	By      string         `json:"by"` // id of the key
	Created time.Time      `json:"created"`
	Check   *campaignCheck `json:"check,omitempty"` // nil: a field of the form is at fault
}

// encode returns the information as JSON, in which the first message stays as it is.
func (i campaignInfo) encode() ([]byte, error) {
	var text bytes.Buffer
	out := json.NewEncoder(&text)
	out.SetEscapeHTML(false)
	err := out.Encode(i)
	return text.Bytes(), err
}

// campaignCheck is what the check of a campaign found. It has no openid, and of the table only the
// names of its columns and the first message.
type campaignCheck struct {
	At       time.Time    `json:"at"`
	Format   table.Format `json:"format"`
	Encoding string       `json:"encoding,omitempty"`
	Sheet    string       `json:"sheet,omitempty"`
	Sheets   int          `json:"sheets,omitempty"`
	Mismatch string       `json:"mismatch,omitempty"`
	Columns  []string     `json:"columns"`
	Used     []string     `json:"used"`

	Rows       int                  `json:"rows"`
	Valid      int                  `json:"valid"`
	Hidden     int                  `json:"hidden,omitempty"`
	Duplicates int                  `json:"duplicates,omitempty"`
	Kinds      []campaign.FaultKind `json:"kinds,omitempty"`
	MoreKinds  int                  `json:"more_kinds,omitempty"`
	Preview    *campaign.Preview    `json:"preview,omitempty"`
	Warned     int                  `json:"warned,omitempty"`
	Warning    string               `json:"warning,omitempty"`
	Cut        int                  `json:"cut,omitempty"`
	NotAfter   time.Time            `json:"not_after,omitzero"`

	State    campaign.State      `json:"state"`
	Estimate campaign.Estimation `json:"estimate"`
	Replicas int                 `json:"replicas"`
	Holds    []hold.Hold         `json:"holds,omitempty"`
}

// Faulty returns the number of rows that cannot be sent.
func (c *campaignCheck) Faulty() int { return c.Rows - c.Valid }

// maxKinds is how many kinds of faults are shown.
const maxKinds = 50

// checkCampaign checks all rows of a plan, and what they will meet. Few tables are checked at the
// same time, since each is in memory.
func (c *Console) checkCampaign(r *request, plan campaign.Plan) (*campaignCheck, error) {
	leave, err := c.campaigns.enter(r.Context())
	if err != nil {
		return nil, err
	}
	defer leave()
	if plan.Templates, err = c.campaigns.templatesOf(r.Context(), plan.App); err != nil {
		return nil, err
	}
	checked, err := campaign.Check(r.Context(), plan, r.now)
	if err != nil {
		return nil, err
	}
	out := newCampaignCheck(checked, r.now)
	return out, c.readOutlook(r.Context(), out, checked, r.now)
}

func newCampaignCheck(c *campaign.Checked, now time.Time) *campaignCheck {
	t := c.Plan.Table
	out := &campaignCheck{
		At: now, Format: t.Format, Encoding: t.Encoding, Sheet: t.Sheet, Sheets: t.Sheets, Mismatch: t.Mismatch,
		Columns: t.Columns, Used: c.Plan.Template.Columns(),
		Rows: c.Rows, Valid: c.Valid, Hidden: c.Hidden, Preview: c.Preview, NotAfter: c.NotAfter,
		Warned: c.Warned, Warning: c.Warning, Cut: c.Cut,
	}
	for i, kind := range c.Kinds {
		if kind.Example.First > 0 {
			out.Duplicates += kind.Count
		}
		if i < maxKinds {
			out.Kinds = append(out.Kinds, *kind)
		} else {
			out.MoreKinds++
		}
	}
	return out
}

// readOutlook reads what earlier runs of the batch did, and when the rest will be sent.
func (c *Console) readOutlook(ctx context.Context, out *campaignCheck, checked *campaign.Checked, now time.Time) error {
	state, err := c.campaigns.sender.State(ctx, checked)
	if err != nil {
		return err
	}
	source := campaign.LoadSource{Redis: c.Redis, Limiter: c.Limiter, Holds: c.Holds, Margin: c.Margin}
	for _, app := range c.Apps() {
		if app.ID == checked.Plan.App {
			source.Hours = app.Hours
		}
	}
	load, situation, err := campaign.ReadLoad(ctx, source, checked, state, now)
	if err != nil {
		return err
	}
	out.State, out.Estimate = state, campaign.Estimate(load)
	out.Replicas, out.Holds = situation.Replicas, situation.Holds
	return nil
}
