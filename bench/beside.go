package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// contender is one way of keeping a limit.
type contender struct {
	label string
	start func(l *lab) error // one worker
	send  func(l *lab, orders ...order) sender
}

// contenders is how many workers each has.
const contenders = 2

func (b *bench) beside(ctx context.Context, t *table) error {
	n, timed := sized(b, 3000, 500), sized(b, 400, 60)
	runs := b.repeats(3)
	t.title = "Beside asynq's wiki pattern"
	t.about = fmt.Sprintf("The pattern of asynq's wiki (a handler without room returns a `RateLimitError`, `RetryDelayFunc` brings the task back, `IsFailure` leaves it out) with redis_rate's `PerSecond(100)`, and wxcourier at `pace.margin: 0.02`: %d workers of 64 slots, the same Redis, server, task and backlog of %s, answers after 20 ms; a second app gets a task every 50 ms, %d in all. Medians of %d, one of each in turn; the peak and the calls over are the worst. A wasted run is one that a worker took from the queue and ended without a call.", contenders, thousands(n), timed, runs)
	t.head = append([]string{
		"case", "share of the limit", "all sent after", "most in a second", "calls over", "wasted runs a send",
		"second app p50", "second app p99", "longest stall",
	}, costHead()...)
	all := []contender{
		{"wxcourier", (*lab).startOurs, (*lab).ours},
		{"wiki pattern, back in 0–9 s as there", startPlain(backRandom), (*lab).foreign},
		{"wiki pattern, back when redis_rate says", startPlain(backExact), (*lab).foreign},
	}
	results := make([][]comparison, len(all))
	for run := range runs {
		for i, c := range all {
			r, err := b.compare(ctx, c, n, timed)
			if err != nil {
				return fmt.Errorf("%s: %w", c.label, err)
			}
			b.say("  run %d, %s: share %.4f, peak %d, wasted %.2f, all after %.1f s, p99 %.1f ms", run+1, c.label, r.share, r.peak, r.wasted, r.took, r.p99)
			results[i] = append(results[i], r)
		}
	}
	for i, c := range all {
		addComparison(t, c.label, results[i])
	}
	return nil
}

func (l *lab) startOurs() error { return l.startWorkers(1) }

func startPlain(back string) func(l *lab) error {
	return func(l *lab) error {
		queues := tasks.QueueName(appID(0), tasks.TypeScheme, tasks.Urgent) + "," + tasks.QueueName(appID(1), tasks.TypeScheme, tasks.Urgent)
		return l.startWorker(l.bench.self, partPlain, "-redis", l.redis, "-base", l.wechat, "-back", back,
			"-limit", fmt.Sprint(perSecond), "-concurrency", "64", "-queues", queues)
	}
}

// comparison is what came of one contender's run.
type comparison struct {
	share      float64
	took       float64 // seconds from the first call of the first app to its last
	peak, over int
	wasted     float64 // runs without a call, per call
	cost       cost
	p50, p99   float64 // of the second app, ms
	stall      float64 // the longest of this program's, ms
}

func (b *bench) compare(ctx context.Context, c contender, n, timed int) (comparison, error) {
	l, err := b.newLab(ctx, setup{apps: 2, margin: quietMargin, latency: standInWait})
	if err != nil {
		return comparison{}, err
	}
	defer l.close()
	first, second := order{app: appID(0), typ: tasks.TypeScheme}, order{app: appID(1), typ: tasks.TypeScheme}
	send := c.send(l, first)
	if err := each1(n, func() error { _, err := send(ctx); return err }); err != nil {
		return comparison{}, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return comparison{}, err
	}
	stalls := watchStalls(ctx)
	defer stalls.end()
	for range contenders {
		if err := c.start(l); err != nil {
			return comparison{}, err
		}
	}
	if err := l.arrived(1, time.Minute); err != nil {
		return comparison{}, err
	}
	samples, err := trickle(ctx, timed, every(timedGap), c.send(l, second))
	if err != nil {
		return comparison{}, err
	}
	if err := l.arrived(n+timed, patience(n, perSecond)); err != nil {
		return comparison{}, err
	}
	r, err := l.compared(ctx, before, samples)
	r.stall = stalls.end()
	return r, err
}

// each1 does something n times, by one goroutine.
func each1(n int, do func() error) error {
	for range n {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) compared(ctx context.Context, before usage, samples []sample) (r comparison, err error) {
	delays, err := l.delays(samples)
	if err != nil {
		return r, err
	}
	r.p50, r.p99 = median(delays), quantile(delays, 0.99)
	// The last answers are on their way, and asynq is told about them after that.
	if err := l.quiet(time.Second); err != nil {
		return r, err
	}
	after, err := l.usage(ctx)
	if err != nil {
		return r, err
	}
	all, err := l.arrivals()
	if err != nil {
		return r, err
	}
	if r.cost, err = l.costSince(ctx, before, len(all)); err != nil {
		return r, err
	}
	times, calls := instants(of(all, appID(0))), float64(len(all))
	r.share = middleShare(times, perSecond)
	r.took = seconds(times[len(times)-1] - times[0])
	r.peak, r.over = densest(times, time.Second, perSecond)
	// Each of asynq's scripts that end a run removes its task from the list of active
	// ones, by LREM, and nothing else does.
	r.wasted = (float64(after.since(before).calls["lrem"]) - calls) / calls
	return r, nil
}

func addComparison(t *table, label string, all []comparison) {
	mid := func(of func(comparison) float64) float64 {
		var values []float64
		for _, r := range all {
			values = append(values, of(r))
		}
		return median(values)
	}
	peak, over, stall, costs := 0, 0, 0.0, []cost(nil)
	for _, r := range all {
		peak, over, stall, costs = max(peak, r.peak), over+r.over, max(stall, r.stall), append(costs, r.cost)
	}
	cells := []any{
		label,
		percent(mid(func(r comparison) float64 { return r.share })),
		num(mid(func(r comparison) float64 { return r.took }), 1, " s"),
		whole(peak), whole(over),
		num(math.Max(0, mid(func(r comparison) float64 { return r.wasted })), 2, ""),
		millis(mid(func(r comparison) float64 { return r.p50 })),
		millis(mid(func(r comparison) float64 { return r.p99 })), millis(stall),
	}
	t.add(append(cells, medianCost(costs).cells()...)...)
}
