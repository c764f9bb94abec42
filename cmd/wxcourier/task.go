package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/tasks"
)

type taskCommand struct {
	App    string `placeholder:"ID" help:"The app of the task. Needed with an id; default of a search: all apps."`
	ID     string `arg:"" optional:"" name:"id" help:"The id of the task."`
	OpenID string `name:"openid" placeholder:"OPENID" help:"Find the tasks for this receiver."`
	RID    string `name:"rid" placeholder:"RID" help:"Find the task whose result has this request id of WeChat's."`
	MsgID  string `name:"msgid" placeholder:"MSGID" help:"Find the task whose result has this message id of WeChat's."`
	JSON   bool   `help:"Print JSON."`
}

func (taskCommand) Help() string {
	return `Shows where a task is; what it waits for, which hold, limit, hours, receiver or attempt, and until when; WeChat's last answer; its attempts; the receipt of an accepted message; and its earlier outcomes, if it was redriven.

Of several things that a task waits for, the first line shows the one that ends last. The exit status is 1 for an unknown id.

With --openid, --rid or --msgid it finds tasks, and lists them if there are several. An openid also finds tasks that have not ended, unless results.index_openids is false.

Examples:
    wxcourier task --app wx0123456789abcdef order-42-shipped
    wxcourier task --openid oAbc
    wxcourier task --msgid 3395159288267931652
    wxcourier task --app wx0123456789abcdef order-42-shipped --json`
}

// Run prints one task, or finds tasks.
func (c *taskCommand) Run(p *program) error {
	search, err := c.criteria()
	if err != nil {
		return err
	}
	if err := validApps(filled(c.App)); err != nil {
		return err
	}
	if c.ID != "" && !tasks.ValidID(c.ID) || c.ID == "-" {
		return usageErrorf("%q is not a task id", c.ID)
	}
	parts, err := p.connect("task")
	if err != nil {
		return err
	}
	defer parts.Close()
	if c.ID == "" {
		return c.find(p, parts, search)
	}
	return c.show(p, parts, c.App, c.ID)
}

// show prints one task.
func (c *taskCommand) show(p *program, parts *app.Parts, of, id string) error {
	var hours inspect.Hours
	for _, configured := range parts.Current().Apps {
		if configured.ID == of {
			hours = configured.Hours
		}
	}
	if !app.Known(parts.Current().Apps, of) {
		p.notef("warning: app %s is not configured here: its hours and its own limits are not known, and workers with this configuration do not deliver its tasks", of)
	}
	task, err := reader(parts).Task(p.ctx, of, id, hours)
	if errors.Is(err, tasks.ErrNotFound) {
		return fmt.Errorf("app %s has no task %s: it was never enqueued, or its result is no longer kept", of, id)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		encoder := json.NewEncoder(printable.JSONWriter(p.stdout))
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(task)
	}
	return writeTask(p.stdout, task, time.Now())
}

// placeTexts say where a task is.
func placeTexts() map[inspect.Place]string {
	return map[inspect.Place]string{
		inspect.PlaceScheduled: "scheduled",
		inspect.PlaceWaiting:   "waiting in its queue",
		inspect.PlaceSending:   "being sent",
		inspect.PlaceRetrying:  "waiting outside of its queue, in asynq's retry set",
		inspect.PlaceDone:      "done",
		inspect.PlaceCanceled:  "canceled: it ends as canceled, unsent, when a worker reaches it",
		inspect.PlaceArchived:  "archived in the asynq web UI, without an outcome",
		inspect.PlaceDeleted:   "not in asynq: deleted in the asynq web UI, or never enqueued completely",
	}
}

// waitTexts say what a task waits for.
func waitTexts() map[tasks.WaitReason]string {
	return map[tasks.WaitReason]string{
		tasks.WaitsForProcessAt: "its process_at",
		tasks.WaitsForTurn:      "its turn in the queue",
		tasks.WaitsForPermit:    "a permit; a replica has it already",
		tasks.WaitsForAnswer:    "WeChat's answer",
		tasks.WaitsForRetry:     "the next attempt",
		tasks.WaitsForReceiver:  "its receiver: other messages to them, or WeChat's limit for one receiver",
		tasks.WaitsForCallback:  "WeChat's callback, which ends it",
		tasks.WaitsForHours:     "the app's hours",
		tasks.WaitsForLimit:     "a limit that is used up by our own count",
		tasks.WaitsForHold:      "the end of a hold",
		tasks.WaitsForPause:     "an operator, who paused its queue in the asynq web UI",
		tasks.WaitsForArchive:   "an operator: press Run in the asynq web UI, or enqueue it again",
		tasks.WaitsForSweep:     "the next sweep of the workers, which ends it",
	}
}

func waitText(w taskstate.Wait, now time.Time) string {
	text := waitTexts()[tasks.WaitReason(w.For)]
	if w.Reason != "" {
		text += ": " + describe.Reason(hold.Hold{Reason: w.Reason})
	}
	switch {
	case !w.Until.IsZero() && w.Until.After(now):
		text += fmt.Sprintf(", until %s (%s)", w.Until.Local().Format(time.DateTime), describe.Coarse(w.Until.Sub(now)))
	case !w.Until.IsZero():
		text += ", due since " + w.Until.Local().Format(time.DateTime)
	case w.For == taskstate.ForHold:
		text += ", until it is released"
	case w.For == taskstate.ForLimit:
		text += ", which does not start again"
	}
	return text
}

