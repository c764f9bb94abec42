package console

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) taskPage() page {
	return page{name: "task", path: taskPath, live: true, load: c.loadTask}
}

const taskPath = "/tasks/{app}/{id}"

// cancelTaskPage and redriveTaskPage ask before they change a task.
func (c *Console) cancelTaskPage() page {
	return confirmPage(taskPath+"/cancel", c.askCancelTask, c.cancelTask)
}

func (c *Console) redriveTaskPage() page {
	return confirmPage(taskPath+"/redrive", c.askRedriveTask, c.redriveTask)
}

// taskData is the data of the page of a task.
type taskData struct {
	inspect.Task
	URL      string
	Status   string // outcome or place; task.<status>.means is its text
	Received string // badge of the receipt; task.<badge>.means is its text; "": there is none
	Do       string // text that says what to do
	Code     codeText
	Answered bool // Code is what WeChat answered, or that it did not
	Events   []taskEvent
	Content  inspect.Content
	Known    bool // the content
	HasImage bool
	// Waiting: it has no outcome; Cancel: it can be canceled; Redrive: its outcome can be undone.
	Waiting, Cancel, Redrive bool
	// NotRedrivable is the text that says why its outcome cannot be undone.
	NotRedrivable string
	ReasonWord    string // of the outcome's reason, unless Code says it; reason.<word> may be its text
	ReasonRest    string // the error that follows it
}

// taskEvent is a row of a task's history.
type taskEvent struct {
	At   time.Time
	Kind string // event.<kind> is its text: enqueued, attempt, ended, redriven, waits
	// Of an attempt, or the outcome.
	Code     codeText
	Answered bool
	ErrMsg   string
	RID      string
	Wait     time.Duration // until the next attempt
	Outcome  tasks.Outcome
	Reason   string // its word
	Attempts int
	Receipt  string // badge of a receipt
}

func (c *Console) loadTask(r *request) (any, error) {
	app, id, err := r.task(apikey.Read)
	if err != nil {
		return nil, err
	}
	found, err := c.readTask(r, app, id)
	if err != nil {
		return nil, err
	}
	data := newTaskData(r.lang, found.task)
	data.Content, data.Known = found.content, found.known
	return data, nil
}

// taskReading is what is read of a task.
type taskReading struct {
	task    inspect.Task
	content inspect.Content
	known   bool // the content
}

// readTask reads a task, once for all viewers. An unknown one is a fault.
func (c *Console) readTask(r *request, app, id string) (taskReading, error) {
	found, err := shared(r.Context(), c, taskName(app, id), func(ctx context.Context) (read taskReading, err error) {
		if read.task, err = c.Reader.Task(ctx, app, id, c.hours(app)); err == nil {
			read.content, read.known, err = c.Reader.Content(ctx, read.task)
		}
		return read, err
	})
	if errors.Is(err, tasks.ErrNotFound) {
		err = faultf(http.StatusNotFound, "task.missing", id, app)
	}
	return found, err
}

// taskName is the name of the reading of a task.
func taskName(app, id string) string { return "task:" + app + ":" + id }

// task returns the app and the id in the path, if the key may use the app.
func (r *request) task(scope apikey.Scope) (app, id string, err error) {
	app, id = r.PathValue("app"), r.PathValue("id")
	if !tasks.ValidApp(app) || !tasks.ValidID(id) {
		return "", "", faultf(http.StatusNotFound, "fault.missing")
	}
	return app, id, r.require(scope, app)
}

// hours returns when the tasks of an app may be sent; nil: at any time.
func (c *Console) hours(app string) inspect.Hours {
	for _, a := range c.Apps() {
		if a.ID == app {
			return a.Hours
		}
	}
	return nil
}

// Links are the links that the task made, by their names.
func (d taskData) Links() map[string]string {
	links := map[string]string{"openlink": d.OpenLink, "url_link": d.URLLink, "link": d.Link}
	maps.DeleteFunc(links, func(_, link string) bool { return link == "" })
	return links
}

