package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/operate"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) holdsPage() page {
	return page{name: "holds", path: "/holds", nav: true, live: true, load: c.loadHolds, post: c.postHold}
}

func (c *Console) releasePage() page {
	return confirmPage("/holds/release", c.loadRelease, c.postRelease)
}

const holdRows = 50

// holdsData is the data of the page of the holds.
type holdsData struct {
	App   string // the filter
	Apps  []string
	Types []string
	Rows  []holdRow
	Total int
	Pager pager
	Form  holdForm
}

// holdRow is a hold in force.
type holdRow struct {
	hold.Hold
	OurCount bool // a limit that is spent by our own count
	Worker   bool // a worker has set it
	Probed   bool // it ends with a probe
	Words    bool // the reason is one that has texts
	Code     codeText
	Waiting  int64 // tasks that wait behind it
	// ReleaseURL is "" where a release changes nothing.
	ReleaseURL string
}

// loadHolds lists the holds in force.
func (c *Console) loadHolds(r *request) (any, error) {
	data, err := c.newHolds(r)
	data.Form = holdForm{App: data.App, What: whatType, Ends: endsFor, For: time.Hour.String()}
	return data, err
}

func (c *Console) newHolds(r *request) (holdsData, error) {
	v := r.URL.Query()
	data := holdsData{App: v.Get("app"), Apps: r.apps(), Types: tasks.Types()}
	if err := r.require(apikey.Read, data.App); err != nil {
		return data, err
	}
	state, err := c.state(r.Context())
	if err != nil {
		return data, err
	}
	rows := newHoldRows(r, state, data.App)
	data.Total = len(rows)
	at, _ := strconv.Atoi(v.Get("from")) // else the first page
	at = max(0, min(at, len(rows)))
	data.Rows = rows[at:min(at+holdRows, len(rows))]
	if at > 0 {
		data.Pager.First = holdsURL(data.App, 0)
	}
	if at+holdRows < len(rows) {
		data.Pager.Next = holdsURL(data.App, at+holdRows)
	}
	return data, nil
}

// holdsURL returns the path of the list, of one app if that is not "".
func holdsURL(app string, from int) string {
	v := make(url.Values)
	if app != "" {
		v.Set("app", app)
	}
	if from > 0 {
		v.Set("from", strconv.Itoa(from))
	}
	return strings.TrimSuffix("/holds?"+v.Encode(), "?")
}

