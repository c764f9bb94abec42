package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/draft"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/tasks"
)

// UploadPath is the path of the form that uploads a table.
const UploadPath = "/send"

const (
	// maxTable is the size of a table that is uploaded.
	maxTable = 32 << 20
	// MaxUpload is the size of the form with a table and a template.
	MaxUpload = maxTable + 2<<20
	// maxTemplateFile is the size of a template.
	maxTemplateFile = 1 << 20
)

func (c *Console) sendPage() page {
	return page{name: "send", path: UploadPath, nav: true, upload: MaxUpload, load: c.loadSend, post: c.postSend}
}

// sendForm is what the form of a campaign has, besides its table.
type sendForm struct {
	App      string `json:"app"`
	Type     string `json:"type"`
	Batch    string `json:"batch"`
	Template string `json:"template"`
	At       string `json:"at"`   // as the browser sends it, in China's time
	Rate     string `json:"rate"` // messages a second
	Strict   bool   `json:"strict"`
	File     string `json:"file"` // name of the table
}

// sendView is the data of the form.
type sendView struct {
	Form     sendForm
	Draft    string // <app>/<id> of a draft whose table is used again; "": none
	Apps     []string
	Types    []string
	Examples []campaignExample
	Lang     language
	Map      *fieldMap           // nil: the mapping of columns was not begun
	faults   map[string][]string // by the name of the field
}

// Faults returns what is wrong with a field.
func (v *sendView) Faults(field string) []string { return v.faults[field] }

// Any reports whether a field is at fault.
func (v *sendView) Any() bool { return len(v.faults) > 0 }

func (v *sendView) fault(field, problem string) {
	if v.faults == nil {
		v.faults = make(map[string][]string)
	}
	v.faults[field] = append(v.faults[field], problem)
}

func (r *request) newSendView(form sendForm) *sendView {
	return &sendView{Form: form, Apps: r.apps(), Types: tasks.Types(), Examples: campaignExamples(), Lang: r.lang}
}

// loadSend shows the form: empty, with the example of a type, or of a draft that is changed.
func (c *Console) loadSend(r *request) (any, error) {
	if err := r.require(apikey.Enqueue, ""); err != nil {
		return nil, err
	}
	query := r.URL.Query()
	if kept := query.Get("draft"); kept != "" {
		d, info, err := c.readDraft(r, kept)
		if err != nil {
			return nil, err
		}
		v := r.newSendView(info.Form)
		v.Draft = d.App + "/" + d.ID
		return v, nil
	}
	form := sendForm{Type: cmp.Or(query.Get("type"), tasks.TypeSubscribe)}
	form.Template = exampleOf(form.Type, r.lang)
	if apps := r.apps(); len(apps) == 1 {
		form.App = apps[0]
	} else if app := query.Get("app"); slices.Contains(apps, app) {
		form.App = app
	}
	return r.newSendView(form), nil
}

// readDraft reads the draft that a form names, as <app>/<id>.
func (c *Console) readDraft(r *request, name string) (draft.Draft, campaignInfo, error) {
	app, id, _ := strings.Cut(name, "/")
	if err := r.require(apikey.Enqueue, app); err != nil {
		return draft.Draft{}, campaignInfo{}, err
	}
	if !tasks.ValidApp(app) {
		return draft.Draft{}, campaignInfo{}, faultf(http.StatusNotFound, "send.gone")
	}
	d, err := c.campaigns.store.Read(r.Context(), app, id)
	if errors.Is(err, draft.ErrNotFound) {
		err = faultf(http.StatusNotFound, "send.gone")
	}
	if err != nil {
		return draft.Draft{}, campaignInfo{}, err
	}
	var info campaignInfo
	err = json.Unmarshal(d.Info, &info)
	return d, info, err
}

