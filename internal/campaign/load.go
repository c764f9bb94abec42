package campaign

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// LoadSource is where [ReadLoad] reads from.
type LoadSource struct {
	Redis   redis.UniversalClient
	Limiter *ratelimit.Limiter
	Holds   *hold.Store
	Margin  float64       // pace.margin of the configuration
	Hours   inspect.Hours // of the app; nil: none
}

// Situation is what else a person should know before a campaign starts.
type Situation struct {
	Replicas int         // that run
	Holds    []hold.Hold // in force, on the app, the type or the template of the first message
}

// ReadLoad reads the load for the rows of a campaign that are still to be sent.
func ReadLoad(ctx context.Context, s LoadSource, c *Checked, state State, now time.Time) (Load, Situation, error) {
	p := c.Plan
	l := Load{Now: now, Rows: int64(state.Remaining), At: p.At, Rate: p.Rate}
	if s.Hours != nil && !c.IgnoreHours {
		l.Hours = func(now time.Time) (time.Time, bool) { return s.Hours.NextOpen(p.Type, now) }
	}
	usage, err := s.Limiter.Usage(ctx, p.App, p.Type)
	if err != nil {
		return l, Situation{}, err
	}
	l.limits(usage, s.Margin, c.Priority == tasks.Bulk)
	depths, err := inspect.ReadDepths(ctx, s.Redis, tasks.QueueNames(p.App, p.Type), inspect.Pending|inspect.Active)
	if err != nil {
		return l, Situation{}, err
	}
	for i, d := range depths { // the urgent queue first
		if i == 0 || c.Priority == tasks.Bulk {
			l.Ahead += d.Pending + d.Active
		}
	}
	replicas, err := heartbeat.List(ctx, s.Redis)
	if err != nil {
		return l, Situation{}, err
	}
	var situation Situation
	for _, r := range replicas {
		if r.Kind == heartbeat.Worker && !r.Lost && !r.Stopping {
			situation.Replicas++
		}
	}
	l.Parallel = max(situation.Replicas, 1) * s.Limiter.Concurrency(p.App, p.Type)
	holds, err := s.Holds.List(ctx, p.App)
	if err != nil {
		return l, Situation{}, err
	}
	situation.Holds = l.holds(holds, p, c)
	return l, situation, nil
}

// limits sets the limits in force. Of several windows of a kind the tightest counts.
func (l *Load) limits(usage []ratelimit.Usage, margin float64, bulk bool) {
	tighter := func(limit *float64, n float64) {
		if *limit == 0 || n < *limit {
			*limit = n
		}
	}
	for _, u := range usage {
		n := u.Effective()
		if n <= 0 {
			continue
		}
		paced := float64(n) * (1 - margin)
		if u.Factor > 0 {
			paced *= u.Factor
		}
		switch u.Window {
		case ratelimit.PerSecond:
			tighter(&l.PerSecond, paced)
		case ratelimit.PerMinute:
			tighter(&l.PerMinute, paced)
		case ratelimit.PerDay:
			if bulk {
				n -= u.Reserved
			}
			if l.PerDay == 0 || n-u.Used < l.PerDay-l.UsedToday {
				l.PerDay, l.UsedToday = max(n, 1), u.Used
			}
		case ratelimit.Total:
			if left := max(n-u.Used, 0); !l.HasTotal || left < l.Total {
				l.Total, l.HasTotal = left, true
			}
		}
	}
}

// holds sets what the holds stop, and returns those that concern the campaign.
func (l *Load) holds(all []hold.Hold, p Plan, c *Checked) (concern []hold.Hold) {
	template := ""
	if c.Preview != nil {
		e := tasks.Envelope{Type: p.Type, Body: c.Preview.Body}
		template = e.TemplateID()
	}
	for _, h := range all {
		if !h.Stops(p.App, p.Type) && (template == "" || h.Scope != hold.TemplateScope(template)) {
			continue
		}
		concern = append(concern, h)
		switch {
		case h.Until.IsZero(), dispatch.Probed(h): // until a probe succeeds
			l.Held = true
		case h.Until.After(l.HeldUntil):
			l.HeldUntil = h.Until
		}
	}
	return concern
}
