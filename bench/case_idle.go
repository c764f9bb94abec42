package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets for an idle replica.
const (
	idleCommands = 60.0 // a second
	idleCPU      = 1.0  // per cent of one core
)

// laneCloseTime is longer than the time after which an idle lane closes.
const laneCloseTime = 8 * time.Second

func (b *bench) idle(ctx context.Context, t *report.Table) error {
	span := sizeFor(b, 20*time.Second, 5*time.Second)
	types := len(tasks.Catalog())
	t.Title = "A replica that has nothing to do"
	t.About = fmt.Sprintf("One worker, %d task types; two lanes of each app had a task and have closed again. Over %.0f s, Redis' own count of commands (less those of this program) and the processor time of the worker. Wanted for 100 lanes: at most 60 commands a second and 1 %% of a core.", types, span.Seconds())
	t.Head = []string{"apps", "lanes", "Redis commands a second", "worker's CPU, of one core", "Redis' CPU, of one core"}
	for _, apps := range []int{9, 42} {
		if err := b.idleOnce(ctx, t, apps, span); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) idleOnce(ctx context.Context, t *report.Table, apps int, span time.Duration) error {
	l, err := b.newLab(ctx, labConfig{apps: apps})
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.startWorkers(1); err != nil {
		return err
	}
	if err := l.warmUp(ordersOf(apps)...); err != nil {
		return err
	}
	if err := l.waitFor(laneCloseTime); err != nil {
		return err
	}
	used, busyFor, elapsed, err := l.measureIdle(ctx, span)
	if err != nil {
		return err
	}
	commands := report.Number(float64(used.commands)/elapsed, 1, "")
	busy := report.Number(100*busyFor.Seconds()/elapsed, 2, " %")
	lanes := apps * len(tasks.Catalog())
	if lanes < 200 { // the targets are for about 100 lanes
		commands, busy = commands.AtMost(idleCommands), busy.AtMost(idleCPU)
	}
	t.Add(report.Count(apps), report.Count(lanes), commands, busy, report.Number(100*used.cpu/elapsed, 2, " %"))
	return nil
}

// measureIdle waits for span. It returns the usage of Redis, the CPU time of the workers and the
// elapsed seconds.
func (l *lab) measureIdle(ctx context.Context, span time.Duration) (used usage, workers time.Duration, elapsed float64, err error) {
	before, err := l.usage(ctx)
	if err != nil {
		return usage{}, 0, 0, err
	}
	cpu, err := l.workerCPU()
	if err != nil {
		return usage{}, 0, 0, err
	}
	start := clock.Monotonic()
	if err := clock.Pause(ctx, span); err != nil {
		return usage{}, 0, 0, err
	}
	elapsed = clock.Seconds(clock.Monotonic() - start)
	after, err := l.usage(ctx)
	if err != nil {
		return usage{}, 0, 0, err
	}
	cpuAfter, err := l.workerCPU()
	return after.since(before), cpuAfter - cpu, elapsed, err
}

// ordersOf returns orders for two lanes of each app.
func ordersOf(apps int) []order {
	var orders []order
	for n := range apps {
		for _, typ := range []string{tasks.TypeScheme, tasks.TypeTextCheck} {
			orders = append(orders, order{app: appID(n), typ: typ})
		}
	}
	return orders
}

// Targets for the latency from enqueue to the call on an idle system, in milliseconds.
const (
	wantLatencyMedian = 5.0
	wantLatencyP99    = 40.0
	wantLatencyAsynq  = 1000.0
)

// latencyCase is one row of the case latency.
type latencyCase struct {
	label      string
	apps       int // with two lanes each
	plainAsynq bool
	gap        func() time.Duration
}

func (b *bench) latency(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 200, 20)
	// 2 × 9 lanes in turn, so that each has closed before its next task.
	const apps, lanes = 9, 18
	closedGap := constantGap(laneCloseTime / lanes)
	openGap := func() time.Duration { return 50*time.Millisecond + rand.N(100*time.Millisecond) } //nolint:gosec // a pause is no secret
	t.Title = "From enqueue to the call"
	t.About = fmt.Sprintf("One worker with nothing else to do; %d tasks one at a time, timed from before the enqueuing to the arrival at the server. An open lane gets a task every 50 to 150 ms; of the closed ones there are %d in turn, each with %.0f s between two tasks (a lane closes after 5 s). Wanted with `tasks.Client`: p50 at most 5 ms, p99 at most 40 ms; with a plain asynq client, which sends no wake-up: at most 1 s.", n, lanes, laneCloseTime.Seconds())
	t.Head = []string{"case", "p50", "p99", "most", "longest stall"}
	for _, w := range []latencyCase{
		{"`tasks.Client`, open lane", 1, false, openGap},
		{"`tasks.Client`, closed lanes", apps, false, closedGap},
		{"`asynq.Client`, open lane", 1, true, openGap},
		{"`asynq.Client`, closed lanes", apps, true, closedGap},
	} {
		delays, stall, err := b.latencyOnce(ctx, w, n)
		if err != nil {
			return fmt.Errorf("%s: %w", w.label, err)
		}
		p50, p99, most := report.Milliseconds(report.Median(delays)), report.Milliseconds(report.Quantile(delays, 0.99)), report.Milliseconds(report.Quantile(delays, 1))
		if w.plainAsynq {
			p99 = p99.AtMost(wantLatencyAsynq)
		} else {
			p50, p99 = p50.AtMost(wantLatencyMedian), p99.AtMost(wantLatencyP99)
		}
		t.Add(w.label, p50, p99, most, report.Milliseconds(stall))
	}
	return nil
}

// latencyOnce measures the latency of n tasks in milliseconds. It also returns the longest stall.
func (b *bench) latencyOnce(ctx context.Context, w latencyCase, n int) (delays []float64, stall float64, err error) {
	l, err := b.newLab(ctx, labConfig{apps: w.apps})
	if err != nil {
		return nil, 0, err
	}
	defer l.close()
	if err := l.startWorkers(1); err != nil {
		return nil, 0, err
	}
	orders := ordersOf(w.apps)
	if w.apps == 1 {
		orders = orders[:1]
	}
	if err := l.warmUp(orders...); err != nil {
		return nil, 0, err
	}
	if w.apps > 1 {
		if err := l.waitFor(laneCloseTime); err != nil {
			return nil, 0, err
		}
	}
	send := l.clientSender(orders...)
	if w.plainAsynq {
		send = l.asynqSender(orders...)
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	samples, err := sendAtIntervals(ctx, n, w.gap, send)
	stall = stalls.Stop()
	if err != nil {
		return nil, 0, err
	}
	delays, err = l.waitForDelays(samples)
	return delays, stall, err
}