func newTaskData(lang language, t inspect.Task) taskData {
	data := taskData{
		Task: t, URL: taskURL(t.App, t.ID), Status: cmp.Or(string(t.Outcome), string(t.Place)), HasImage: t.Image != "",
		Received: receiptBadge(t.Receipt),
		Waiting:  t.Outcome == "", Redrive: slices.Contains(tasks.Redrivable(), t.Outcome), Events: taskEvents(lang, t),
	}
	data.Do = "task." + data.Status + ".do"
	if data.Waiting {
		data.Cancel = t.Place != inspect.PlaceCanceled
		if l := t.Last; l != nil {
			data.Code, data.Answered = failureMeaning(lang, t.Type, l.ErrCode, l.Class), true
		}
		return data
	}
	data.Code, data.Answered = outcomeMeaning(lang, t.Type, t.Outcome, t.ErrCode)
	data.ReasonWord, data.ReasonRest = splitReason(t.Reason)
	if data.ReasonWord == data.Code.Class {
		data.ReasonWord = ""
	}
	if spec, _ := tasks.Lookup(t.Type); t.Outcome == tasks.OutcomeAccepted && spec.Kind != tasks.Message {
		data.Do = "task.accepted.do.other"
	}
	if data.Received != "" { // the text of the outcome says that it comes later
		data.Do = "task." + data.Received + ".do"
	}
	if !data.Redrive {
		data.NotRedrivable = "redrive.not." + string(t.Outcome)
	}
	return data
}

// splitReason splits a reason into its word and the error that may follow.
func splitReason(reason string) (word, rest string) {
	if at := strings.IndexAny(reason, ": "); at > 0 {
		return reason[:at], strings.TrimLeft(reason[at:], ": ")
	}
	return reason, ""
}

// taskEvents returns what has happened to a task, the oldest first.
func taskEvents(lang language, t inspect.Task) []taskEvent {
	events := []taskEvent{{At: t.EnqueuedAt, Kind: "enqueued"}}
	for _, past := range t.History {
		events = append(events, endOf(lang, past.Result), taskEvent{At: past.Result.FinishedAt, Kind: "redriven"})
	}
	for _, f := range t.Failures {
		events = append(events, taskEvent{
			At: f.At, Kind: "attempt", Code: failureMeaning(lang, t.Type, f.ErrCode, f.Class), Answered: true,
			ErrMsg: f.ErrMsg, RID: f.RID, Wait: f.Wait,
		})
	}
	if t.Outcome != "" {
		events = append(events, endOf(lang, t.Result))
	}
	if t.Receipt != "" {
		at := t.ReceiptAt
		if at.Before(t.FinishedAt) { // WeChat gives whole seconds, by its clock
			at = t.FinishedAt
		}
		events = append(events, taskEvent{At: at, Kind: "receipt", Receipt: receiptBadge(t.Receipt), ErrMsg: t.ReceiptStatus})
	}
	slices.SortStableFunc(events, func(a, b taskEvent) int { return a.At.Compare(b.At) })
	return events
}

// endOf returns the event of an outcome.
func endOf(lang language, r tasks.Result) taskEvent {
	e := taskEvent{
		At: r.FinishedAt, Kind: "ended", Outcome: r.Outcome, ErrMsg: r.ErrMsg, RID: r.RID, Attempts: r.Attempts,
	}
	e.Reason, _ = splitReason(r.Reason)
	e.Code, e.Answered = outcomeMeaning(lang, r.Type, r.Outcome, r.ErrCode)
	if e.Reason == e.Code.Class {
		e.Reason = ""
	}
	return e
}

// serveImages registers the images of tasks.
func (c *Console) serveImages() {
	p := c.taskPage()
	c.mux.Handle("GET "+taskPath+"/image", c.page(p, func(w http.ResponseWriter, r *request) {
		if err := c.serveImage(w, r); err != nil {
			c.answer(w, r, p, 0, nil, err)
		}
	}))
}

// serveImage serves the mini program code that a task made.
func (c *Console) serveImage(w http.ResponseWriter, r *request) error {
	app, id, err := r.task(apikey.Read)
	if err != nil {
		return err
	}
	image, err := c.Tasks.Image(r.Context(), app, id)
	if errors.Is(err, tasks.ErrNotFound) {
		return faultf(http.StatusNotFound, "task.missing", id, app)
	}
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Content-Type", cmp.Or(tasks.ImageType(image), "application/octet-stream"))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Cache-Control", "private, no-store")
	_, _ = w.Write(image) //nolint:gosec // an image, by its type and nosniff; the reader may have gone
	return nil
}

