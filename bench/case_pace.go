package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// Constants of the cases about the pace.
const (
	perSecond      = 100 // scheme:generate's documented limit
	standInLatency = 20 * time.Millisecond
	lowMargin      = 0.02 // enough on loopback, which has little jitter
)

// paceCase is a measurement of a limit per second: a number of workers drain a backlog.
type paceCase struct {
	label   string
	workers int
	backlog int
	limit   int // a second
	busy    bool
	setup   labConfig
	churn   time.Duration // how long workers are replaced; 0: they are not
}

// paceResult is the result of a paceCase.
type paceResult struct {
	share     float64 // of the limit, without the first and the last second
	peak      int     // maximum arrivals in a sliding second
	over      int     // arrivals over the limit
	firstCall float64 // seconds from the workers' start to the first arrival
	missing   int     // tasks that did not arrive during the measurement
	repeats   int     // repeated arrivals of the same task
	stall     float64 // longest stall of this program, ms
	cost      cost
}

// The shares of a limit that must be used.
const (
	wantShare      = 0.975
	wantShareChurn = 0.90
)

func (b *bench) seconds(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 3000, 600)
	t.Title = "A limit of 100 a second"
	t.About = fmt.Sprintf("`scheme:generate`, a backlog of %s, answers after 20 ms, `pace.margin: 0.02`. Wanted: at least 97.5 %% of the limit, and no call over it in any sliding second at the server. The share is that of the calls between the first arrival plus a second and the last one minus a second.", summary.Number(n))
	setPaceHead(t)
	for _, busy := range []bool{false, true} {
		for _, workers := range sizeFor(b, []int{1, 2, 4, 8}, []int{1, 4}) {
			label := workersText(workers)
			if busy {
				label += ", one core busy"
			}
			r := paceCase{
				label: label, workers: workers, backlog: n, limit: perSecond, busy: busy,
				setup: labConfig{apps: 1, margin: lowMargin, latency: standInLatency},
			}
			if err := b.measurePace(ctx, t, r, wantShare); err != nil {
				return err
			}
		}
	}
	// The first calls wait for the app's token, and must not all be sent at once when it arrives.
	return b.measurePace(ctx, t, paceCase{
		label: "4 workers, the token takes 200 ms", workers: 4, backlog: n, limit: perSecond,
		setup: labConfig{apps: 1, margin: lowMargin, latency: standInLatency, token: 200 * time.Millisecond},
	}, wantShare)
}

func (b *bench) churn(ctx context.Context, t *report.Table) error {
	span := sizeFor(b, 30*time.Second, 8*time.Second)
	t.Title = "Workers that come, go and are killed"
	t.About = fmt.Sprintf("100 a second, `pace.margin: 0.02`, 4 workers. Over %.0f s, every 2 s the oldest one is ended, in turn by SIGKILL and by SIGTERM, and another one starts. Wanted: at least 90 %% of the limit, and no call over it. Calls in flight in a killed worker are repeated a minute later, and are missing here.", span.Seconds())
	setPaceHead(t)
	return b.measurePace(ctx, t, paceCase{
		label: "4 workers, one replaced every 2 s", workers: 4, limit: perSecond, churn: span,
		backlog: perSecond * int(span.Seconds()+15),
		setup:   labConfig{apps: 1, margin: lowMargin, latency: standInLatency},
	}, wantShareChurn)
}

func (b *bench) jitter(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 3000, 600)
	t.Title = "50 ms of jitter in the network"
	t.About = fmt.Sprintf("100 a second, a backlog of %s, the default margin of 0.05. A proxy delays each write between workers and server by 0 to 50 ms at random, in order. Wanted: no call over the limit; this margin lets at most 95 %% through.", summary.Number(n))
	setPaceHead(t)
	for _, workers := range sizeFor(b, []int{1, 4}, []int{2}) {
		r := paceCase{
			label: workersText(workers), workers: workers, backlog: n, limit: perSecond,
			setup: labConfig{apps: 1, latency: standInLatency, jitter: 50 * time.Millisecond},
		}
		if err := b.measurePace(ctx, t, r, 0); err != nil {
			return err
		}
	}
	return nil
}

func setPaceHead(t *report.Table) {
	t.Head = append([]string{"case", "share of the limit", "most in a second", "calls over", "start to first call", "missing", "repeated", "longest stall"}, costHead()...)
}

