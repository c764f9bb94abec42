package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// sendSummary is the JSON of the command.
type sendSummary struct {
	App        string                `json:"app"`
	Type       string                `json:"type"`
	Batch      string                `json:"batch"`
	Format     table.Format          `json:"format"`
	Encoding   string                `json:"encoding,omitempty"`
	Rows       int                   `json:"rows"`
	Valid      int                   `json:"valid"`
	Faulty     int                   `json:"faulty"`
	Faults     []*campaign.FaultKind `json:"faults,omitempty"`
	Earlier    int                   `json:"earlier,omitempty"` // rows that an earlier run enqueued
	Estimation campaign.Estimation   `json:"estimate"`
	Sent       *campaign.Sent        `json:"sent,omitempty"`
	Progress   *campaign.Progress    `json:"progress,omitempty"`
	state      campaign.State        // what earlier runs did
	situation  campaign.Situation    // replicas and holds
}

// check checks the table, and prints what is found.
func (r *sendRun) check(plan campaign.Plan) (*campaign.Checked, error) {
	r.p.stderr.Status("checking " + plan.Table.Name + " …")
	defer r.p.stderr.Status("")
	ctx, now := r.p.ctx, time.Now()
	c, err := campaign.Check(ctx, plan, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.Table, err)
	}
	state, err := r.sender.State(ctx, c)
	if err != nil {
		return nil, err
	}
	load, situation, err := campaign.ReadLoad(ctx, r.source(plan.App), c, state, now)
	if err != nil {
		return nil, err
	}
	r.summary = sendSummary{
		App: plan.App, Type: plan.Type, Batch: plan.Batch, Format: plan.Table.Format, Encoding: plan.Table.Encoding,
		Rows: c.Rows, Valid: c.Valid, Faulty: c.Faulty(), Faults: c.Kinds, Earlier: state.Enqueued,
		Estimation: campaign.Estimate(load), state: state, situation: situation,
	}
	r.p.stderr.Status("")
	writeCheck(r.text, c)
	r.writeOutlook(r.text, c)
	return c, nil
}

// source returns where the load of an app is read from.
func (r *sendRun) source(app string) campaign.LoadSource {
	s := campaign.LoadSource{Redis: r.parts.Redis, Limiter: r.parts.Limiter, Holds: r.parts.Holds, Margin: r.parts.Config.Pace.Margin}
	for _, configured := range r.parts.Current().Apps {
		if configured.ID == app {
			s.Hours = configured.Hours
		}
	}
	return s
}

// writeCheck prints the table, its faults and the first message.
func writeCheck(w io.Writer, c *campaign.Checked) {
	line := func(format string, args ...any) {
		_, _ = fmt.Fprintln(w, printable.Escape(fmt.Sprintf(format, args...)))
	}
	t := c.Plan.Table
	what := string(t.Format)
	if t.Encoding != "" {
		what += ", " + t.Encoding
	}
	if t.Sheet != "" {
		what += fmt.Sprintf(", sheet %q", t.Sheet)
		if t.Sheets > 1 {
			what += fmt.Sprintf(", the first of %d", t.Sheets)
		}
	}
	line("%s: %s", t.Name, what)
	if t.Mismatch != "" {
		line("  note: the name ends with %s, and the content is %s", t.Mismatch, t.Format)
	}
	if c.Hidden > 0 {
		line("  note: %s hidden in the spreadsheet, by a filter for example, and sent as well", describe.Count(c.Hidden, "row"))
	}
	line("%s: %s can be sent, %s at fault", describe.Count(c.Rows, "row"), summary.Number(c.Valid), summary.Number(c.Faulty()))
	const mostKinds = 20
	for i, kind := range c.Kinds {
		if i == mostKinds {
			line("  and %s more", describe.Count(len(c.Kinds)-i, "kind"))
			break
		}
		line("  %7s  %s", summary.Number(kind.Count), kind.Example)
		line("           %s", linesText(kind))
	}
	if p := c.Preview; p != nil {
		line("The first message, of line %d:", p.Line)
		line("  %s", p.Body)
		line("  %s, id %s%s", p.Priority, p.ID, timesText(p))
	}
}