// postSend checks an upload, and keeps it as a draft. Where something is wrong, it shows the form
// again with the faults beside their fields; a table that can be read need not be uploaded again.
func (c *Console) postSend(r *request) (next string, data any, err error) {
	v := r.newSendView(r.sendForm())
	v.Draft = r.PostFormValue("draft")
	if err := r.require(apikey.Enqueue, v.Form.App); err != nil {
		return "", nil, err
	}
	content, err := c.uploadedTable(r, v)
	if err != nil {
		return "", nil, err
	}
	if step := r.PostFormValue("step"); step != "" {
		return "", v, c.mapFields(r, v, content, step)
	}
	plan, ok := c.planOf(r, v, content)
	if !ok {
		return "", v, c.keepTable(r, v, content)
	}
	info := campaignInfo{Form: v.Form, By: r.key.ID, Created: r.now}
	info.Form.App, info.Form.Type, info.Form.Batch = plan.App, plan.Type, plan.Batch
	if info.Check, err = c.checkCampaign(r, plan); err != nil {
		if problem := tableProblem(err); problem != "" {
			v.fault("table", problem)
			return "", v, nil
		}
		return "", nil, err
	}
	id, err := c.saveDraft(r, v, info, content)
	if err != nil {
		return "", nil, err
	}
	return campaignPath(plan.App, id), nil, nil
}

// sendForm returns what was entered.
func (r *request) sendForm() sendForm {
	value := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	return sendForm{
		App: value("app"), Type: value("type"), Batch: value("batch"), At: value("at"), Rate: value("rate"),
		Template: strings.ReplaceAll(r.PostFormValue("template"), "\r\n", "\n"), Strict: value("strict") != "",
	}
}

// uploadedTable returns the table that was uploaded, or that of the draft whose table is used again;
// nil with a fault if there is none.
func (c *Console) uploadedTable(r *request, v *sendView) ([]byte, error) {
	content, name, err := r.uploaded("table", maxTable)
	var large *tooLargeError
	switch {
	case errors.As(err, &large):
		v.fault("table", r.text("send.too_large", maxTable>>20))
		return nil, nil
	case err != nil:
		return nil, err
	case name != "":
		v.Form.File, v.Draft = name, ""
		return content, nil
	case v.Draft == "":
		v.fault("table", r.text("send.table.required"))
		return nil, nil
	}
	d, info, err := c.readDraft(r, v.Draft)
	if err == nil {
		v.Form.File = info.Form.File
		content, err = c.campaigns.store.Table(r.Context(), d.App, d.ID)
	}
	var gone *fault
	if errors.Is(err, draft.ErrNotFound) || errors.As(err, &gone) && gone.status == http.StatusNotFound {
		v.Draft = ""
		v.fault("table", r.text("send.table.again"))
		return nil, nil
	}
	return content, err
}

// tooLargeError means that an uploaded file is too large.
type tooLargeError struct{}

func (*tooLargeError) Error() string { return "console: an uploaded file is too large" }

