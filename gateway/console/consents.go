package console

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
)

const (
	// Of few messages the share that enforce would refuse wrongly tells nothing; of more, this share is
	// often.
	consentsEnough, consentsOften = 20, 0.05

	maxConsentRows = 20
)

// readConsents reads what the checks of consent amount to, of the apps that have some.
func (c *Console) readConsents(ctx context.Context, now time.Time) (map[string]consent.Summary, error) {
	var apps []string
	for _, app := range c.Apps() {
		if app.Consent.Counts() {
			apps = append(apps, app.ID)
		}
	}
	return consent.Summaries(ctx, c.Redis, apps, now)
}

// consentRow is what the checks of an app amount to.
type consentRow struct {
	App      string
	Enforced bool
	consent.Summary
}

// Observed reports whether the mode is, or was, observe.
func (r consentRow) Observed() bool { return !r.Enforced || r.judged() > 0 }

// judged returns how many messages observe sent that enforce would have refused.
func (r consentRow) judged() int64 { return r.WouldSave + r.Wrong }

// Often reports whether enforce would be wrong too often.
func (r consentRow) Often() bool {
	return r.judged() >= consentsEnough && r.WrongShare() >= consentsOften
}

// Met returns how many calls met 43101 although nothing spoke against them.
func (r consentRow) Met() int64 { return r.Missed + r.Unforeseen }

// consentsView is the overview's part about consent.
type consentsView struct {
	Days  int
	Rows  []consentRow
	More  int  // rows that are not shown
	Wrong bool // enforce would be wrong too often, in an app that only observes
	Ready bool // in no such app, and calls would be saved
}

// newConsents arranges what the checks of some apps amount to: those first where enforce would be wrong
// most often.
func newConsents(read map[string]consent.Summary, apps []App, wanted func(app string) bool) consentsView {
	v := consentsView{Days: consent.SummaryDays}
	for _, app := range apps {
		if !app.Consent.Counts() || !wanted(app.ID) {
			continue
		}
		row := consentRow{App: app.ID, Enforced: app.Consent == consent.Enforce, Summary: read[app.ID]}
		v.Rows = append(v.Rows, row)
		if !row.Enforced {
			v.Wrong = v.Wrong || row.Often()
			v.Ready = v.Ready || row.judged() >= consentsEnough
		}
	}
	v.Ready = v.Ready && !v.Wrong
	slices.SortStableFunc(v.Rows, func(a, b consentRow) int {
		return cmp.Or(-cmp.Compare(a.Wrong, b.Wrong), -cmp.Compare(a.judged()+a.Stopped, b.judged()+b.Stopped), cmp.Compare(a.App, b.App))
	})
	if v.More = len(v.Rows) - maxConsentRows; v.More > 0 {
		v.Rows = v.Rows[:maxConsentRows]
	}
	return v
}
