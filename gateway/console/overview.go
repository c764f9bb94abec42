package console

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func (c *Console) overviewPage() page {
	return page{name: "overview", path: "/", nav: true, live: true, load: c.loadOverview}
}

// How much the overview shows. The rest is counted.
const (
	maxLanes    = 24  // in the cards of apps
	maxRows     = 100 // of apps that have less to tell
	maxStands   = 20
	maxErrCodes = 15
	maxLagging  = 20
	maxReplicas = 30
	maxOrphans  = 20
)

// overview is the data of the overview.
type overview struct {
	Chosen   string // the app to which the page is limited; "": all
	Apps     []string
	Totals   totals
	Stands   []stand
	More     int       // holds that are not in Stands
	Cards    []appView // those with something to tell
	Rows     []appView // other apps with tasks, or that used some of today
	Rest     int       // apps that are not shown
	Chart    chart
	ErrCodes []errCode
	Webhooks []webhookLag
	Replicas []heartbeat.Replica
	Versions int // different ones among the replicas
	Orphans  []inspect.Lane
	Lost     int // replicas that are no more
	Receipts receiptsView
	Consents consentsView
}

// totals are the sums over all apps of the key.
type totals struct {
	Apps, Held                           int
	Waiting, Scheduled, Retrying, Active int64
	Ended, Failed                        int64 // in the last hour
	Workers, Gateways                    int
}

// webhookLag is an endpoint that has not got all results of an app.
type webhookLag struct {
	Webhook, App string
	Lag          int64
	Oldest, Next time.Time
	Dead         int64
}

// readings are what the overview reads, for all apps and all viewers.
type readings struct {
	state inspect.State
	ages  map[string]wechat.TokenAge
	hours map[string]*hour // by app
	from  time.Time        // of the first minute of hours
	lag   []webhookLag

	receipts receiptReading
	consents map[string]consent.Summary // by app, of those whose consents are counted
}

func (c *Console) loadOverview(r *request) (any, error) {
	read, err := c.readings(r.Context())
	if err != nil {
		return nil, err
	}
	chosen := r.URL.Query().Get("app")
	if chosen != "" && !slices.Contains(r.apps(), chosen) {
		return nil, faultf(http.StatusNotFound, "overview.no.app", chosen)
	}
	wanted := func(app string) bool { return r.key.AllowsApp(app) && (chosen == "" || chosen == app) }
	o := newOverview(read.of(wanted), r.console.Apps(), wanted, r.now, r.text)
	for i, e := range o.ErrCodes {
		if e.Code != 0 {
			o.ErrCodes[i].Meaning = codeMeaning(r.lang, e.Type, e.Code).Meaning
		}
	}
	o.Chosen, o.Apps = chosen, r.apps()
	return o, nil
}

// text returns a text in the language of the request. A text that is missing is its id: a test finds it.
func (r *request) text(id string, args ...any) string {
	text, err := r.console.views.texts.in(r.lang, id, args...)
	if err != nil {
		return id
	}
	return text
}

// state reads the state of all apps, once for all viewers.
func (c *Console) state(ctx context.Context) (inspect.State, error) {
	return shared(ctx, c, "state", func(ctx context.Context) (inspect.State, error) {
		return c.Reader.Read(ctx, c.appIDs(), nil)
	})
}

func (c *Console) appIDs() []string {
	var ids []string
	for _, app := range c.Apps() {
		ids = append(ids, app.ID)
	}
	return ids
}

// readings reads everything for the overview, once for all viewers.
func (c *Console) readings(ctx context.Context) (read readings, err error) {
	if read.state, err = c.state(ctx); err != nil {
		return readings{}, err
	}
	rest, err := sharedFor(ctx, c, "overview", slowly, c.readSlowly)
	rest.state = read.state
	return rest, err
}

// slowly is how often is read what changes slowly, or costs more.
const slowly = 5 * time.Second

func (c *Console) readSlowly(ctx context.Context) (read readings, err error) {
	apps := c.appIDs()
	ages, err := c.Tokens.Ages(ctx, apps)
	if err != nil {
		return readings{}, err
	}
	read.ages = make(map[string]wechat.TokenAge, len(apps))
	for i, app := range apps {
		read.ages[app] = ages[i]
	}
	now, err := c.Limiter.Now(ctx)
	if err != nil {
		return readings{}, err
	}
	read.from = now.Truncate(time.Minute).Add(-(minutes - 1) * time.Minute)
	points, err := series.Read(ctx, c.Redis, series.Query{Apps: apps, From: read.from, To: now.Add(time.Minute), Step: series.Minute})
	if err != nil {
		return readings{}, err
	}
	read.hours = newHours(read.from, points)
	if read.receipts, err = c.readReceipts(ctx, now); err != nil {
		return readings{}, err
	}
	if read.consents, err = c.readConsents(ctx, now); err != nil {
		return readings{}, err
	}
	read.lag, err = c.readLag(ctx, apps)
	return read, err
}

