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
	wantFaster = 1.3
	wantCPU    = 0.8
	wantFar    = 5.0
)

// drainage is one comparison of workers that drain a backlog without any limit.
type drainage struct {
	label   string
	tasks   int
	slots   int
	latency time.Duration
	far     time.Duration // of Redis, one way
	faster  float64       // wanted
	cpu     float64       // wanted; 0: any
}

func (b *bench) drain(ctx context.Context, t *table) error {
	n, few := sized(b, 30_000, 5000), sized(b, 6000, 1500)
	runs := b.repeats(5)
	t.title = "Drain, beside a plain asynq worker"
	t.about = fmt.Sprintf("`send:subscribe` without a limit, one worker process each: wxcourier with fence, ledger, permits and verdicts, and an asynq server with default settings whose handler decodes the payload and makes the same POST. Tasks a second from the first call to the last one at the server. Medians of %d runs, one of each in turn; the ratios are those of the medians.", runs)
	t.head = []string{
		"case", "asynq", "wxcourier", "ratio", "asynq's CPU a 1,000", "wxcourier's CPU a 1,000", "ratio",
		"Redis CPU a 1,000, asynq", "wxcourier", "Redis commands a send, asynq", "wxcourier",
	}
	for _, d := range []drainage{
		{label: "instant answers, 50 slots", tasks: n, slots: 50, faster: wantFaster, cpu: wantCPU},
		{label: "answers after 30 ms, 1,000 slots", tasks: n, slots: 1000, latency: 30 * time.Millisecond, faster: wantFaster, cpu: wantCPU},
		{label: "instant answers, 50 slots, Redis 1 ms away", tasks: few, slots: 50, far: 500 * time.Microsecond, faster: wantFar},
	} {
		if err := b.drainBoth(ctx, t, d, runs); err != nil {
			return fmt.Errorf("%s: %w", d.label, err)
		}
	}
	return nil
}

func (b *bench) drainBoth(ctx context.Context, t *table, d drainage, runs int) error {
	var rates [2][]float64
	var costs [2][]cost
	for run := range runs {
		for i, plain := range []bool{true, false} {
			rate, spent, err := b.drainOne(ctx, d, plain)
			if err != nil {
				return err
			}
			b.say("  run %d, %s, %s: %.0f a second, CPU %.3f s a 1,000", run+1, d.label, []string{"asynq", "wxcourier"}[i], rate, spent.workerCPU)
			rates[i], costs[i] = append(rates[i], rate), append(costs[i], spent)
		}
	}
	theirs, ours := medianCost(costs[0]), medianCost(costs[1])
	cpu := num(ours.workerCPU/theirs.workerCPU, 2, "")
	if d.cpu > 0 {
		cpu = cpu.atMost(d.cpu)
	}
	t.add(d.label, num(median(rates[0]), 0, ""), num(median(rates[1]), 0, ""),
		num(median(rates[1])/median(rates[0]), 2, "").atLeast(d.faster),
		num(theirs.workerCPU, 3, " s"), num(ours.workerCPU, 3, " s"), cpu,
		num(theirs.redisCPU, 3, " s"), num(ours.redisCPU, 3, " s"), num(theirs.commands, 1, ""), num(ours.commands, 1, ""))
	return nil
}

// drainOne is one run: tasks a second, and what they cost.
func (b *bench) drainOne(ctx context.Context, d drainage, plain bool) (float64, cost, error) {
	l, err := b.newLab(ctx, setup{
		apps: 1, latency: d.latency, far: d.far,
		limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: d.slots}},
	})
	if err != nil {
		return 0, cost{}, err
	}
	defer l.close()
	o := order{app: appID(0), typ: tasks.TypeSubscribe}
	send := l.ours
	if plain {
		send = l.foreign
	}
	hand := send(o)
	if err := each1(d.tasks, func() error { _, err := hand(ctx); return err }); err != nil {
		return 0, cost{}, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return 0, cost{}, err
	}
	if plain {
		err = l.startWorker(b.self, partPlain, "-redis", l.near, "-base", l.wechat, "-limit", "0",
			"-concurrency", fmt.Sprint(d.slots), "-queues", tasks.QueueName(o.app, o.typ, tasks.Urgent))
	} else {
		err = l.startWorkers(1)
	}
	if err != nil {
		return 0, cost{}, err
	}
	return l.drained(ctx, before, d.tasks)
}

// drained waits until n tasks have been delivered and settled. It returns how many there
// were a second, and what they cost.
func (l *lab) drained(ctx context.Context, before usage, n int) (float64, cost, error) {
	if err := l.arrived(n, patience(n, 200)); err != nil {
		return 0, cost{}, err
	}
	all, err := l.arrivals()
	if err != nil {
		return 0, cost{}, err
	}
	if err := l.settled(ctx, order{app: appID(0), typ: tasks.TypeSubscribe}, 30*time.Second); err != nil {
		return 0, cost{}, err
	}
	spent, err := l.costSince(ctx, before, len(all))
	if err != nil {
		return 0, cost{}, err
	}
	times := instants(all)
	return float64(len(all)-1) / seconds(times[len(times)-1]-times[0]), spent, nil
}

// settled waits until asynq has none of a lane's tasks in hand: what follows the last call
// costs as well.
func (l *lab) settled(ctx context.Context, o order, within time.Duration) error {
	active := "asynq:{" + tasks.QueueName(o.app, o.typ, tasks.Urgent) + "}:active"
	return until(ctx, within, "all is settled", func() (bool, error) {
		n, err := l.rdb.LLen(ctx, active).Result()
		return n == 0, err
	})
}
