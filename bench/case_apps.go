package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/redisinfo"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets for a replica with many apps.
const (
	appsIdleCommands = 25.0  // a second
	appsIdleCPU      = 1.0   // per cent of one core
	appsCommands     = 45.0  // a task
	appsCPU          = 0.25  // ms a task
	appsMemory       = 200.0 // MB
	appsConnections  = 100.0 // to Redis
)

// tasksPerApp is the number of tasks of each app in the case apps.
const tasksPerApp = 10

func (b *bench) apps(ctx context.Context, t *report.Table) error {
	span := sizeFor(b, 30*time.Second, 5*time.Second)
	t.Title = "Many apps"
	t.About = fmt.Sprintf("One worker. Idle: one lane of each app had a task and has closed again; over %.0f s. Delivering: %d tasks of `send:subscribe` for each app wait when the worker starts, without a limit, answers after 20 ms; the costs are those from before the start until all is settled, tokens and all. Connections are those of the worker to Redis, memory its `VmHWM`. Wanted: idle at most 25 commands a second and 1 %% of a core; at most 45 commands and 0.25 ms of processor time a task, 200 MB and 100 connections.", span.Seconds(), tasksPerApp)
	t.Head = []string{"apps", "does", "tasks a second", "Redis commands", "worker's CPU", "most connections", "peak memory"}
	for _, apps := range sizeFor(b, []int{100, 1000, 5000}, []int{100}) {
		if err := b.appsIdle(ctx, t, apps, span); err != nil {
			return fmt.Errorf("%d idle apps: %w", apps, err)
		}
	}
	for _, apps := range sizeFor(b, []int{1, 1000}, []int{100}) {
		if err := b.appsBusy(ctx, t, apps, sizeFor(b, 1000, 100)*tasksPerApp); err != nil {
			return fmt.Errorf("%d busy apps: %w", apps, err)
		}
	}
	return nil
}

func (b *bench) appsIdle(ctx context.Context, t *report.Table, apps int, span time.Duration) error {
	l, err := b.newLab(ctx, labConfig{apps: apps})
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.enqueueForEach(ctx, apps, 1); err != nil {
		return err
	}
	if err := l.startWorkers(1); err != nil {
		return err
	}
	if err := l.waitForCalls(apps, timeLimit(apps, 100)); err != nil {
		return err
	}
	if err := l.waitFor(2 * laneCloseTime); err != nil {
		return err
	}
	used, busyFor, elapsed, err := l.measureIdle(ctx, span)
	if err != nil {
		return err
	}
	open, err := l.connections(ctx)
	if err != nil {
		return err
	}
	peak, err := l.workers[0].PeakMemory()
	if err != nil {
		return err
	}
	t.Add(report.Count(apps), "idle", "–",
		report.Number(float64(used.commands)/elapsed, 1, " a second").AtMost(appsIdleCommands),
		report.Number(100*busyFor.Seconds()/elapsed, 2, " % of a core").AtMost(appsIdleCPU),
		report.Count(open).AtMost(appsConnections), report.Megabytes(peak))
	return nil
}

// appsBusy delivers n tasks, n/apps of each app.
func (b *bench) appsBusy(ctx context.Context, t *report.Table, apps, n int) error {
	l, err := b.newLab(ctx, labConfig{apps: apps, latency: standInLatency})
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.enqueueForEach(ctx, apps, n/apps); err != nil {
		return err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return err
	}
	if err := l.startWorkers(1); err != nil {
		return err
	}
	peakConnections, polls := 0, 0
	err = waitUntil(ctx, timeLimit(n, 100), fmt.Sprintf("%d tasks are settled", n), func() (bool, error) {
		if err := l.checkProcesses(); err != nil {
			return false, err
		}
		open, err := l.connections(ctx)
		if err != nil {
			return false, err
		}
		peakConnections, polls = max(peakConnections, open), polls+1
		arrived, err := l.count()
		return arrived >= n, err
	})
	if err != nil {
		return err
	}
	for i := range apps {
		if err := l.waitUntilSettled(ctx, order{app: appID(i), typ: tasks.TypeSubscribe}, 30*time.Second); err != nil {
			return err
		}
	}
	spent, err := l.costSince(ctx, before, n)
	if err != nil {
		return err
	}
	after, err := l.usage(ctx)
	if err != nil {
		return err
	}
	b.logf("  %d apps, commands a task: %s", apps, topCommands(after.since(before), n))
	all, err := l.arrivals()
	if err != nil {
		return err
	}
	peak, err := l.workers[0].PeakMemory()
	if err != nil {
		return err
	}
	own := float64(polls+apps) / float64(n) // commands of this program: INFO and LLEN
	times := standin.Instants(all)
	t.Add(report.Count(apps), fmt.Sprintf("%d tasks", n), report.Number(float64(n-1)/clock.Seconds(times[len(times)-1]-times[0]), 0, ""),
		report.Number(spent.commands-own, 1, " a task").AtMost(appsCommands),
		report.Number(spent.workerCPU, 3, " ms a task").AtMost(appsCPU), // seconds per 1,000 are milliseconds each
		report.Count(peakConnections).AtMost(appsConnections), report.Megabytes(peak).AtMost(appsMemory))
	return nil
}

// enqueueForEach enqueues n tasks for each app.
func (l *lab) enqueueForEach(ctx context.Context, apps, n int) error {
	for i := range apps {
		some := make([]*asynq.Task, n)
		for j := range some {
			var err error
			if some[j], _, err = l.task(order{app: appID(i), typ: tasks.TypeSubscribe}); err != nil {
				return err
			}
		}
		for _, answer := range l.client.EnqueueMany(ctx, some) {
			if answer.Err != nil {
				return answer.Err
			}
		}
	}
	return nil
}

// connections returns the number of the workers' connections to Redis: all except those of this
// program.
func (l *lab) connections(ctx context.Context) (int, error) {
	info, err := redisinfo.Read(ctx, l.rdb, "clients")
	open, ok := info.Int(redisinfo.Connections)
	if !ok {
		return 0, errors.Join(err, errors.New("INFO has no connected_clients"))
	}
	return int(open) - int(l.rdb.PoolStats().TotalConns), nil
}

// topCommands lists the most frequent commands with their number per task.
func topCommands(u usage, n int) string {
	names := slices.SortedFunc(maps.Keys(u.calls), func(a, b string) int { return cmp.Compare(u.calls[b], u.calls[a]) })
	var texts []string
	for _, name := range names[:min(12, len(names))] {
		texts = append(texts, fmt.Sprintf("%s %.1f", name, float64(u.calls[name])/float64(n)))
	}
	return strings.Join(texts, ", ")
}
