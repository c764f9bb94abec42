package console

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) findPage() page {
	return page{name: "find", path: "/find", nav: true, load: c.loadFind, post: c.postFind}
}

// findRows is the number of tasks on a page, and findScan the number of results that are read for it.
const (
	findRows = 50
	findScan = 10_000 // some 0.1 s
)

// findData is the data of the page that finds tasks.
type findData struct {
	Filter   findFilter
	Apps     []string // to choose from
	Types    []string
	Places   []inspect.Place
	Outcomes []tasks.Outcome
	Receipts []string // their badges
	Query    string   // what was typed, if nothing was searched for it
	Wrong    bool     // Query can be neither an id nor anything else
	Rows     []findRow
	Pager    pager
	Further  string    // URL of the same search, further back; "": it has come to the end
	Back     time.Time // the time to which the search has looked; zero: to the end of what is kept
}

// BackText is Back for templates.
func (d findData) BackText() string { return dateTime(d.Back) }

// findRow is a task in a list.
type findRow struct {
	App, ID, Type, Batch string
	Status               string // outcome or place
	Receipt              string // badge of the receipt; "": there is none
	At                   time.Time
	Code                 int
	Says                 string // what the code means
}

func newFindRow(lang language, r *tasks.Result, place inspect.Place) findRow {
	row := findRow{App: r.App, ID: r.ID, Type: r.Type, Batch: r.Batch, Status: string(r.Outcome), At: r.FinishedAt, Code: r.ErrCode, Receipt: receiptBadge(r.Receipt)}
	if r.IsReceipt() {
		row.At = r.ReceiptAt
	}
	if r.Outcome == "" {
		row.Status, row.At = string(place), r.EnqueuedAt
		if r.Last != nil {
			row.Code = r.Last.ErrCode
		}
	}
	if row.Code != 0 {
		row.Says = codeMeaning(lang, row.Type, row.Code).Meaning
	}
	return row
}

// loadFind shows the tasks that the URL selects.
func (c *Console) loadFind(r *request) (any, error) {
	data := c.newFind(r)
	if len(data.Filter.Faults) > 0 {
		return data, nil
	}
	apps, err := c.findApps(r, data.Filter.App)
	if err != nil {
		return nil, err
	}
	if data.Filter.searches() {
		err = c.findTasks(r, apps, &data)
	} else {
		err = c.listTasks(r, apps, &data)
	}
	if err != nil {
		return nil, wrongCursor(err)
	}
	data.Pager.First = data.Filter.first()
	return data, nil
}

func (c *Console) newFind(r *request) findData {
	return findData{
		Filter: parseFindFilter(r.URL.Query()), Apps: r.apps(), Types: tasks.Types(), Outcomes: tasks.Outcomes(), Places: listedPlaces(), Receipts: receiptBadges(),
	}
}

// findApps returns the apps of a search: the named one, or all with tasks that the key may use.
func (c *Console) findApps(r *request, named string) ([]string, error) {
	if named != "" {
		return []string{named}, r.require(apikey.Read, named)
	}
	known, err := shared(r.Context(), c, "apps", c.Inspector.Apps)
	if err != nil {
		return nil, err
	}
	apps := r.apps()
	for _, app := range known {
		if r.key.AllowsApp(app) {
			apps = append(apps, app)
		}
	}
	return sortedUnique(apps), nil
}

// findTasks finds tasks by an id, a person, a rid or a msgid, and keeps those that pass the filters.
func (c *Console) findTasks(r *request, apps []string, data *findData) error {
	f := data.Filter
	query := inspect.FindQuery{Apps: apps, ID: f.ID, Person: f.Person, RID: f.RID, MsgID: f.MsgID, Limit: findRows, Cursor: f.Before}
	for range findPages {
		found, err := c.Reader.Find(r.Context(), query)
		if err != nil {
			return err
		}
		for _, t := range found.Items {
			if f.matches(&t.Result, t.Place) {
				data.Rows = append(data.Rows, newFindRow(r.lang, &t.Result, t.Place))
			}
		}
		query.Cursor, data.Back = found.Cursor, found.Back
		if found.Cursor == "" || len(data.Rows) >= findRows || f.RID+f.MsgID != "" {
			break
		}
	}
	data.setNext(query.Cursor)
	return nil
}

// findPages is how many pages of tasks are read for one page of those that pass the filters.
const findPages = 10

// setNext sets the links to further tasks.
func (d *findData) setNext(cursor string) {
	switch {
	case cursor == "":
	case len(d.Rows) >= findRows:
		d.Pager.Next = d.Filter.before(cursor)
	default:
		d.Further = d.Filter.before(cursor)
	}
}

