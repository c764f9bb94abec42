package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// variant is a worker implementation that keeps a limit.
type variant struct {
	label string
	start func(l *lab) error // starts one worker
	send  func(l *lab, orders ...order) sender
}

// besideWorkers is the number of workers of each variant.
const besideWorkers = 2

func (b *bench) beside(ctx context.Context, t *report.Table) error {
	n, timed := sizeFor(b, 3000, 500), sizeFor(b, 400, 60)
	runs := b.runsOf(3)
	t.Title = "Beside asynq's wiki pattern"
	t.About = fmt.Sprintf("The pattern of asynq's wiki (a handler without room returns a `RateLimitError`, `RetryDelayFunc` brings the task back, `IsFailure` leaves it out) with redis_rate's `PerSecond(100)`, and wxcourier at `pace.margin: 0.02`: %d workers of 64 slots, the same Redis, server, task and backlog of %s, answers after 20 ms; a second app gets a task every 50 ms, %d in all. Medians of %d, one of each in turn; the peak and the calls over are the worst. A wasted run is one that a worker took from the queue and ended without a call.", besideWorkers, summary.Number(n), timed, runs)
	t.Head = append([]string{
		"case", "share of the limit", "all sent after", "most in a second", "calls over", "wasted runs a send",
		"second app p50", "second app p99", "longest stall",
	}, costHead()...)
	all := []variant{
		{"wxcourier", (*lab).startOneWorker, (*lab).clientSender},
		{"wiki pattern, back in 0–9 s as there", startPlain(retryRandom), (*lab).asynqSender},
		{"wiki pattern, back when redis_rate says", startPlain(retryExact), (*lab).asynqSender},
	}
	results := make([][]besideResult, len(all))
	for run := range runs {
		for i, c := range all {
			r, err := b.besideOnce(ctx, c, n, timed)
			if err != nil {
				return fmt.Errorf("%s: %w", c.label, err)
			}
			b.logf("  run %d, %s: share %.4f, peak %d, wasted %.2f, all after %.1f s, p99 %.1f ms", run+1, c.label, r.share, r.peak, r.wasted, r.took, r.p99)
			results[i] = append(results[i], r)
		}
	}
	for i, c := range all {
		addBesideRow(t, c.label, results[i])
	}
	return nil
}

func (l *lab) startOneWorker() error { return l.startWorkers(1) }

func startPlain(back string) func(l *lab) error {
	return func(l *lab) error {
		queues := tasks.QueueName(appID(0), tasks.TypeScheme, tasks.Urgent) + "," + tasks.QueueName(appID(1), tasks.TypeScheme, tasks.Urgent)
		return l.startWorker(l.bench.self, modePlain, "-redis", l.redis, "-base", l.wechat, "-back", back,
			"-limit", fmt.Sprint(perSecond), "-concurrency", "64", "-queues", queues)
	}
}

// besideResult is the result of one run of a variant.
type besideResult struct {
	share      float64
	took       float64 // seconds from the first call of the first app to its last
	peak, over int
	wasted     float64 // handler runs without a call, per call
	cost       cost
	p50, p99   float64 // of the second app, ms
	stall      float64 // longest stall of this program, ms
}

func (b *bench) besideOnce(ctx context.Context, c variant, n, timed int) (besideResult, error) {
	l, err := b.newLab(ctx, labConfig{apps: 2, margin: lowMargin, latency: standInLatency})
	if err != nil {
		return besideResult{}, err
	}
	defer l.close()
	first, second := order{app: appID(0), typ: tasks.TypeScheme}, order{app: appID(1), typ: tasks.TypeScheme}
	send := c.send(l, first)
	if err := repeat(n, func() error { _, err := send(ctx); return err }); err != nil {
		return besideResult{}, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return besideResult{}, err
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	for range besideWorkers {
		if err := c.start(l); err != nil {
			return besideResult{}, err
		}
	}
	if err := l.waitForCalls(1, time.Minute); err != nil {
		return besideResult{}, err
	}
	samples, err := sendAtIntervals(ctx, timed, constantGap(tenantGap), c.send(l, second))
	if err != nil {
		return besideResult{}, err
	}
	if err := l.waitForCalls(n+timed, timeLimit(n, perSecond)); err != nil {
		return besideResult{}, err
	}
	r, err := l.measureBeside(ctx, before, samples)
	r.stall = stalls.Stop()
	return r, err
}

// repeat calls do n times, until an error.
func repeat(n int, do func() error) error {
	for range n {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) measureBeside(ctx context.Context, before usage, samples []sample) (r besideResult, err error) {
	delays, err := l.waitForDelays(samples)
	if err != nil {
		return r, err
	}
	r.p50, r.p99 = report.Median(delays), report.Quantile(delays, 0.99)
	// Wait for the last answers, and for asynq to finish their tasks.
	if err := l.waitFor(time.Second); err != nil {
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
	times, calls := standin.Instants(standin.OfApp(all, appID(0))), float64(len(all))
	r.share = standin.MiddleShare(times, perSecond)
	r.took = clock.Seconds(times[len(times)-1] - times[0])
	r.peak, r.over = standin.MaxInWindow(times, time.Second, perSecond)
	// Each asynq script that ends a run removes the task from the active list with LREM. Nothing
	// else uses LREM.
	r.wasted = (float64(after.since(before).calls["lrem"]) - calls) / calls
	return r, nil
}

func addBesideRow(t *report.Table, label string, all []besideResult) {
	mid := func(of func(besideResult) float64) float64 {
		var values []float64
		for _, r := range all {
			values = append(values, of(r))
		}
		return report.Median(values)
	}
	peak, over, stall, costs := 0, 0, 0.0, []cost(nil)
	for _, r := range all {
		peak, over, stall, costs = max(peak, r.peak), over+r.over, max(stall, r.stall), append(costs, r.cost)
	}
	cells := []any{
		label,
		report.Percent(mid(func(r besideResult) float64 { return r.share })),
		report.Number(mid(func(r besideResult) float64 { return r.took }), 1, " s"),
		report.Count(peak), report.Count(over),
		report.Number(math.Max(0, mid(func(r besideResult) float64 { return r.wasted })), 2, ""),
		report.Milliseconds(mid(func(r besideResult) float64 { return r.p50 })),
		report.Milliseconds(mid(func(r besideResult) float64 { return r.p99 })), report.Milliseconds(stall),
	}
	t.Add(append(cells, medianCost(costs).cells()...)...)
}
