package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// pipelineLimit is the limit of scheme:generate per second in the case pipeline.
const pipelineLimit = 1000

func (b *bench) pipeline(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 20_000, 3000)
	t.Title = "What a send costs"
	t.About = fmt.Sprintf("`scheme:generate` with a limit of 1,000 a second that the machine need not reach, a backlog of %s, answers after 20 ms, from the queue to the recorded outcome. Enqueuing is not included; commands inside scripts are.", summary.Number(n))
	t.Head = append([]string{"case", "calls a second", "most in a second"}, costHead()...)
	for _, workers := range sizeFor(b, []int{1, 8}, []int{8}) {
		l, err := b.newLab(ctx, labConfig{
			apps: 1, margin: lowMargin, latency: standInLatency,
			limits: map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: pipelineLimit}},
		})
		if err != nil {
			return err
		}
		err = l.pipelineOnce(ctx, t, workers, n)
		l.close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) pipelineOnce(ctx context.Context, t *report.Table, workers, n int) error {
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
	if err := l.waitForCalls(n, timeLimit(n, 100)); err != nil {
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
	times := standin.Instants(all)
	peak, _ := standin.MaxInWindow(times, time.Second, pipelineLimit)
	t.Add(append([]any{
		workersText(workers), report.Number(float64(len(all))/clock.Seconds(times[len(times)-1]-times[0]), 0, ""), report.Count(peak).AtMost(pipelineLimit),
	}, spent.cells()...)...)
	return nil
}