// measurePace measures a case and adds its row: the median of the shares, the worst of the other
// figures.
func (b *bench) measurePace(ctx context.Context, t *report.Table, r paceCase, want float64) error {
	var worst paceResult
	var shares []float64
	var costs []cost
	for range b.runsOf(1) {
		f, err := b.paceOnce(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.label, err)
		}
		b.logf("  %s: share %.4f, peak %d, over %d, first call after %.2f s, longest stall %.1f ms", r.label, f.share, f.peak, f.over, f.firstCall, f.stall)
		shares, costs = append(shares, f.share), append(costs, f.cost)
		worst = paceResult{
			peak: max(worst.peak, f.peak), over: worst.over + f.over, firstCall: max(worst.firstCall, f.firstCall),
			missing: worst.missing + f.missing, repeats: worst.repeats + f.repeats, stall: max(worst.stall, f.stall),
		}
	}
	t.Add(append([]any{
		r.label, report.Percent(report.Median(shares)).AtLeast(100 * want), report.Count(worst.peak), report.Count(worst.over).AtMost(0),
		report.Number(worst.firstCall, 2, " s"), report.Count(worst.missing), report.Count(worst.repeats), report.Milliseconds(worst.stall),
	}, medianCost(costs).cells()...)...)
	return nil
}

// paceOnce runs a case once.
func (b *bench) paceOnce(ctx context.Context, r paceCase) (f paceResult, err error) {
	l, err := b.newLab(ctx, r.setup)
	if err != nil {
		return f, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme}, r.backlog); err != nil {
		return f, err
	}
	if r.busy {
		if err := l.keepCoreBusy(); err != nil {
			return f, err
		}
	}
	before, err := l.usage(ctx)
	if err != nil {
		return f, err
	}
	start, stalls := clock.Monotonic(), clock.WatchStalls(ctx)
	defer stalls.Stop()
	if err := l.startWorkers(r.workers); err != nil {
		return f, err
	}
	if r.churn > 0 {
		err = l.replaceWorkers(r.churn)
	} else {
		err = l.waitForCalls(r.backlog, timeLimit(r.backlog, r.limit))
	}
	if err != nil {
		return f, err
	}
	f.stall = stalls.Stop()
	all, err := l.arrivals()
	if err != nil || len(all) == 0 {
		return f, errors.Join(err, fmt.Errorf("%d calls arrived", len(all)))
	}
	f.fill(r, all, start)
	f.cost, err = l.costSince(ctx, before, len(all))
	return f, err
}

// fill sets the figures that follow from the arrivals; the workers were started at start.
func (f *paceResult) fill(r paceCase, all []standin.Arrival, start int64) {
	times := standin.Instants(all)
	f.share, f.firstCall = standin.MiddleShare(times, r.limit), clock.Seconds(times[0]-start)
	f.peak, f.over = standin.MaxInWindow(times, time.Second, r.limit)
	f.repeats = len(all) - standin.Distinct(all)
	if r.churn == 0 { // else the backlog outlasts the measurement
		f.missing = r.backlog - standin.Distinct(all)
	}
}

// timeLimit returns the maximum time for a backlog: three times the expected time, and 30 s for the
// start.
func timeLimit(backlog, perSecond int) time.Duration {
	return 30*time.Second + 3*time.Duration(backlog)*time.Second/time.Duration(perSecond)
}

// replaceEvery is the interval of replaceWorkers.
const replaceEvery = 2 * time.Second

// replaceWorkers replaces the oldest worker every replaceEvery, for span. It kills and stops them in
// turn.
func (l *lab) replaceWorkers(span time.Duration) error {
	if err := l.waitForCalls(1, 30*time.Second); err != nil {
		return err
	}
	end := time.Now().Add(span)
	var exits []chan error
	for n := 0; time.Now().Before(end); n++ {
		if err := clock.Pause(l.ctx, replaceEvery); err != nil {
			return err
		}
		if p := l.takeOldestWorker(); n%2 == 0 {
			p.Kill()
		} else {
			exited := make(chan error, 1)
			go func() { exited <- p.Stop() }()
			exits = append(exits, exited)
		}
		if err := l.startWorkers(1); err != nil {
			return err
		}
		if err := l.checkProcesses(); err != nil {
			return err
		}
	}
	for _, exited := range exits {
		if err := <-exited; err != nil {
			return err
		}
	}
	return nil
}

// workersText returns "1 worker", "2 workers" …
func workersText(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}