// listTasks lists tasks by the filters alone: the results, the newest first, or the tasks in a place.
func (c *Console) listTasks(r *request, apps []string, data *findData) error {
	f := data.Filter
	if f.Place != "" {
		return c.listOpen(r, apps, data)
	}
	page, err := resultlog.NewReader(c.Redis, c.Log).Newest(r.Context(), resultlog.NewestQuery{
		Apps: apps, Before: f.position(), Since: f.from, Contains: f.contains(), Limit: findRows, Scan: findScan, Receipts: f.Receipt != "",
		Match: func(t *tasks.Result) bool { return f.matches(t, inspect.PlaceDone) },
	})
	if err != nil {
		return err
	}
	for _, e := range page.Entries {
		data.Rows = append(data.Rows, newFindRow(r.lang, &e.Result, inspect.PlaceDone))
	}
	if page.Next != "" {
		data.Back = page.Back
	}
	data.setNext(page.Next)
	return nil
}

// listOpen lists the tasks in a place that have no outcome.
func (c *Console) listOpen(r *request, apps []string, data *findData) error {
	f := data.Filter
	state, err := c.state(r.Context())
	if err != nil {
		return err
	}
	var lanes []inspect.Lane
	for _, l := range state.Lanes {
		lanes = append(lanes, l.Lane)
	}
	lanes = slices.DeleteFunc(append(lanes, state.Orphans...), func(l inspect.Lane) bool {
		return !slices.Contains(apps, l.App) || f.Type != "" && f.Type != l.Type
	})
	page, err := c.Reader.Open(r.Context(), inspect.OpenQuery{
		Place: f.Place, Queues: inspect.QueuesIn(lanes, f.Place), Limit: findRows, Cursor: f.Before,
		Match: func(t *inspect.Found) bool { return f.matches(&t.Result, f.Place) },
	})
	if err != nil {
		return err
	}
	for _, t := range page.Items {
		data.Rows = append(data.Rows, newFindRow(r.lang, &t.Result, t.Place))
	}
	data.setNext(page.Cursor)
	return nil
}

// Forms of what an operator may look for.
var (
	ridForm    = regexp.MustCompile(`^[0-9a-f]{6,16}(-[0-9a-f]{4,16}){2,4}$`)
	msgidForm  = regexp.MustCompile(`^[0-9]{6,20}$`)
	openidForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// postFind handles the search form. What was typed may be an openid, and must not be in a URL: it is
// searched here, and the URL to go to has the id of a task that was found, or a hash.
func (c *Console) postFind(r *request) (next string, data any, err error) {
	text := strings.TrimSpace(r.PostForm.Get("q"))
	f := parseFindFilter(r.PostForm)
	f.forget()
	if text == "" {
		return f.url(), nil, nil
	}
	apps, err := c.findApps(r, f.App)
	if err != nil {
		return "", nil, err
	}
	next, err = c.search(r.Context(), apps, text, f)
	if err != nil || next != "" {
		return next, nil, err
	}
	shown := c.newFind(r)
	shown.Filter, shown.Query, shown.Wrong = f, text, true
	return "", shown, nil
}

// search returns the URL of what was found: the only task, or the list of several. "" means that the
// text cannot be anything that there is.
func (c *Console) search(ctx context.Context, apps []string, text string, f findFilter) (string, error) {
	for _, try := range searches(text, f) {
		found, err := c.Reader.Find(ctx, inspect.FindQuery{
			Apps: apps, ID: try.ID, Person: try.Person, RID: try.RID, MsgID: try.MsgID, Limit: 2,
		})
		if err != nil {
			return "", err
		}
		switch {
		case len(found.Items) == 1 && found.Cursor == "":
			return taskURL(found.Items[0].App, found.Items[0].ID), nil
		case len(found.Items) > 0, found.Cursor != "":
			return try.url(), nil
		}
	}
	if openidForm.MatchString(text) { // also a mistyped id: it is not known which
		f.Person = ledger.PersonOf(text)
		return f.url(), nil
	}
	if tasks.ValidID(text) {
		f.ID = text // openids have no such letters
		return f.url(), nil
	}
	return "", nil
}

// searches returns what a text may be, the cheapest search first.
func searches(text string, f findFilter) (all []findFilter) {
	add := func(set func(*findFilter)) {
		one := f
		set(&one)
		all = append(all, one)
	}
	if tasks.ValidID(text) {
		add(func(f *findFilter) { f.ID = text })
	}
	if openidForm.MatchString(text) {
		add(func(f *findFilter) { f.Person = ledger.PersonOf(text) })
	}
	if ridForm.MatchString(strings.ToLower(text)) {
		add(func(f *findFilter) { f.RID = strings.ToLower(text) })
	}
	if msgidForm.MatchString(text) {
		add(func(f *findFilter) { f.MsgID = text })
	}
	return all
}

// wrongCursor returns a fault for a URL whose position in a list is none.
func wrongCursor(err error) error {
	if isCursorError(err) {
		return faultf(http.StatusBadRequest, "find.cursor")
	}
	return err
}
