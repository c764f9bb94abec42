package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// thousandAtOnce is the limit of the case pipeline, and of scheme:generate in it.
const thousandAtOnce = 1000

func (b *bench) pipeline(ctx context.Context, t *table) error {
	n := sized(b, 20_000, 3000)
	t.title = "What a send costs"
	t.about = fmt.Sprintf("`scheme:generate` with a limit of 1,000 a second that this machine need not reach, a backlog of %s, answers after 20 ms, all the way from the queue to the recorded outcome. Enqueuing is not in it. Commands inside of scripts count.", thousands(n))
	t.head = append([]string{"case", "calls a second", "most in a second"}, costHead()...)
	for _, workers := range sized(b, []int{1, 8}, []int{8}) {
		l, err := b.newLab(ctx, setup{
			apps: 1, margin: quietMargin, latency: standInWait,
			limits: map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: thousandAtOnce}},
		})
		if err != nil {
			return err
		}
		err = l.costs(ctx, t, workers, n)
		l.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) costs(ctx context.Context, t *table, workers, n int) error {
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme}, n); err != nil {
		return err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return err
	}
	if err := l.startWorkers(workers); err != nil {
		return err
	}
	if err := l.arrived(n, patience(n, 100)); err != nil {
		return err
	}
	all, err := l.arrivals()
	if err != nil {
		return err
	}
	spent, err := l.costSince(ctx, before, len(all))
	if err != nil {
		return err
	}
	times := instants(all)
	peak, _ := densest(times, time.Second, thousandAtOnce)
	t.add(append([]any{
		counted(workers), num(float64(len(all))/seconds(times[len(times)-1]-times[0]), 0, ""), whole(peak).atMost(thousandAtOnce),
	}, spent.cells()...)...)
	return nil
}
