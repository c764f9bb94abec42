package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/summary"
)

// consentStatus is what the checks of the consent of an app's receivers amount to.
type consentStatus struct {
	App  string `json:"app"`
	Mode string `json:"mode"`
	consent.Summary
}

// readConsents reads the checks of the wanted apps whose consents are counted.
func readConsents(p *program, parts *app.Parts, wanted func(app string) bool) ([]consentStatus, error) {
	var (
		all []consentStatus
		ids []string
	)
	for _, one := range parts.Current().Apps {
		if one.CountsConsents() && wanted(one.ID) {
			all, ids = append(all, consentStatus{App: one.ID, Mode: one.Consent}), append(ids, one.ID)
		}
	}
	found, err := consent.Summaries(p.ctx, parts.Redis, ids, time.Now())
	for i := range all {
		all[i].Summary = found[all[i].App]
	}
	return all, err
}

// writeConsents prints what the checks amount to.
func writeConsents(w io.Writer, all []consentStatus) {
	if len(all) == 0 {
		return
	}
	_, _ = fmt.Fprintf(w, "\nConsent of receivers, last %d days:\n", consent.SummaryDays)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "APP\tCONSENT\tALLOWED\tUNKNOWN\tSTOPPED\tWOULD SAVE\tWOULD BE WRONG\t43101\tERRORS")
	for _, s := range all {
		stopped, save, wrong := summary.Number(int(s.Stopped)), "-", "-"
		if s.Mode == string(consent.Observe) || s.WouldSave+s.Wrong > 0 {
			save, wrong = summary.Number(int(s.WouldSave)), summary.Number(int(s.Wrong))
			if s.Wrong > 0 {
				wrong += fmt.Sprintf(" (%.1f %%)", 100*s.WrongShare())
			}
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			s.App, s.Mode, summary.Number(int(s.Allowed)), summary.Number(int(s.Unknown)), stopped, save, wrong,
			summary.Number(int(s.Missed + s.Unforeseen)), summary.Number(int(s.Errors)),
		}, "\t"))
	}
}