// linesText names the first lines of a kind of faults.
func linesText(kind *campaign.FaultKind) string {
	text := strings.Trim(strings.ReplaceAll(fmt.Sprint(kind.Lines), " ", ", "), "[]")
	if len(kind.Lines) == 1 {
		return "line " + text
	}
	if kind.Count > len(kind.Lines) {
		text += " …"
	}
	return "lines " + text
}

func timesText(p *campaign.Preview) string {
	text := ""
	if !p.ProcessAt.IsZero() {
		text += ", not before " + shanghai(p.ProcessAt)
	}
	if !p.NotAfter.IsZero() {
		text += ", not after " + shanghai(p.NotAfter)
	}
	return text
}

// shanghai returns a time as WeChat's calendar shows it.
func shanghai(t time.Time) string {
	return t.In(calendar.Shanghai()).Format("2006-01-02 15:04") + " (Asia/Shanghai)"
}

// writeOutlook prints what earlier runs did, what stands in the way, and the estimate.
func (r *sendRun) writeOutlook(w io.Writer, c *campaign.Checked) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	state, e := r.summary.state, r.summary.Estimation
	if !state.Started.IsZero() {
		line("Batch %s began at %s: %s enqueued, %s left.", c.Plan.Batch, shanghai(state.Started), describe.Count(state.Enqueued, "row"), summary.Number(state.Remaining))
	}
	for _, h := range r.summary.situation.Holds {
		line("Held: %s", describe.Hold(h))
	}
	if state.Remaining == 0 {
		return
	}
	if r.summary.situation.Replicas == 0 {
		line("No worker is running: nothing is sent before one starts (wxcourier worker).")
	}
	switch {
	case e.Bound == campaign.ByHold:
		line("The end is unknown: a hold must be released, or end by itself, first.")
		return
	case e.End.IsZero():
		line("%s cannot be sent within a year: %s.", describe.Count(int(e.Unsent), "row"), boundText(e.Bound))
	default:
		line("Estimated end: %s, after %s, at %s a second (%s).",
			shanghai(e.End), describe.Coarse(time.Until(e.End)), rateText(e.Rate), boundText(e.Bound))
	}
	if len(e.Days) > 1 {
		for _, day := range e.Days {
			line("  %s  %s", day.Date, summary.Number(int(day.Rows)))
		}
	}
	if !c.NotAfter.IsZero() && (e.End.IsZero() || e.End.After(c.NotAfter)) {
		line("Warning: not_after is %s: messages that are not sent by then expire.", shanghai(c.NotAfter))
	}
}

// boundText says what limits a campaign.
func boundText(b campaign.Bound) string {
	return map[campaign.Bound]string{
		campaign.ByRate:     "--rate",
		campaign.BySecond:   "the limit of a second",
		campaign.ByMinute:   "the limit of a minute",
		campaign.ByDay:      "the limit of a day",
		campaign.ByTotal:    "the limit of the app's lifetime",
		campaign.ByHours:    "the app's hours",
		campaign.ByReplicas: "as many calls at the same time as the workers make, 150 ms each",
	}[b]
}

func changedText(s campaign.State) string {
	switch {
	case s.TableChanged && s.TemplateChanged:
		return "neither the table nor the template"
	case s.TableChanged:
		return "the table"
	}
	return "the template"
}

// confirmText is the question before sending.
func confirmText(c *campaign.Checked, state campaign.State) string {
	noun := "message"
	if spec, ok := tasks.Lookup(c.Plan.Type); ok && spec.Kind != tasks.Message {
		noun = "task"
	}
	text := "Send " + describe.Count(state.Remaining, noun)
	if !c.Plan.At.IsZero() {
		text += " from " + shanghai(c.Plan.At) + " on"
	}
	return text + " as " + c.Plan.App + "?"
}
