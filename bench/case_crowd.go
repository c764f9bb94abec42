package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// wantCrowdShare is the share of its pace that a lane must keep next to other lanes.
const wantCrowdShare = 0.95

const (
	// crowdApps is the number of other apps; each has a lane per task type.
	crowdApps = 42
	// crowdTasks is the number of tasks that wait in each of their lanes.
	crowdTasks = 20
)

// neighborSet is the other apps of the worker, apart from the one that is measured.
type neighborSet struct {
	label string
	apps  int
	tasks int // waiting in each of their lanes, which are held; 0: none waiting, none held
}

// crowdLane is the lane that is measured.
type crowdLane struct {
	label string
	typ   string
	tasks int
	limit int // a second; 0: none
	runs  int
	setup labConfig
}

// laneResult is the result of draining a crowdLane once.
type laneResult struct {
	rate  float64 // tasks per second, from the first to the last call
	share float64 // of the limit
	peak  int     // most arrivals in a sliding second
	stall float64 // longest stall of this program, ms
	cost  cost
}

func (b *bench) crowd(ctx context.Context, t *report.Table) error {
	n, few := sizeFor(b, 60_000, 5000), sizeFor(b, 3000, 500)
	types := len(tasks.Catalog())
	t.Title = "A lane beside 504 others that are held"
	t.About = fmt.Sprintf("One worker; app A drains `send:subscribe` (no limit, instant answers, 50 slots, a backlog of %s, medians of %d), or `scheme:generate` (100 a second, `pace.margin: 0.02`, answers after 20 ms, a backlog of %s). Beside it the worker has no other app, or %d without a task, or the same %d with %d tasks waiting in each of their %d lanes, urgent and bulk in turn: half of these apps are held whole, of the other half each type. A is also held until the worker is idle, and measured from its release on. *Of that alone* is the median of the rounds' ratios. Wanted: at least 95 %% of A's pace alone, and of its limit's share.",
		summary.Number(n), b.runsOf(5), summary.Number(few), crowdApps, crowdApps, crowdTasks, crowdApps*types)
	t.Head = append([]string{"lane", "beside it", "tasks a second", "of that alone", "share of the limit", "most in a second", "longest stall"}, costHead()...)
	for _, s := range []crowdLane{
		{label: "no limit", typ: tasks.TypeSubscribe, tasks: n, runs: b.runsOf(5), setup: labConfig{
			limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: 50}},
		}},
		{label: "100 a second", typ: tasks.TypeScheme, tasks: few, limit: perSecond, runs: b.runsOf(1), setup: labConfig{margin: lowMargin, latency: standInLatency}},
	} {
		if err := b.measureCrowdLane(ctx, t, s); err != nil {
			return fmt.Errorf("%s: %w", s.label, err)
		}
	}
	return nil
}

// measureCrowdLane measures a lane next to each neighbor set, in rounds of alternating order.
func (b *bench) measureCrowdLane(ctx context.Context, t *report.Table, s crowdLane) error {
	sets := []neighborSet{
		{label: "nothing"},
		{label: fmt.Sprintf("%d apps without tasks", crowdApps), apps: crowdApps},
		{label: fmt.Sprintf("%d apps, %d tasks waiting, held", crowdApps, crowdApps*len(tasks.Catalog())*crowdTasks), apps: crowdApps, tasks: crowdTasks},
	}
	results := make([][]laneResult, len(sets))
	for run := range s.runs {
		for step := range sets {
			i := step
			if run%2 == 1 {
				i = len(sets) - 1 - step
			}
			p, err := b.crowdOnce(ctx, s, sets[i])
			if err != nil {
				return fmt.Errorf("beside %s: %w", sets[i].label, err)
			}
			b.logf("  run %d, %s, beside %s: %.0f a second, share %.4f, peak %d, CPU %.3f s a 1,000, %.1f commands a send, longest stall %.1f ms",
				run+1, s.label, sets[i].label, p.rate, p.share, p.peak, p.cost.workerCPU, p.cost.commands, p.stall)
			results[i] = append(results[i], p)
		}
	}
	alone := medianLaneResult(results[0])
	for i, c := range sets {
		p := medianLaneResult(results[i])
		var ratios []float64 // per round, so that a slowdown of the machine affects both
		for run, q := range results[i] {
			ratios = append(ratios, q.rate/results[0][run].rate)
		}
		of, share := report.Number(report.Median(ratios), 3, ""), any("–")
		if i > 0 {
			of = of.AtLeast(wantCrowdShare)
		}
		peak := report.Count(p.peak)
		if s.limit > 0 {
			share, peak = report.Percent(p.share).AtLeast(100*wantCrowdShare*alone.share), peak.AtMost(float64(s.limit))
		}
		t.Add(append([]any{s.label, c.label, report.Number(p.rate, 0, ""), of, share, peak, report.Milliseconds(p.stall)}, p.cost.cells()...)...)
	}
	return nil
}

// medianLaneResult returns the median of each figure, and the maximum of peak and stall.
func medianLaneResult(all []laneResult) laneResult {
	var worst laneResult
	var rates, shares []float64
	var costs []cost
	for _, p := range all {
		rates, shares, costs = append(rates, p.rate), append(shares, p.share), append(costs, p.cost)
		worst.peak, worst.stall = max(worst.peak, p.peak), max(worst.stall, p.stall)
	}
	return laneResult{report.Median(rates), report.Median(shares), worst.peak, worst.stall, medianCost(costs)}
}

