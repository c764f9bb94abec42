package campaign

import (
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// Open is what is known of tasks that are open already, all of one type and priority of an app.
type Open struct {
	Now   time.Time
	Tasks int64
	Type  string
	Bulk  bool

	Pace     float64 // tasks a second that they have now; 0: unknown
	Ahead    int64   // tasks of others that are before them; used while the pace is unknown
	Usage    []ratelimit.Usage
	Margin   float64     // pace.margin of the configuration
	Parallel int         // calls that all replicas make at the same time
	Holds    []hold.Hold // that stop the tasks
	Hours    inspect.Hours
}

// Load returns when the tasks are sent, for [Estimate].
func (o Open) Load() Load {
	l := Load{Now: o.Now, Rows: o.Tasks, Parallel: o.Parallel}
	l.limits(o.Usage, o.Margin, o.Bulk)
	if o.Pace > 0 {
		l.Rate = o.Pace
	} else {
		l.Ahead = o.Ahead
	}
	if o.Hours != nil {
		l.Hours = func(now time.Time) (time.Time, bool) { return o.Hours.NextOpen(o.Type, now) }
	}
	for _, h := range o.Holds {
		switch {
		case h.Until.IsZero(), dispatch.Probed(h): // until a probe succeeds
			l.Held = true
		case h.Until.After(l.HeldUntil):
			l.HeldUntil = h.Until
		}
	}
	return l
}