// readLag reads which endpoints lag, of the first apps where one does.
func (c *Console) readLag(ctx context.Context, apps []string) ([]webhookLag, error) {
	last, cursors, err := ledger.Positions(ctx, c.Redis, apps)
	if err != nil {
		return nil, err
	}
	var all []webhookLag
	for i, app := range apps {
		if len(all) >= maxLagging {
			break
		}
		behind := false
		for _, cursor := range cursors[i] {
			behind = behind || cursor != last[i]
		}
		if !behind {
			continue
		}
		readers, err := ledger.Readers(ctx, c.Redis, app)
		if err != nil {
			return nil, err
		}
		for _, reader := range readers {
			if reader.Lag > 0 && !reader.Oldest.IsZero() {
				all = append(all, webhookLag{reader.Name, app, reader.Lag, reader.Oldest, reader.Next, reader.Dead})
			}
		}
	}
	return all, nil
}

// of returns the readings of some apps.
func (read readings) of(wanted func(app string) bool) readings {
	out := readings{from: read.from, ages: read.ages, receipts: read.receipts, consents: read.consents}
	for _, l := range read.state.Lanes {
		if wanted(l.App) {
			out.state.Lanes = append(out.state.Lanes, l)
		}
	}
	for _, h := range read.state.Holds {
		if wanted(h.App) {
			out.state.Holds = append(out.state.Holds, h)
		}
	}
	for _, l := range read.state.Orphans {
		if wanted(l.App) {
			out.state.Orphans = append(out.state.Orphans, l)
		}
	}
	out.hours = make(map[string]*hour)
	for app, h := range read.hours {
		if wanted(app) {
			out.hours[app] = h
		}
	}
	for _, l := range read.lag {
		if wanted(l.App) {
			out.lag = append(out.lag, l)
		}
	}
	out.state.Replicas = read.state.Replicas
	return out
}

// newOverview arranges the readings for the page. text returns texts of the viewer's language.
func newOverview(read readings, apps []App, wanted func(app string) bool, now time.Time, text func(id string, args ...any) string) overview {
	var o overview
	views := appViews(read, apps, wanted, now)
	for _, h := range read.state.Holds {
		if s := newStand(h, views); len(o.Stands) < maxStands {
			o.Stands = append(o.Stands, s)
		} else {
			o.More++
		}
	}
	o.arrange(views)
	o.Totals = newTotals(read, views)
	hours := slices.Collect(maps.Values(read.hours))
	o.Chart = newChart(text("overview.chart"), read.from, time.Minute, lines(hours, text))
	o.ErrCodes = errCodes(hours)
	o.Receipts = newReceipts(read.receipts, apps, wanted)
	o.Consents = newConsents(read.consents, apps, wanted)
	o.Webhooks = read.lag
	o.Orphans = read.state.Orphans[:min(maxOrphans, len(read.state.Orphans))]
	o.addReplicas(read.state.Replicas)
	return o
}

// arrange puts the apps with something to tell first, and folds the others.
func (o *overview) arrange(views []appView) {
	slices.SortStableFunc(views, func(a, b appView) int {
		return cmp.Or(cmp.Compare(b.Weight, a.Weight), cmp.Compare(b.backlog(), a.backlog()), cmp.Compare(a.App, b.App))
	})
	lanes := 0
	for _, v := range views {
		switch lanes += len(v.Lanes); {
		case v.Weight > quiet && (lanes <= maxLanes || len(o.Cards) == 0) || len(views) == 1:
			o.Cards = append(o.Cards, v)
		case len(v.Lanes) > 0 && len(o.Rows) < maxRows:
			o.Rows = append(o.Rows, v)
		default:
			o.Rest++
		}
	}
}

func (o *overview) addReplicas(all []heartbeat.Replica) {
	versions := make(map[string]bool)
	for _, r := range all {
		if !r.Lost {
			versions[r.Version] = true
		} else {
			o.Lost++
		}
	}
	o.Versions, o.Replicas = len(versions), all[:min(maxReplicas, len(all))]
}

func newTotals(read readings, views []appView) totals {
	t := totals{Apps: len(views), Held: len(read.state.Holds)}
	for _, l := range read.state.Lanes {
		t.Waiting += l.Waiting + l.Bulk
		t.Scheduled += l.Scheduled
		t.Retrying += l.Retrying
		t.Active += l.Active
	}
	for _, h := range read.hours {
		for outcome, counts := range h.outcomes {
			for _, n := range counts {
				t.Ended += n
				if outcome == tasks.OutcomeFailed || outcome == tasks.OutcomeUnknown {
					t.Failed += n
				}
			}
		}
	}
	for _, r := range read.state.Replicas {
		switch {
		case r.Lost:
		case r.Kind == heartbeat.Gateway:
			t.Gateways++
		default:
			t.Workers++
		}
	}
	return t
}
