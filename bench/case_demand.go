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

// demandCase is a measurement of a lane whose limit is far above its use.
type demandCase struct {
	label string
	typ   string
	limit ratelimit.Limit
	calls int
	every time.Duration // interval between tasks; 0: all are enqueued before the worker starts
}

// maxScript is the maximum time for which a script may block Redis.
const maxScript = 5.0 // ms

func (b *bench) demand(ctx context.Context, t *report.Table) error {
	timed, drained := sizeFor(b, 1000, 100), sizeFor(b, 30_000, 3000)
	t.Title = "A limit far above the demand"
	t.About = fmt.Sprintf("One worker, `pace.margin: 0.02`, answers after 20 ms. One task each 20 ms, %s of them, or a backlog of %s. The longest script is from Redis' slow log, which includes the machine's stalls; wanted: at most %.0f ms. The first row, without a limit, shows the cost of a send without the pace.", summary.Number(timed), summary.Number(drained), maxScript)
	t.Head = append([]string{"case", "calls a second", "longest script", "longest stall"}, costHead()...)
	for _, n := range []demandCase{
		{"50 a second, no limit", tasks.TypeSubscribe, ratelimit.Limit{}, timed, 20 * time.Millisecond},
		{"50 a second of 1,000", tasks.TypeScheme, ratelimit.Limit{PerSecond: 1000}, timed, 20 * time.Millisecond},
		{"50 a second of 100,000", tasks.TypeScheme, ratelimit.Limit{PerSecond: 100_000}, timed, 20 * time.Millisecond},
		{"a backlog, no limit", tasks.TypeSubscribe, ratelimit.Limit{}, drained, 0},
		{"a backlog of 100,000 a second", tasks.TypeScheme, ratelimit.Limit{PerSecond: 100_000}, drained, 0},
		{"a backlog of 1,000,000 a minute", tasks.TypeTextCheck, ratelimit.Limit{PerMinute: 1_000_000}, drained, 0},
	} {
		if err := b.demandOnce(ctx, t, n); err != nil {
			return fmt.Errorf("%s: %w", n.label, err)
		}
	}
	return nil
}

// demandOnce measures one case and adds its row.
func (b *bench) demandOnce(ctx context.Context, t *report.Table, n demandCase) error {
	n.limit.Concurrency = 256
	l, err := b.newLab(ctx, labConfig{apps: 1, margin: lowMargin, latency: standInLatency, limits: map[string]ratelimit.Limit{n.typ: n.limit}})
	if err != nil {
		return err
	}
	defer l.close()
	o := order{app: appID(0), typ: n.typ}
	if n.every == 0 {
		if err := l.backlog(ctx, o, n.calls); err != nil {
			return err
		}
	}
	if err := l.watchScripts(ctx); err != nil {
		return err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return err
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	if err := l.startWorkers(1); err != nil {
		return err
	}
	if n.every > 0 {
		if _, err := sendAtIntervals(ctx, n.calls, constantGap(n.every), l.clientSender(o)); err != nil {
			return err
		}
	}
	if err := l.waitForCalls(n.calls, timeLimit(n.calls, 100)); err != nil {
		return err
	}
	spent, err := l.costSince(ctx, before, n.calls)
	if err != nil {
		return err
	}
	all, err := l.arrivals()
	if err != nil {
		return err
	}
	longest, err := l.longestScript(ctx)
	if err != nil {
		return err
	}
	times := standin.Instants(all)
	t.Add(append([]any{
		n.label, report.Number(float64(len(times)-1)/clock.Seconds(times[len(times)-1]-times[0]), 0, ""),
		report.Milliseconds(longest).AtMost(maxScript), report.Milliseconds(stalls.Stop()),
	}, spent.cells()...)...)
	return nil
}

// slowlogThreshold is the minimum duration of a script in Redis' slow log, µs.
const slowlogThreshold = "200"

// watchScripts configures Redis' slow log for longestScript.
func (l *lab) watchScripts(ctx context.Context) error {
	for key, value := range map[string]string{"slowlog-log-slower-than": slowlogThreshold, "slowlog-max-len": "100000"} {
		if err := l.rdb.ConfigSet(ctx, key, value).Err(); err != nil {
			return err
		}
	}
	return l.rdb.SlowLogReset(ctx).Err()
}

// longestScript returns the duration of the longest script since watchScripts in milliseconds; 0 when
// none is in the slow log.
func (l *lab) longestScript(ctx context.Context) (ms float64, err error) {
	entries, err := l.rdb.SlowLogGet(ctx, -1).Result()
	for _, n := range entries {
		if len(n.Args) > 0 && (n.Args[0] == "evalsha" || n.Args[0] == "eval") {
			ms = max(ms, float64(n.Duration.Microseconds())/1000)
		}
	}
	return ms, err
}
