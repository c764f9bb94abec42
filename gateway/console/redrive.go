package console

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redrive"
	"github.com/wxcourier/wxcourier/tasks"
)

// redrivePage asks with the number of tasks before it redrives all that match a filter. Pages link to
// it by redriveURL.
func (c *Console) redrivePage() page {
	return page{name: "redrive", path: "/redrive", load: c.loadRedrive, post: c.postRedrive}
}

const (
	redriveTime = 10 * time.Second // how long one request redrives, as POST /v1/redrives does
	countTime   = 5 * time.Second  // how long one request counts what would be redriven
)

// redriveFilter is what a URL of the page selects.
type redriveFilter struct {
	App, Type, Batch string
	Outcome          tasks.Outcome
	ErrCode          string
	Since, Until     string // RFC 3339
	Back             string // path of the page from which it was opened

	errCodes     []int
	since, until time.Time
}

// redriveData is the data of the page.
type redriveData struct {
	Filter   redriveFilter
	Counts   redrive.Counts // of the dry run
	Total    int            // of the tasks that would be redriven
	More     bool           // the time was over before all were counted
	Code     codeText
	Answered bool
	Cut      time.Time // results before this time are no longer kept; zero: all are
}

// SinceTime, UntilTime, CutText and CountTime are for templates.
func (d redriveData) SinceTime() time.Time     { return d.Filter.since }
func (d redriveData) UntilTime() time.Time     { return d.Filter.until }
func (d redriveData) CutText() string          { return dateTime(d.Cut) }
func (d redriveData) CountTime() time.Duration { return countTime }

// fields returns the fields of the URL.
func (f *redriveFilter) fields() map[string]*string {
	return map[string]*string{
		"app": &f.App, "type": &f.Type, "batch": &f.Batch, "outcome": (*string)(&f.Outcome), "errcode": &f.ErrCode,
		"since": &f.Since, "until": &f.Until, "back": &f.Back,
	}
}

// URL returns the URL of the page that redrives what the filter selects.
func (f redriveFilter) URL() string {
	v := make(url.Values)
	for field, text := range f.fields() {
		if *text != "" {
			v.Set(field, *text)
		}
	}
	return "/redrive?" + v.Encode()
}

// Hidden returns the fields for a form.
func (f redriveFilter) Hidden() map[string]string {
	all := make(map[string]string)
	for field, text := range f.fields() {
		if *text != "" {
			all[field] = *text
		}
	}
	return all
}

// parseRedriveFilter reads the fields of a URL or a form.
func parseRedriveFilter(v url.Values) (redriveFilter, error) {
	var f redriveFilter
	for field, into := range f.fields() {
		*into = v.Get(field)
	}
	f.Back = ownPath(f.Back)
	if !slices.Contains(tasks.Outcomes(), f.Outcome) {
		return f, faultf(http.StatusUnprocessableEntity, "redrive.none")
	}
	if !slices.Contains(tasks.Redrivable(), f.Outcome) {
		return f, faultf(http.StatusUnprocessableEntity, "redrive.not."+string(f.Outcome))
	}
	_, known := tasks.Lookup(f.Type)
	ok := (f.App == "" || tasks.ValidApp(f.App)) && (f.Type == "" || known) && (f.Batch == "" || tasks.ValidBatch(f.Batch))
	if f.ErrCode != "" {
		code, err := strconv.Atoi(f.ErrCode)
		f.errCodes, ok = []int{code}, ok && err == nil
	}
	for text, into := range map[*string]*time.Time{&f.Since: &f.since, &f.Until: &f.until} {
		if *text != "" {
			t, err := time.Parse(time.RFC3339, *text)
			*into, ok = t, ok && err == nil
		}
	}
	if !ok {
		return f, faultf(http.StatusUnprocessableEntity, "redrive.fault")
	}
	return f, nil
}

// redrive returns the filter as package tasks takes it.
func (f redriveFilter) redrive(dryRun bool) tasks.Redrive {
	want := tasks.Redrive{
		Outcomes: []tasks.Outcome{f.Outcome}, ErrCodes: f.errCodes, Batch: f.Batch, Since: f.since, Until: f.until, DryRun: dryRun,
	}
	if f.Type != "" {
		want.Types = []string{f.Type}
	}
	return want
}

// note describes the filter for the audit.
func (f redriveFilter) note() string {
	var parts []string
	for _, part := range [][2]string{{"outcome", string(f.Outcome)}, {"errcode", f.ErrCode}, {"type", f.Type}, {"since", f.Since}, {"until", f.Until}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	return strings.Join(parts, ", ")
}

// redriveApps returns the apps of a redrive.
func (r *request) redriveApps(f redriveFilter) ([]string, error) {
	if err := r.require(apikey.Operate, f.App); err != nil {
		return nil, err
	}
	if f.App != "" {
		return []string{f.App}, nil
	}
	return r.apps(), nil
}

// loadRedrive counts what would be redriven.
func (c *Console) loadRedrive(r *request) (any, error) {
	f, err := parseRedriveFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	apps, err := r.redriveApps(f)
	if err != nil {
		return nil, err
	}
	if f.Until == "" { // so that the number stays true until it is confirmed
		f.until = r.now.UTC().Truncate(time.Second)
		f.Until = f.until.Format(time.RFC3339)
	}
	n, more, err := redrive.Bounded(r.Context(), countTime, redrive.Config{Inspector: c.Inspector, Filter: f.redrive(true)}, apps, nil)
	if err != nil {
		return nil, err
	}
	data := redriveData{Filter: f, Counts: n, Total: n.Redriven + n.Resumed, More: more}
	if f.ErrCode != "" {
		data.Code, data.Answered = outcomeMeaning(r.lang, f.Type, f.Outcome, f.errCodes[0])
	}
	for _, cut := range n.Cut {
		if cut.After(data.Cut) && cut.After(f.since) {
			data.Cut = cut
		}
	}
	return data, nil
}

// postRedrive redrives.
func (c *Console) postRedrive(r *request) (next string, data any, err error) {
	f, err := parseRedriveFilter(r.PostForm)
	if err != nil {
		return "", nil, err
	}
	apps, err := r.redriveApps(f)
	if err != nil {
		return "", nil, err
	}
	n, more, err := redrive.Bounded(r.Context(), redriveTime, redrive.Config{Inspector: c.Inspector, Filter: f.redrive(false)}, apps, nil)
	done := n.Redriven + n.Resumed
	if done > 0 { // even if the rest failed
		c.record(r, audit.Entry{Action: audit.Redrive, App: f.App, Target: f.Batch, Count: int64(done), Note: f.note()})
	}
	if err != nil {
		return "", nil, err
	}
	r.notice("redrive.done", done)
	for text, count := range map[string]int{"redrive.expired": n.Expired, "redrive.no_payload": n.NoPayload, "redrive.busy": n.Busy} {
		if count > 0 {
			r.notice(text, count)
		}
	}
	if more {
		r.notice("redrive.more")
		return f.URL(), nil, nil
	}
	return f.Back, nil, nil
}