// writeTask prints where a task is, and below it a list of names and values.
func writeTask(w io.Writer, t inspect.Task, now time.Time) error {
	_, _ = fmt.Fprintf(w, "%s: %s\n", t.ID, placeTexts()[t.Place])
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(table, "  %s\t%s\n", name, printable.Escape(fmt.Sprintf(format, args...)))
	}
	last := taskstate.Last(t.Waits)
	if t.Outcome == "" && last.For != "" {
		line("waits for", "%s", waitText(last, now))
		for _, wait := range t.Waits {
			if wait != last {
				line("also for", "%s", waitText(wait, now))
			}
		}
	}
	if t.Outcome != "" {
		line("outcome", "%s", outcomeText(t.Result))
	}
	if t.Receipt != "" {
		line("receipt", "%s, at %s", deliveryText(t.Result), stamp(t.ReceiptAt))
	}
	line("app", "%s", t.App)
	line("type", "%s", strings.Join(filled(t.Type, string(t.Priority)), ", "))
	if t.Batch != "" {
		line("batch", "%s", t.Batch)
	}
	if at := t.Position; at != nil {
		line("position", "%s", positionText(at))
	}
	for _, h := range t.Holds {
		line("hold", "%s", holdText(h))
	}
	for _, limit := range t.Limits {
		line("limit", "%s per %s: %s of %s used", limit.Name, limit.Window, summary.Number(int(limit.Used)), summary.Number(int(limit.Effective())))
	}
	if l := t.Last; l != nil {
		line("last answer", "%s, at %s", answerText(l), stamp(l.At))
	}
	writeFailures(line, t)
	attempts := summary.Number(t.Attempts)
	if t.Failed > 0 {
		attempts += fmt.Sprintf(", %s failed", summary.Number(t.Failed))
	}
	line("attempts", "%s", attempts)
	if t.HandedBack != "" && t.Outcome == "" {
		line("handed back", "%s", t.HandedBack)
	}
	writeTimes(line, t)
	for _, past := range t.History {
		line(fmt.Sprintf("generation %d", past.Generation), "%s, at %s; redriven", outcomeText(past.Result), stamp(past.Result.FinishedAt))
	}
	return table.Flush()
}

// writeFailures prints the attempts that did not end the task, except for the one that is the last
// answer.
func writeFailures(line func(name, format string, args ...any), t inspect.Task) {
	failures := t.Failures
	if n := len(failures); n > 0 && t.Last != nil && failures[n-1].At.Equal(t.Last.At) {
		failures = failures[:n-1]
	}
	for _, f := range failures {
		answer := answerText(&tasks.LastAnswer{ErrCode: f.ErrCode, ErrMsg: f.ErrMsg, RID: f.RID, Class: f.Class})
		line("failed attempt", "%s, at %s; handed back for %v", answer, stamp(f.At), f.Wait.Round(time.Second/10))
	}
}

func writeTimes(line func(name, format string, args ...any), t inspect.Task) {
	if t.Generation > 0 {
		line("generation", "%d", t.Generation)
	}
	for _, at := range []struct {
		name string
		at   time.Time
	}{{"enqueued", t.EnqueuedAt}, {"not after", t.NotAfter}, {"finished", t.FinishedAt}} {
		if !at.at.IsZero() {
			line(at.name, "%s", stamp(at.at))
		}
	}
}

// outcomeText returns an outcome with the code and the details of its result.
func outcomeText(r tasks.Result) string {
	text := string(r.Outcome)
	if r.ErrCode != 0 {
		text += fmt.Sprintf(" %d", r.ErrCode)
	}
	if details := detail(r); details != "" {
		text += ": " + details
	}
	if r.Supersedes != "" {
		text += fmt.Sprintf(" (was %s at first)", r.Supersedes)
	}
	return text
}

func answerText(l *tasks.LastAnswer) string {
	text := l.ErrMsg
	if l.ErrCode != 0 {
		text = strings.Join(filled(fmt.Sprint(l.ErrCode), l.ErrMsg), " ")
	}
	if l.Class != "" {
		text += " (" + strings.ReplaceAll(l.Class, "_", " ") + ")"
	}
	if l.RID != "" {
		text += ", rid " + l.RID
	}
	return text
}

func positionText(at *inspect.Position) string {
	switch {
	case at.AtLeast:
		return "more than " + describe.Count(int(at.Before), "task") + " before it"
	case at.Before == 0:
		return "the next one"
	}
	return "about " + describe.Count(int(at.Before), "task") + " before it"
}

// holdText describes a hold. One on a template does not make its tasks wait.
func holdText(h hold.Hold) string {
	text := describe.Hold(h) + ", set by " + h.By
	if hold.IsTemplate(h.Scope) {
		text += "; tasks with this template end as rejected"
	}
	return text
}
