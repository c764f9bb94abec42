package console

import (
	"cmp"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// weight is how much an app has to tell.
type weight int

// The weights.
const (
	quiet   weight = iota // it has tasks that ended, or none
	busy                  // tasks wait or are in flight
	nearEnd               // a limit ends, or may end before its time
	stopped               // something stands still
)

// appView is an app on the overview.
type appView struct {
	App     string
	Weight  weight
	Lanes   []laneView
	Token   wechat.TokenAge
	Waiting int64 // due
	Active  int64
	Used    float64 // of the day's limit that is used most; -1: there is none
	Held    int
}

func (a appView) backlog() int64 { return a.Waiting + a.Active }

// laneView is a lane on the overview.
type laneView struct {
	inspect.Lane
	Pace     float64 // tasks that ended in a second
	Limits   []limitView
	Factor   float64     // of the pace, after refusals of WeChat; 1: all of it
	Quotas   []quotaView // of the day, and of the lifetime
	Opens    time.Time   // when the hours in which it may send begin; zero: it may now
	Operator bool        // an operator paused it in the asynq web UI
	Held     bool
}

// limitView is a limit of the pace.
type limitView struct {
	Calls  int64
	Second bool // of a second; else of a minute
}

// quotaView is a limit of the day or of the lifetime.
type quotaView struct {
	Name        string // of the row
	Shared      bool   // by several types
	Life        bool   // of the lifetime
	Used, Limit int64
	Left        int64
	Reserved    int64 // for urgent tasks
	ForBulk     bool  // only what is reserved is left
	Ends        time.Time
	forecast
	Warn bool
}

// Bar returns the bar of a quota: what is used, and what is reserved at its end.
func (q quotaView) Bar(label string) bar {
	used := min(q.Used, q.Limit)
	reserved := min(q.Reserved, q.Limit-used)
	return newBar(label, q.Limit, share{"used", used}, share{"open", q.Limit - used - reserved}, share{"reserved", reserved})
}

// Share returns the share that is used.
func (q quotaView) Share() float64 { return float64(q.Used) / float64(max(1, q.Limit)) }

// nearShare is the share of a quota from which on its end is near.
const nearShare = 0.8

// appViews returns the apps, sorted by id.
func appViews(read readings, apps []App, wanted func(app string) bool, now time.Time) []appView {
	paces := pacesOf(read, now)
	lanes := make(map[string][]inspect.LaneUsage)
	for _, l := range read.state.Lanes {
		lanes[l.App] = append(lanes[l.App], l)
	}
	var views []appView
	for _, app := range apps {
		if !wanted(app.ID) {
			continue
		}
		v := appView{App: app.ID, Token: read.ages[app.ID], Used: -1}
		holds := holdsOf(read.state.Holds, app.ID)
		v.Held = len(holds)
		if v.Held > 0 {
			v.Weight = stopped
		}
		rows := rowTotals(lanes[app.ID], paces)
		for _, l := range lanes[app.ID] {
			v.add(newLane(l, app, holds, rows, paces, now))
		}
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b appView) int { return cmp.Compare(a.App, b.App) })
	return views
}

func holdsOf(all []hold.Hold, app string) []hold.Hold {
	var own []hold.Hold
	for _, h := range all {
		if h.App == app {
			own = append(own, h)
		}
	}
	return own
}

// lane names a lane.
type lane struct{ app, typ string }

// pacesOf returns the pace of each lane.
func pacesOf(read readings, now time.Time) map[lane]float64 {
	paces := make(map[lane]float64)
	for app, h := range read.hours {
		for typ, calls := range h.calls {
			paces[lane{app, typ}] = paceOf(now, read.from, calls[:])
		}
	}
	return paces
}

// rowTotal is what the lanes that share a row of limits need together.
type rowTotal struct {
	lanes   int
	waiting int64
	pace    float64
}

func rowTotals(lanes []inspect.LaneUsage, paces map[lane]float64) map[string]rowTotal {
	rows := make(map[string]rowTotal)
	for _, l := range lanes {
		seen := make(map[string]bool)
		for _, u := range l.Windows {
			if seen[u.Name] {
				continue
			}
			seen[u.Name] = true
			t := rows[u.Name]
			rows[u.Name] = rowTotal{t.lanes + 1, t.waiting + l.Waiting + l.Bulk, t.pace + paces[lane{l.App, l.Type}]}
		}
	}
	return rows
}

// newLane returns the view of a lane.
func newLane(l inspect.LaneUsage, app App, holds []hold.Hold, rows map[string]rowTotal, paces map[lane]float64, now time.Time) laneView {
	v := laneView{Lane: l.Lane, Pace: paces[lane{l.App, l.Type}], Factor: 1, Operator: l.Paused && l.PausedBy == ""}
	v.Held = slices.ContainsFunc(holds, func(h hold.Hold) bool { return h.Stops(l.App, l.Type) })
	for _, u := range l.Windows {
		limit := u.Effective()
		switch u.Window {
		case ratelimit.PerSecond, ratelimit.PerMinute:
			v.Limits = append(v.Limits, limitView{limit, u.Window == ratelimit.PerSecond})
			if u.Factor > 0 {
				v.Factor = min(v.Factor, u.Factor)
			}
		case ratelimit.PerDay, ratelimit.Total:
			row := rows[u.Name]
			q := quotaView{
				Name: u.Name, Shared: u.Name != l.Type, Life: u.Window == ratelimit.Total, Used: u.Used, Limit: limit,
				Left: max(0, limit-u.Used), Reserved: u.Reserved, ForBulk: u.SpentForBulk() && !u.Spent(), Ends: u.Ends,
				forecast: foresee(now, limit-u.Used, row.waiting, row.pace, u.Ends),
			}
			q.Warn = q.Share() >= nearShare || !q.At.IsZero() || q.Over > 0
			v.Quotas = append(v.Quotas, q)
		}
	}
	if app.Hours != nil && l.Waiting+l.Bulk > 0 {
		if at, open := app.Hours.NextOpen(l.Type, now); !open {
			v.Opens = at
		}
	}
	return v
}

// add adds a lane to its app.
func (a *appView) add(l laneView) {
	a.Lanes = append(a.Lanes, l)
	a.Waiting += l.Waiting + l.Bulk
	a.Active += l.Active
	w := quiet
	if l.Waiting+l.Bulk+l.Scheduled+l.Retrying+l.Active > 0 || l.Pace > 0 {
		w = busy
	}
	for _, q := range l.Quotas {
		if !q.Life {
			a.Used = max(a.Used, q.Share())
		}
		if q.Warn {
			w = max(w, nearEnd)
		}
	}
	if l.Operator || !l.Opens.IsZero() {
		w = stopped
	}
	a.Weight = max(a.Weight, w)
}

// stand is a hold on the overview: what stands still, and until when.
type stand struct {
	hold.Hold
	Waiting int64 // tasks that are due, and that it stops
}

// newStand returns the view of a hold.
func newStand(h hold.Hold, apps []appView) stand {
	s := stand{Hold: h}
	i := slices.IndexFunc(apps, func(a appView) bool { return a.App == h.App })
	if i < 0 {
		return s
	}
	for _, l := range apps[i].Lanes {
		switch {
		case h.Stops(h.App, l.Type):
			s.Waiting += l.Waiting + l.Bulk
		case h.Scope == hold.BulkScope(l.Type):
			s.Waiting += l.Bulk
		}
	}
	return s
}