// newHoldRows returns the holds that a key may see, of one app if that is not "": first those that
// somebody has to do something about, then by their ends.
func newHoldRows(r *request, state inspect.State, app string) (rows []holdRow) {
	for _, h := range state.Holds {
		if !r.key.AllowsApp(h.App) || app != "" && h.App != app {
			continue
		}
		row := holdRow{
			Hold: h, OurCount: h.By == hold.OurCount, Worker: strings.HasPrefix(h.By, hold.ReplicaPrefix), Probed: dispatch.Probed(h),
			ReleaseURL: releaseURL(h.App, h.Scope),
		}
		_, row.Words = r.console.views.texts["reason."+h.Reason]
		if h.Code != 0 {
			row.Code = codeMeaning(r.lang, h.Scope, h.Code)
		}
		for _, l := range state.Lanes {
			switch {
			case h.Stops(l.App, l.Type):
				row.Waiting += l.Waiting + l.Bulk
			case h.App == l.App && h.Scope == hold.BulkScope(l.Type):
				row.Waiting += l.Bulk
			}
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(rows, func(a, b holdRow) int {
		if a.byItself() != b.byItself() {
			return map[bool]int{false: -1, true: 1}[a.byItself()]
		}
		return a.Until.Compare(b.Until)
	})
	return rows
}

// byItself reports whether the hold ends without anybody doing something.
func (h holdRow) byItself() bool { return !h.Until.IsZero() && !h.Probed }

// releaseURL returns the path of the page that asks before a hold is released. A limit that only
// bulk tasks have spent is asked about for its type.
func releaseURL(app, scope string) string {
	return "/holds/release?" + url.Values{"app": {app}, "scope": {operate.TypeOf(scope)}}.Encode()
}

// operator returns what sets and releases holds for a key.
func (c *Console) operator(r *request) *operate.Holds {
	return &operate.Holds{
		Store: c.Holds, Tokens: c.Tokens, Reader: c.Reader, SyncPauses: c.SyncPauses, AskQuotas: c.AskQuotas, Log: c.Log,
		Configured: func(app string) bool { return slices.Contains(r.apps(), app) },
		Audit:      func(_ context.Context, e audit.Entry) { c.record(r, e) },
	}
}

// loadRelease asks before a release, and says what it does.
func (c *Console) loadRelease(r *request) (any, error) {
	app, scope := r.URL.Query().Get("app"), r.URL.Query().Get("scope")
	h, held, err := c.heldScope(r, app, scope)
	if err != nil {
		return nil, err
	}
	what, err := c.views.scope(r.lang, scope)
	if err != nil {
		return nil, err
	}
	ask := confirmation{
		Title: r.says("release.title"), Question: r.says("release.ask", what, app), Button: r.says("release.do"), Back: "/holds",
		Fields: map[string]string{"app": app, "scope": scope},
	}
	switch {
	case !held:
		ask.Question = r.says("release.spent", what, app)
		ask.Button = r.says("release.spent.do")
	case hold.IsTemplate(scope):
		ask.Notes = append(ask.Notes, r.says("release.template"))
	default:
		ask.Notes = append(ask.Notes, r.says("release.tasks"))
	}
	if held && h.Reason == inspect.ReasonQuotaDay {
		ask.Notes = append(ask.Notes, r.says("release.quota"))
	}
	if held && strings.HasPrefix(h.By, hold.ReplicaPrefix) {
		ask.Warning = r.says("release.cause")
	} else if held {
		ask.Warning = r.says("release.by", h.By)
	}
	return ask, nil
}

// heldScope returns the hold of a scope. Without one it is an error, unless a limit of the scope is
// spent by our own count.
func (c *Console) heldScope(r *request, app, scope string) (h hold.Hold, held bool, err error) {
	if err := r.require(apikey.Operate, app); err != nil {
		return h, false, err
	}
	if !tasks.ValidApp(app) || scope == "" {
		return h, false, faultf(http.StatusNotFound, "release.none")
	}
	h, held, err = c.Holds.Get(r.Context(), app, scope)
	if err != nil || held {
		return h, held, err
	}
	state, err := c.state(r.Context())
	if err != nil {
		return h, false, err
	}
	for _, s := range state.Spent() {
		if s.App == app && operate.TypeOf(s.Scope) == scope {
			return h, false, nil
		}
	}
	return h, false, faultf(http.StatusNotFound, "release.none")
}

// postRelease releases a hold.
func (c *Console) postRelease(r *request) (string, error) {
	app, scope := r.PostForm.Get("app"), r.PostForm.Get("scope")
	if _, _, err := c.heldScope(r, app, scope); err != nil {
		return "", err
	}
	done, err := c.operator(r).Release(r.Context(), app, scope)
	if err != nil {
		return "", err
	}
	c.cache.forget("state")
	what, err := c.views.scope(r.lang, scope)
	if err != nil {
		return "", err
	}
	if done.Released {
		r.notice("release.done", what, app)
	}
	for _, h := range done.Spent {
		what, err := c.views.scope(r.lang, h.Scope)
		if err != nil {
			return "", err
		}
		if h.Until.IsZero() {
			r.notice("release.stays.total", what)
		} else {
			r.notice("release.stays", what, dateTime(h.Until))
		}
	}
	if !done.Released && len(done.Spent) == 0 {
		r.notice("release.open", what)
	}
	return "/holds", nil
}

// errorsOfHold are the faults of the fields for the errors of a hold.
func errorsOfHold(err error) (field, text string, ok bool) {
	switch {
	case errors.Is(err, operate.ErrPassed):
		return "at", "hold.fault.clock", true
	case errors.Is(err, operate.ErrEnded):
		return "app", "hold.fault.ended", true
	}
	return "", "", false
}
