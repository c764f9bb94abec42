package console

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// batchEnd is when the open tasks of a batch are sent.
type batchEnd struct {
	Known bool
	At    time.Time
	Left  time.Duration
	Bound campaign.Bound // batch.bound.<bound> is its text; "": no replica runs
	Rate  float64        // tasks a second
}

// batchSituation is what decides when a batch ends. It reads nothing.
type batchSituation struct {
	now         time.Time
	state       inspect.State
	hours       inspect.Hours
	concurrency func(app, typ string) int
	margin      float64 // pace.margin
}

// sortedQueues returns queues in the order of their names.
func sortedQueues(queues map[inspect.Queue]float64) []inspect.Queue {
	return slices.SortedFunc(maps.Keys(queues), func(a, b inspect.Queue) int {
		if order := cmp.Compare(a.Type, b.Type); order != 0 || a.Bulk == b.Bulk {
			return order
		}
		if b.Bulk {
			return -1
		}
		return 1
	})
}

// stopsQueue reports whether a hold stops the tasks of a queue.
func stopsQueue(h hold.Hold, app string, q inspect.Queue) bool {
	bulk, ok := hold.ParseBulk(h.Scope)
	return h.Stops(app, q.Type) || ok && q.Bulk && h.App == app && bulk == q.Type
}

// stop returns the holds that stop tasks of a batch.
func (s batchSituation) stop(b batchReading) []hold.Hold {
	var all []hold.Hold
	for _, h := range s.state.Holds {
		if slices.ContainsFunc(sortedQueues(b.queues), func(q inspect.Queue) bool { return stopsQueue(h, b.batch.App, q) }) {
			all = append(all, h)
		}
	}
	return all
}

// replicas returns the number of replicas that run.
func (s batchSituation) replicas() int {
	n := 0
	for _, r := range s.state.Replicas {
		if !r.Lost && !r.Stopping && r.Kind == heartbeat.Worker {
			n++
		}
	}
	return n
}

// lane returns the lane of a type.
func (s batchSituation) lane(app, typ string) (lane inspect.LaneUsage) {
	for _, l := range s.state.Lanes {
		if l.App == app && l.Type == typ {
			return l
		}
	}
	return lane
}

// end estimates when the last open task of a batch is sent: in the queue that takes longest.
func (s batchSituation) end(b batchReading) (end batchEnd) {
	replicas := s.replicas()
	if replicas == 0 {
		return batchEnd{}
	}
	for _, q := range sortedQueues(b.queues) {
		e := campaign.Estimate(s.open(b, q, replicas).Load())
		end.Rate += e.Rate
		if e.End.IsZero() {
			return batchEnd{Bound: e.Bound, Rate: b.batch.Rate}
		}
		if e.End.After(end.At) {
			end.At, end.Bound = e.End, e.Bound
		}
	}
	if end.Known = !end.At.IsZero(); end.Known {
		end.Left = max(0, end.At.Sub(s.now))
	}
	return end
}

// open returns what is known of the open tasks of a batch in a queue.
func (s batchSituation) open(b batchReading, q inspect.Queue, replicas int) campaign.Open {
	share, lane := b.queues[q], s.lane(b.batch.App, q.Type)
	open := campaign.Open{
		Now: s.now, Type: q.Type, Bulk: q.Bulk, Tasks: max(1, int64(float64(b.batch.Open)*share+0.5)), Pace: b.batch.Rate * share,
		Usage: lane.Windows, Margin: s.margin, Hours: s.hours,
		Parallel: replicas * s.concurrency(b.batch.App, q.Type),
	}
	waiting := lane.Waiting + lane.Active
	if q.Bulk {
		waiting += lane.Bulk
	}
	open.Ahead = max(0, waiting-open.Tasks)
	for _, h := range s.state.Holds {
		if stopsQueue(h, b.batch.App, q) {
			open.Holds = append(open.Holds, h)
		}
	}
	return open
}

// quotas returns the limits of a day that the open tasks of a batch use, each once.
func (s batchSituation) quotas(r *request, b batchReading) (all []batchQuota) {
	for _, q := range sortedQueues(b.queues) {
		for _, u := range s.lane(b.batch.App, q.Type).Windows {
			limit := u.Effective()
			known := slices.ContainsFunc(all, func(other batchQuota) bool { return other.Name == u.Name })
			if u.Window != ratelimit.PerDay || limit <= 0 || known {
				continue
			}
			left, reserved := max(0, limit-u.Used), min(u.Reserved, max(0, limit-u.Used))
			if q.Bulk {
				left -= reserved
			}
			all = append(all, batchQuota{
				Name: u.Name, Left: left, Limit: limit, Ends: u.Ends,
				Bar: newBar(r.says("batch.quota.bar", u.Used, limit), limit, share{"used", min(u.Used, limit)},
					share{"rest", max(0, limit-u.Used) - reserved}, share{"reserved", reserved}),
			})
		}
	}
	return all
}

// closed returns the hours that hold tasks of a batch back now.
func (s batchSituation) closed(b batchReading) (all []closedHours) {
	if s.hours == nil {
		return nil
	}
	for _, q := range sortedQueues(b.queues) {
		known := slices.ContainsFunc(all, func(c closedHours) bool { return c.Type == q.Type })
		if at, open := s.hours.NextOpen(q.Type, s.now); !open && !known {
			all = append(all, closedHours{q.Type, at})
		}
	}
	return all
}
