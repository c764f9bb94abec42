package worker

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// stateCollector collects the gauges, whose values it reads at each scrape.
type stateCollector struct {
	fleet                                               *fleet
	waiting, active, used, limit, pace, holds, holdEnds *prometheus.Desc
	oldest, retrying, archived, types                   *prometheus.Desc
}

// collectTimeout bounds the calls to Redis of one scrape.
const collectTimeout = 2 * time.Second

func newStateCollector(f *fleet) *stateCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &stateCollector{
		fleet:    f,
		waiting:  desc("wxcourier_lane_waiting", "Pending tasks of a lane, over all replicas.", "app", "type"),
		oldest:   desc("wxcourier_lane_oldest_seconds", "How long the oldest pending task of a lane has been due.", "app", "type"),
		retrying: desc("wxcourier_lane_retrying", "Tasks of a lane that wait for another attempt, over all replicas.", "app", "type"),
		archived: desc("wxcourier_lane_archived", "Tasks of a lane in asynq's archive.", "app", "type"),
		types:    desc("wxcourier_type_info", "Always 1; the labels are a task type and its endpoint, to join metrics with one of them.", "type", "api"),
		active:   desc("wxcourier_lane_active", "Tasks in flight on this replica.", "app", "type"),
		used:     desc("wxcourier_quota_used", "Calls counted in a window, over all replicas.", "app", "api", "window"),
		limit:    desc("wxcourier_quota_limit", "Calls allowed in a window: the configured limit, or WeChat's where that is lower.", "app", "api", "window"),
		pace:     desc("wxcourier_pace_factor", "Factor by which the pace is lowered after refusals; 1 is full pace.", "app", "api"),
		holds:    desc("wxcourier_hold", "1 while a lane, an app or a template is held, or a limit is spent by our own count.", "app", "type", "reason"),
		holdEnds: desc("wxcourier_hold_seconds", "Seconds until a hold ends by itself; +Inf for a hold that does not.", "app", "type", "reason"),
	}
}

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.waiting, c.oldest, c.retrying, c.archived, c.active, c.used, c.limit, c.pace, c.holds, c.holdEnds, c.types,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	lanes := make(map[laneKey]bool) // whose usage is shown
	for key, n := range c.fleet.depths() {
		gauge(c.waiting, float64(n), key.app, key.typ)
		lanes[key] = true // also of a held lane: its usage may show why
	}
	spent := c.fleet.spent.all()
	for _, h := range spent {
		lanes[laneKey{h.App, typeOf(h.Scope)}] = true
	}
	for key, l := range c.fleet.snapshot() {
		gauge(c.active, float64(l.active.Load()), key.app, key.typ)
		lanes[key] = true
	}
	for _, spec := range tasks.Catalog() {
		gauge(c.types, 1, spec.Type, spec.Path)
	}
	c.collectBacklogs(ctx, gauge)
	c.collectUsage(ctx, slices.Collect(maps.Keys(lanes)), gauge)
	c.collectHolds(ctx, spent, gauge)
}

// collectBacklogs collects what waits in asynq's sets, in four round trips.
func (c *stateCollector) collectBacklogs(ctx context.Context, gauge func(*prometheus.Desc, float64, ...string)) {
	found, err := backlogs(ctx, c.fleet.rdb, c.fleet.knownQueues())
	if err != nil {
		return // Redis does not answer; collect the other metrics
	}
	now := time.Now()
	for key, b := range found {
		age := time.Duration(0)
		if !b.since.IsZero() {
			age = max(now.Sub(b.since), 0) // clocks differ
		}
		gauge(c.oldest, age.Seconds(), key.app, key.typ)
		gauge(c.retrying, float64(b.retrying), key.app, key.typ)
		gauge(c.archived, float64(b.archived), key.app, key.typ)
	}
}

// collectHolds collects the holds, and the limits that are spent by our own count.
func (c *stateCollector) collectHolds(ctx context.Context, spent []hold.Hold, gauge func(*prometheus.Desc, float64, ...string)) {
	holds, err := c.fleet.holdStore.List(ctx, c.fleet.apps.ids()...)
	if err != nil {
		return // Redis does not answer; collect the other metrics
	}
	now := c.fleet.holdStore.Now()
	ends := make(map[[3]string]float64) // of several holds with the same labels, such as templates, the last
	for _, h := range append(holds, spent...) {
		left := inspect.SecondsLeft(h, now)
		if left == 0 {
			continue // it ended since it was read
		}
		labels := [3]string{h.App, holdLabels(typeOf(h.Scope)), reasonLabel(h.Reason)}
		ends[labels] = max(ends[labels], left)
	}
	for labels, left := range ends {
		gauge(c.holds, 1, labels[:]...)
		gauge(c.holdEnds, left, labels[:]...)
	}
}

// typeOf returns the scope of a hold, or the type of a scope of its bulk tasks.
func typeOf(scope string) string {
	if typ, ok := hold.ParseBulk(scope); ok {
		return typ
	}
	return scope
}

func (c *stateCollector) collectUsage(ctx context.Context, lanes []laneKey, gauge func(*prometheus.Desc, float64, ...string)) {
	of := make([]ratelimit.AppType, len(lanes))
	for i, key := range lanes {
		of[i] = ratelimit.AppType{App: key.app, Type: key.typ}
	}
	usage, err := c.fleet.limiter.UsageMany(ctx, of)
	if err != nil {
		return // Redis does not answer; collect the other metrics
	}
	for i, key := range lanes {
		spec, _ := tasks.Lookup(key.typ)
		// A type may have a window of its own and share one of the same span; report the one
		// with the least quota left.
		tightest := make(map[ratelimit.Span]ratelimit.Usage)
		for _, u := range usage[i] {
			if t, ok := tightest[u.Window]; !ok || u.Effective()-u.Used < t.Effective()-t.Used {
				tightest[u.Window] = u
			}
		}
		gauge(c.pace, dispatch.PaceFactor(usage[i]), key.app, spec.Path)
		for span, u := range tightest {
			gauge(c.used, float64(u.Used), key.app, spec.Path, string(span))
			gauge(c.limit, float64(u.Effective()), key.app, spec.Path, string(span))
		}
	}
}

// holdLabels returns the metric label `type` of a hold's scope: a type of the catalog, "*"
// for the whole app, "template" for any template, whose ids are no closed set.
func holdLabels(scope string) string {
	if _, ok := tasks.Lookup(scope); ok || scope == hold.WholeApp {
		return scope
	}
	if hold.IsTemplate(scope) {
		return "template"
	}
	return "other"
}

// reasonLabel returns the metric label `reason` of a hold. Reasons that operators wrote
// become "operator", so that the labels are a closed set.
func reasonLabel(reason string) string {
	if dispatch.IsHoldReason(reason) || inspect.IsSpentReason(reason) {
		return reason
	}
	return "operator"
}