// uploaded returns a file of a form; "" is its name if there is none.
func (r *request) uploaded(field string, most int64) (content []byte, name string, err error) {
	if r.MultipartForm == nil || len(r.MultipartForm.File[field]) == 0 {
		return nil, "", nil
	}
	header := r.MultipartForm.File[field][0]
	if header.Filename == "" {
		return nil, "", nil
	}
	if header.Size > most {
		return nil, "", &tooLargeError{}
	}
	content, err = readPart(header)
	return content, path.Base(strings.ReplaceAll(header.Filename, `\`, "/")), err
}

func readPart(header *multipart.FileHeader) ([]byte, error) {
	part, err := header.Open()
	if err != nil {
		return nil, fmt.Errorf("read an upload: %w", err)
	}
	defer func() { _ = part.Close() }()
	return io.ReadAll(part)
}

// planOf returns the plan of a form; ok is false if a field is at fault.
func (c *Console) planOf(r *request, v *sendView, content []byte) (plan campaign.Plan, ok bool) {
	var err error
	f := &v.Form
	plan.App, plan.Type, plan.Batch = f.App, f.Type, f.Batch
	if content != nil {
		plan.Table, err = table.Open(bytes.NewReader(content), int64(len(content)), f.File)
		if err != nil {
			v.fault("table", cmp.Or(tableProblem(err), err.Error()))
		}
	}
	v.templateOf(r, &plan)
	v.timesOf(r, &plan)
	if plan.Table == nil || plan.Template == nil {
		return plan, false
	}
	plan, err = plan.Complete()
	var problems *campaign.PlanError
	if errors.As(err, &problems) {
		for _, p := range problems.Problems {
			v.fault(p.Field, p.Problem)
		}
	}
	if err == nil && !slices.Contains(v.Apps, plan.App) {
		v.fault("app", r.text("send.app.unknown"))
	}
	return plan, err == nil && !v.Any()
}

// templateOf sets the template of a plan: that of the uploaded file, or that of the field.
func (v *sendView) templateOf(r *request, plan *campaign.Plan) {
	text, name, err := r.uploaded("template_file", maxTemplateFile)
	switch {
	case err != nil:
		v.fault("template", r.text("send.too_large", maxTemplateFile>>20))
		return
	case name != "":
		v.Form.Template = string(text)
	}
	plan.Template, err = campaign.ParseTemplate([]byte(v.Form.Template))
	var problems *campaign.TemplateError
	if errors.As(err, &problems) {
		for _, p := range problems.Problems {
			v.fault("template", p)
		}
	} else if err != nil {
		v.fault("template", err.Error())
	}
}

// timesOf sets when a plan is sent.
func (v *sendView) timesOf(r *request, plan *campaign.Plan) {
	for _, field := range v.Form.times(plan) {
		v.fault(field, r.text("send."+field+".invalid"))
	}
	if !plan.At.IsZero() && plan.At.Before(r.now.Add(-time.Minute)) {
		v.fault("at", r.text("send.at.passed"))
	}
}

// times sets when a plan is sent, and how fast. It returns the fields that cannot be read.
func (f sendForm) times(plan *campaign.Plan) (invalid []string) {
	var err error
	if f.At != "" {
		if plan.At, err = parseLocalTime(f.At); err != nil {
			invalid = append(invalid, "at")
		}
	}
	if f.Rate != "" {
		if plan.Rate, err = strconv.ParseFloat(f.Rate, 64); err != nil || plan.Rate <= 0 {
			plan.Rate = 0
			invalid = append(invalid, "rate")
		}
	}
	return invalid
}

// parseLocalTime parses a time of a field datetime-local, which is in China.
func parseLocalTime(text string) (t time.Time, err error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02 15:04"} {
		if t, err = time.ParseInLocation(layout, text, calendar.Shanghai()); err == nil {
			return t, nil
		}
	}
	return t, err
}

// tableProblem returns what is wrong with a table, "" if the error is another one.
func tableProblem(err error) string {
	var problem *table.Error
	if errors.As(err, &problem) {
		return problem.Error()
	}
	return ""
}

// keepTable keeps a table that can be read for the corrected form.
func (c *Console) keepTable(r *request, v *sendView, content []byte) error {
	if content == nil || len(v.Faults("table")) > 0 || v.Draft != "" || !slices.Contains(v.Apps, v.Form.App) {
		return nil
	}
	id, err := c.saveDraft(r, v, campaignInfo{Form: v.Form, By: r.key.ID, Created: r.now}, content)
	if err == nil {
		v.Draft = v.Form.App + "/" + id
	}
	return err
}

// saveDraft keeps a draft: the one whose table is used again, if it is of the same app and was not
// sent, or a new one.
func (c *Console) saveDraft(r *request, v *sendView, info campaignInfo, content []byte) (id string, err error) {
	text, err := info.encode()
	if err != nil {
		return "", err
	}
	if app, id, found := strings.Cut(v.Draft, "/"); found && app == info.Form.App {
		d, err := c.campaigns.store.Read(r.Context(), app, id)
		if err == nil && d.Run == nil {
			err = c.campaigns.store.SetInfo(r.Context(), app, id, info.Form.Batch, text)
			if err == nil {
				return id, nil
			}
		}
		if err != nil && !errors.Is(err, draft.ErrNotFound) {
			return "", err
		}
	}
	return c.campaigns.store.Save(r.Context(), info.Form.App, info.Form.Batch, text, content)
}
