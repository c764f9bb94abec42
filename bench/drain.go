package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// What a lane must reach beside a plain asynq worker that makes the same calls, without
// fence or ledger.
const (
	wantDrainRate    = 1.3
	wantDrainCPU     = 0.8
	wantDrainRateFar = 5.0
)

// drainCase is one comparison of workers that drain a backlog without any limit.
type drainCase struct {
	label      string
	tasks      int
	slots      int
	latency    time.Duration
	redisDelay time.Duration // of Redis, one way
	wantRate   float64       // wanted
	wantCPU    float64       // wanted; 0: any
}

func (b *bench) drain(ctx context.Context, t *table) error {
	n, few := sizeFor(b, 30_000, 5000), sizeFor(b, 6000, 1500)
	runs := b.runsOf(5)
	t.title = "Drain, beside a plain asynq worker"
	t.about = fmt.Sprintf("`send:subscribe` without a limit, one worker process each: wxcourier with fence, ledger, permits and verdicts, and an asynq server with default settings whose handler decodes the payload and makes the same POST. Tasks a second from the first call to the last one at the server. Medians of %d runs, one of each in turn; the ratios are those of the medians.", runs)
	t.head = []string{
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

func (b *bench) measureDrain(ctx context.Context, t *table, d drainCase, runs int) error {
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
	theirs, ours := medianCost(costs[0]), medianCost(costs[1])
	cpu := num(ours.workerCPU/theirs.workerCPU, 2, "")
	if d.wantCPU > 0 {
		cpu = cpu.atMost(d.wantCPU)
	}
	t.add(d.label, num(median(rates[0]), 0, ""), num(median(rates[1]), 0, ""),
		num(median(rates[1])/median(rates[0]), 2, "").atLeast(d.wantRate),
		num(theirs.workerCPU, 3, " s"), num(ours.workerCPU, 3, " s"), cpu,
		num(theirs.redisCPU, 3, " s"), num(ours.redisCPU, 3, " s"), num(theirs.commands, 1, ""), num(ours.commands, 1, ""))
	return nil
}

// drainOnce is one run: tasks a second, and what they cost.
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
	send := l.clientSender
	if plain {
		send = l.asynqSender
	}
	hand := send(o)
	if err := repeat(d.tasks, func() error { _, err := hand(ctx); return err }); err != nil {
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

// waitUntilDrained waits until n tasks have been delivered and settled. It returns how many there
// were a second, and what they cost.
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
	times := instants(all)
	return float64(len(all)-1) / seconds(times[len(times)-1]-times[0]), spent, nil
}

// waitUntilSettled waits until asynq has none of a lane's tasks in hand: what follows the last call
// costs as well.
func (l *lab) waitUntilSettled(ctx context.Context, o order, within time.Duration) error {
	active := "asynq:{" + tasks.QueueName(o.app, o.typ, tasks.Urgent) + "}:active"
	return waitUntil(ctx, within, "all is settled", func() (bool, error) {
		n, err := l.rdb.LLen(ctx, active).Result()
		return n == 0, err
	})
}