// crowdOnce drains the lane once next to a neighbor set.
func (b *bench) crowdOnce(ctx context.Context, s crowdLane, c neighborSet) (p laneResult, err error) {
	s.setup.apps = 1 + c.apps
	l, err := b.newLab(ctx, s.setup)
	if err != nil {
		return p, err
	}
	defer l.close()
	o := order{app: appID(0), typ: s.typ}
	if err := errors.Join(l.enqueueNeighbors(ctx, c), setHold(ctx, l.rdb, o.app, hold.WholeApp), l.backlog(ctx, o, s.tasks)); err != nil {
		return p, err
	}
	if err := l.startWorkers(1); err != nil {
		return p, err
	}
	if err := l.waitFor(laneCloseTime); err != nil {
		return p, err
	}
	if err := l.expectLanes(ctx, 0); err != nil {
		return p, err
	}
	if p, err = l.drainReleased(ctx, o, s); err != nil {
		return p, err
	}
	return p, l.expectNeighborsWaiting(ctx, c)
}

// drainReleased releases the held app of an idle worker, and measures until its tasks are delivered
// and settled.
func (l *lab) drainReleased(ctx context.Context, o order, s crowdLane) (p laneResult, err error) {
	before, err := l.usage(ctx)
	if err != nil {
		return p, err
	}
	cpu, err := l.workerCPU()
	if err != nil {
		return p, err
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	if _, err := hold.NewStore(l.rdb).Lift(ctx, o.app, hold.WholeApp); err != nil {
		return p, err
	}
	if err := l.waitForCalls(s.tasks, timeLimit(s.tasks, perSecond)); err != nil {
		return p, err
	}
	p.stall = stalls.Stop()
	if err := l.waitUntilSettled(ctx, o, 30*time.Second); err != nil {
		return p, err
	}
	all, err := l.arrivals()
	if err != nil {
		return p, err
	}
	if p.cost, err = l.costSince(ctx, before, len(all)); err != nil {
		return p, err
	}
	p.cost.workerCPU -= 1000 * cpu.Seconds() / float64(len(all)) // less the start and the idle phase before the release
	if n := len(standin.OfApp(all, o.app)); n != len(all) {
		return p, fmt.Errorf("%d calls for held apps", len(all)-n)
	}
	times := standin.Instants(all)
	p.rate = float64(len(all)-1) / clock.Seconds(times[len(times)-1]-times[0])
	p.peak, _ = standin.MaxInWindow(times, time.Second, s.limit)
	if s.limit > 0 {
		p.share = standin.MiddleShare(times, s.limit)
	}
	return p, nil
}

// enqueueNeighbors holds the apps of a neighbor set and enqueues tasks of all types for them.
func (l *lab) enqueueNeighbors(ctx context.Context, c neighborSet) error {
	if c.tasks == 0 {
		return nil
	}
	bodies, err := l.bench.examples()
	if err != nil {
		return err
	}
	var waiting []tasks.Envelope
	for n := range c.apps {
		app := appID(1 + n)
		for _, scope := range heldScopes(n) {
			if err := setHold(ctx, l.rdb, app, scope); err != nil {
				return err
			}
		}
		for typ, body := range bodies {
			for i := range c.tasks {
				priority := []tasks.Priority{tasks.Urgent, tasks.Bulk}[i%2]
				waiting = append(waiting, tasks.Envelope{Type: typ, App: app, Body: body, Priority: priority})
			}
		}
	}
	for _, answer := range l.client.SubmitMany(ctx, waiting) {
		if answer.Err != nil {
			return answer.Err
		}
	}
	return nil
}

// heldScopes returns the scopes to hold of the n-th other app: the whole app, or each type.
func heldScopes(n int) []string {
	if n%2 == 0 {
		return []string{hold.WholeApp}
	}
	var scopes []string
	for _, spec := range tasks.Catalog() {
		scopes = append(scopes, spec.Type)
	}
	return scopes
}

// examples returns a body of each type: the first one in the main module's examples.
func (b *bench) examples() (map[string][]byte, error) {
	path := filepath.Join(b.module, "examples", "tasks.jsonl")
	text, err := os.ReadFile(path) //nolint:gosec // the folder given by -module
	if err != nil {
		return nil, err
	}
	bodies := make(map[string][]byte)
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		e, err := tasks.ParseEnvelope(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if bodies[e.Type] == nil {
			bodies[e.Type] = e.Body
		}
	}
	for _, spec := range tasks.Catalog() {
		if bodies[spec.Type] == nil {
			bodies[spec.Type] = []byte(spec.Example)
		}
	}
	if want := len(tasks.Catalog()); len(bodies) != want {
		return nil, fmt.Errorf("%s has %d of %d types", path, len(bodies), want)
	}
	return bodies, nil
}

// expectLanes returns an error unless the workers run want asynq servers, which subscribe to
// asynq's cancellation channel: none without an open lane, one for each of the first four.
func (l *lab) expectLanes(ctx context.Context, want int64) error {
	subscribers, err := l.rdb.PubSubNumSub(ctx, asynqwire.CancelChannel).Result()
	if n := subscribers[asynqwire.CancelChannel]; err == nil && n != want {
		err = fmt.Errorf("%d asynq servers run, want %d", n, want)
	}
	return err
}

// expectNeighborsWaiting returns an error unless all tasks of a neighbor set still wait.
func (l *lab) expectNeighborsWaiting(ctx context.Context, c neighborSet) error {
	var replies []*redis.IntCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range c.apps {
			for _, spec := range tasks.Catalog() {
				for _, priority := range []tasks.Priority{tasks.Urgent, tasks.Bulk} {
					replies = append(replies, p.LLen(ctx, asynqwire.Key(tasks.QueueName(appID(1+n), spec.Type, priority), asynqwire.Pending)))
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	got, want := 0, c.apps*len(tasks.Catalog())*c.tasks
	for _, r := range replies {
		got += int(r.Val())
	}
	if got != want {
		return fmt.Errorf("%d tasks of the held apps wait, want %d", got, want)
	}
	return nil
}