// askCancelTask asks before a task is canceled.
func (c *Console) askCancelTask(r *request) (any, error) {
	app, id, err := r.task(apikey.Enqueue)
	if err != nil {
		return nil, err
	}
	found, err := c.readTask(r, app, id)
	if err != nil {
		return nil, err
	}
	if found.task.Outcome != "" {
		return nil, faultf(http.StatusConflict, "task.canceled.done", id)
	}
	ask := confirmation{
		Title: r.says("task.cancel"), Question: r.says("task.cancel.ask", id), Button: r.says("task.cancel"), Back: taskURL(app, id),
	}
	if found.task.Place == inspect.PlaceSending {
		ask.Warning = r.says("task.sending.means") + " " + r.says("task.sending.do")
	}
	return ask, nil
}

// cancelTask takes a task back that has not been sent.
func (c *Console) cancelTask(r *request) (next string, err error) {
	app, id, err := r.task(apikey.Enqueue)
	if err != nil {
		return "", err
	}
	n, err := c.Tasks.Cancel(r.Context(), app, id)
	switch {
	case err != nil:
		return "", err
	case n.Missing > 0:
		return "", faultf(http.StatusNotFound, "task.missing", id, app)
	case n.Sending > 0:
		r.notice("task.canceled.sending", id)
	case n.Canceled > 0:
		r.notice("task.canceled", id)
	default:
		return "", faultf(http.StatusConflict, "task.canceled.done", id)
	}
	c.cache.forget(taskName(app, id))
	c.record(r, audit.Entry{Action: audit.Cancel, App: app, Target: id, Count: 1})
	return taskURL(app, id), nil
}

// askRedriveTask asks before a task is redriven.
func (c *Console) askRedriveTask(r *request) (any, error) {
	app, id, err := r.task(apikey.Operate)
	if err != nil {
		return nil, err
	}
	found, err := c.readTask(r, app, id)
	if err != nil {
		return nil, err
	}
	outcome := found.task.Outcome
	if !slices.Contains(tasks.Redrivable(), outcome) {
		return nil, faultf(http.StatusConflict, "task.redriven.changed", id)
	}
	ask := confirmation{
		Title: r.says("redrive.title"), Question: r.says("task.redrive.ask", id), Notes: []string{r.says("redrive.lead")},
		Fields: map[string]string{"outcome": string(outcome)}, Button: r.says("redrive.title"), Back: taskURL(app, id),
	}
	if outcome == tasks.OutcomeUnknown {
		ask.Warning = r.says("task.redrive.unknown")
	}
	return ask, nil
}

// redriveTask enqueues a task again. The form has the outcome that its reader saw: another one is left
// as it is.
func (c *Console) redriveTask(r *request) (next string, err error) {
	app, id, err := r.task(apikey.Operate)
	if err != nil {
		return "", err
	}
	outcome := tasks.Outcome(r.PostForm.Get("outcome"))
	if !slices.Contains(tasks.Redrivable(), outcome) {
		return "", faultf(http.StatusUnprocessableEntity, "redrive.none")
	}
	n, _, err := redrive.Bounded(r.Context(), redriveTime, redrive.Config{
		Inspector: c.Inspector, Filter: tasks.Redrive{Outcomes: []tasks.Outcome{outcome}},
	}, []string{app}, []string{id})
	if err != nil {
		return "", err
	}
	switch {
	case n.Redriven > 0:
		c.cache.forget(taskName(app, id))
		r.notice("task.redriven", id)
		c.record(r, audit.Entry{Action: audit.Redrive, App: app, Target: id, Count: 1, Note: "outcome " + string(outcome)})
	case n.Expired > 0:
		return "", faultf(http.StatusConflict, "task.redriven.expired", id)
	case n.NoPayload > 0:
		return "", faultf(http.StatusConflict, "task.redriven.no_payload", id)
	case n.Busy > 0:
		return "", faultf(http.StatusConflict, "task.redriven.busy", id)
	default:
		return "", faultf(http.StatusConflict, "task.redriven.changed", id)
	}
	return taskURL(app, id), nil
}

// record records what a key has changed.
func (c *Console) record(r *request, e audit.Entry) {
	e.By, e.Via = "key:"+r.key.ID, audit.Console
	audit.Record(r.Context(), c.Redis, c.Log, e)
}
