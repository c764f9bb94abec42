package console

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/hold"
)

func (c *Console) auditPage() page {
	return page{name: "audit", path: "/audit", nav: true, live: true, load: c.loadAudit}
}

const auditRows = 50

// auditFilter is what a URL of the page selects.
type auditFilter struct {
	App, By, Before string
	Action          audit.Action
}

// auditData is the data of the page of who changed what.
type auditData struct {
	Filter  auditFilter
	Apps    []string
	Actions []audit.Action
	All     bool // the key sees the changes of all apps
	Rows    []auditRow
	Pager   pager
}

// auditRow is a change.
type auditRow struct {
	audit.Entry
	Says  string // what was done
	How   string // on what way
	Scope bool   // Target is what a hold stops
	URL   string // of the target; "": it has no page
}

// auditPart is a page of the audit as it is read.
type auditPart struct {
	entries []audit.Entry
	next    string
}

// loadAudit lists the changes, the newest first. A key of some apps sees those of its apps.
func (c *Console) loadAudit(r *request) (any, error) {
	v := r.URL.Query()
	f := auditFilter{App: v.Get("app"), By: strings.TrimSpace(v.Get("by")), Before: v.Get("before"), Action: audit.Action(v.Get("action"))}
	if err := r.require(apikey.Read, f.App); err != nil {
		return nil, err
	}
	data := auditData{Filter: f, Apps: r.apps(), Actions: audit.Actions(), All: len(r.key.Apps) == 0}
	part, err := c.readAudit(r, f)
	if errors.Is(err, audit.ErrPosition) {
		f.Before = ""
		part, err = c.readAudit(r, f)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range part.entries {
		data.Rows = append(data.Rows, newAuditRow(r, e))
	}
	data.Pager = f.pager(part.next)
	return data, nil
}

// readAudit reads a page. The first one without filters is read once for all viewers with the same
// apps.
func (c *Console) readAudit(r *request, f auditFilter) (auditPart, error) {
	query := audit.Query{Before: f.Before, Limit: auditRows}
	if apps := r.key.Apps; len(apps) > 0 {
		query.Apps = func(app string) bool { return slices.Contains(apps, app) }
	}
	read := func(ctx context.Context) (part auditPart, err error) {
		part.entries, part.next, err = audit.List(ctx, c.Redis, query)
		return part, err
	}
	if f == (auditFilter{}) {
		return shared(r.Context(), c, "audit "+strings.Join(r.key.Apps, " "), read)
	}
	query.Match = f.matches
	return read(r.Context())
}

func (f auditFilter) matches(e audit.Entry) bool {
	return (f.App == "" || e.App == f.App) && (f.Action == "" || e.Action == f.Action) && strings.Contains(e.By, f.By)
}

func (f auditFilter) pager(next string) (p pager) {
	v := make(url.Values)
	for name, text := range map[string]string{"app": f.App, "by": f.By, "action": string(f.Action)} {
		if text != "" {
			v.Set(name, text)
		}
	}
	link := func() string { return strings.TrimSuffix("/audit?"+v.Encode(), "?") }
	if f.Before != "" {
		p.First = link()
	}
	if next != "" {
		v.Set("before", next)
		p.Next = link()
	}
	return p
}

func newAuditRow(r *request, e audit.Entry) auditRow {
	row := auditRow{Entry: e, Says: r.saysOr("audit.action."+string(e.Action), string(e.Action)), How: r.saysOr("audit.via."+e.Via, e.Via)}
	switch e.Action {
	case audit.Hold, audit.Release:
		row.Scope = e.Target == hold.WholeApp || hold.IsTemplate(e.Target)
		row.URL = holdsURL(e.App, 0)
	case audit.CancelBatch, audit.Campaign:
		row.URL = batchURL(e.App, e.Target)
	case audit.Cancel:
		row.URL = "/tasks/" + e.App + "/" + url.PathEscape(e.Target)
	case audit.Redrive, audit.Webhook, audit.SignIn, audit.Monitor, audit.ClearQuota:
	}
	if e.App == "" || e.Target == "" {
		row.URL = ""
	}
	return row
}
