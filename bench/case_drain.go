package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets relative to a plain asynq worker that makes the same calls without fence or ledger.
const (
	wantDrainRate    = 1.3
	wantDrainCPU     = 0.8
	wantDrainRateFar = 5.0
)

// drainCase is a comparison of workers that drain a backlog without a limit.
type drainCase struct {
	label      string
	tasks      int
	slots      int
	latency    time.Duration
	redisDelay time.Duration // one-way delay between workers and Redis
	wantRate   float64       // target ratio
	wantCPU    float64       // target ratio; 0: none
}

func (b *bench) drain(ctx context.Context, t *report.Table) error {
	n, few := sizeFor(b, 30_000, 5000), sizeFor(b, 6000, 1500)
	runs := b.runsOf(5)
	t.Title = "Drain, beside a plain asynq worker"
	t.About = fmt.Sprintf("`send:subscribe` without a limit, one worker process each: wxcourier with fence, ledger, permits and verdicts, and an asynq server with default settings whose handler decodes the payload and makes the same POST. Tasks a second from the first call to the last one at the server. Medians of %d runs, one of each in turn; the ratios are those of the medians.", runs)
	t.Head = []string{
		"case", "asynq", "wxcourier", "ratio", "asynq's CPU a 1,000", "wxcourier's CPU a 1,000", "ratio",
		"Redis CPU a 1,000, asynq", "wxcourier", "Redis commands a send, asynq", "wxcourier",
	}
	for _, d := range []drainCase{
		{label: "instant answers, 50 slots", tasks: n, slots: 50, wantRate: wantDrainRate, wantCPU: wantDrainCPU},
		{label: "answers after 30 ms, 1,000 slots", tasks: n, slots: 1000, latency: 30 * time.Millisecond, wantRate: wantDrainRate, wantCPU: wantDrainCPU},
		{label: "instant answers, 50 slots, Redis 1 ms away", tasks: few, slots: 50, redisDelay: 500 * time.Microsecond, wantRate: wantDrainRateFar},
	} {
		if err := b.measureDrain(ctx, t, d, runs); err != nil {
			return fmt.Errorf("%s: %w", d.label, err)
		}
	}
	return nil
}

func (b *bench) measureDrain(ctx context.Context, t *report.Table, d drainCase, runs int) error {
	var rates [2][]float64
	var costs [2][]cost
	for run := range runs {
		for i, plain := range []bool{true, false} {
			rate, spent, err := b.drainOnce(ctx, d, plain)
			if err != nil {
				return err
			}
			b.logf("  run %d, %s, %s: %.0f a second, CPU %.3f s a 1,000", run+1, d.label, []string{"asynq", "wxcourier"}[i], rate, spent.workerCPU)
			rates[i], costs[i] = append(rates[i], rate), append(costs[i], spent)
		}
	}
	plainCost, ownCost := medianCost(costs[0]), medianCost(costs[1])
	cpu := report.Number(ownCost.workerCPU/plainCost.workerCPU, 2, "")
	if d.wantCPU > 0 {
		cpu = cpu.AtMost(d.wantCPU)
	}
	t.Add(d.label, report.Number(report.Median(rates[0]), 0, ""), report.Number(report.Median(rates[1]), 0, ""),
		report.Number(report.Median(rates[1])/report.Median(rates[0]), 2, "").AtLeast(d.wantRate),
		report.Number(plainCost.workerCPU, 3, " s"), report.Number(ownCost.workerCPU, 3, " s"), cpu,
		report.Number(plainCost.redisCPU, 3, " s"), report.Number(ownCost.redisCPU, 3, " s"), report.Number(plainCost.commands, 1, ""), report.Number(ownCost.commands, 1, ""))
	return nil
}

// drainOnce drains a backlog once. It returns tasks per second and their cost.
func (b *bench) drainOnce(ctx context.Context, d drainCase, plain bool) (float64, cost, error) {
	l, err := b.newLab(ctx, labConfig{
		apps: 1, latency: d.latency, redisDelay: d.redisDelay,
		limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: d.slots}},
	})
	if err != nil {
		return 0, cost{}, err
	}
	defer l.close()
	o := order{app: appID(0), typ: tasks.TypeSubscribe}
	newSender := l.clientSender
	if plain {
		newSender = l.asynqSender
	}
	send := newSender(o)
	if err := repeat(d.tasks, func() error { _, err := send(ctx); return err }); err != nil {
		return 0, cost{}, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return 0, cost{}, err
	}
	if plain {
		err = l.startWorker(b.self, modePlain, "-redis", l.workerRedis, "-base", l.wechat, "-limit", "0",
			"-concurrency", fmt.Sprint(d.slots), "-queues", tasks.QueueName(o.app, o.typ, tasks.Urgent))
	} else {
		err = l.startWorkers(1)
	}
	if err != nil {
		return 0, cost{}, err
	}
	return l.waitUntilDrained(ctx, before, d.tasks)
}

// waitUntilDrained waits until n tasks are delivered and settled. It returns tasks per second and
// their cost.
func (l *lab) waitUntilDrained(ctx context.Context, before usage, n int) (float64, cost, error) {
	if err := l.waitForCalls(n, timeLimit(n, 200)); err != nil {
		return 0, cost{}, err
	}
	all, err := l.arrivals()
	if err != nil {
		return 0, cost{}, err
	}
	if err := l.waitUntilSettled(ctx, order{app: appID(0), typ: tasks.TypeSubscribe}, 30*time.Second); err != nil {
		return 0, cost{}, err
	}
	spent, err := l.costSince(ctx, before, len(all))
	if err != nil {
		return 0, cost{}, err
	}
	times := standin.Instants(all)
	return float64(len(all)-1) / clock.Seconds(times[len(times)-1]-times[0]), spent, nil
}

// waitUntilSettled waits until no task of a lane is active in asynq, so that the cost after the last
// call is included.
func (l *lab) waitUntilSettled(ctx context.Context, o order, within time.Duration) error {
	active := asynqwire.Key(tasks.QueueName(o.app, o.typ, tasks.Urgent), asynqwire.Active)
	return waitUntil(ctx, within, "all is settled", func() (bool, error) {
		n, err := l.rdb.LLen(ctx, active).Result()
		return n == 0, err
	})
}
