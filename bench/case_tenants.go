package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// tenantCase is the state of app A while the latency of app B's tasks is measured.
type tenantCase struct {
	label   string
	backlog int  // bulk tasks of A
	held    bool // whether A is held
}

// maxTenantDelay is the maximum increase of B's p99 latency because of A, in milliseconds.
const maxTenantDelay = 50

// tenantGap is the time between two of B's tasks.
const tenantGap = 50 * time.Millisecond

func (b *bench) tenants(ctx context.Context, t *report.Table) error {
	waiting, timed := sizeFor(b, 100_000, 5000), sizeFor(b, 600, 100)
	t.Title = "An app beside another one that waits"
	t.About = fmt.Sprintf("2 workers; `scheme:generate`, 100 a second for each app, default margin. App B is given one task every 50 ms, %d in all; timed from before `Client.Enqueue` to the arrival at the server. App A has nothing, %s bulk tasks that wait for its limit, or the same while it is held. Wanted: B's p99 is at most 50 ms higher than alone.", timed, summary.Number(waiting))
	t.Head = []string{"app A", "B p50", "B p99", "B most", "p99 more than alone", "A's share of its limit", "longest stall"}
	alone := 0.0
	for _, c := range []tenantCase{
		{label: "nothing"},
		{label: summary.Number(waiting) + " waiting", backlog: waiting},
		{label: summary.Number(waiting) + " waiting, held", backlog: waiting, held: true},
	} {
		u, err := b.tenantsOnce(ctx, c, timed)
		if err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
		p99 := report.Quantile(u.delays, 0.99)
		var more any = "–"
		if c.backlog == 0 {
			alone = p99
		} else {
			more = report.Milliseconds(p99 - alone).AtMost(maxTenantDelay)
		}
		var ofA any = "–"
		if c.backlog > 0 && !c.held {
			ofA = report.Percent(u.share)
		}
		t.Add(c.label, report.Milliseconds(report.Median(u.delays)), report.Milliseconds(p99), report.Milliseconds(report.Quantile(u.delays, 1)), more, ofA, report.Milliseconds(u.stall))
	}
	return nil
}

// tenantResult is the result of a tenantCase.
type tenantResult struct {
	delays []float64 // of B's tasks, ms
	share  float64   // of A's limit that A used in that time
	stall  float64   // longest stall of this program, ms
}

// tenantsOnce measures the latency of timed tasks of B.
func (b *bench) tenantsOnce(ctx context.Context, c tenantCase, timed int) (u tenantResult, err error) {
	l, err := b.newLab(ctx, labConfig{apps: 2, latency: standInLatency})
	if err != nil {
		return u, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme, bulk: true}, c.backlog); err != nil {
		return u, err
	}
	if c.held {
		if err := setHold(ctx, l.rdb, appID(0), hold.WholeApp); err != nil {
			return u, err
		}
	}
	if err := l.startWorkers(2); err != nil {
		return u, err
	}
	if err := l.warmUp(order{app: appID(1), typ: tasks.TypeScheme}); err != nil {
		return u, err
	}
	from, stalls := clock.Monotonic(), clock.WatchStalls(ctx)
	defer stalls.Stop()
	samples, err := sendAtIntervals(ctx, timed, constantGap(tenantGap), l.clientSender(order{app: appID(1), typ: tasks.TypeScheme}))
	if err != nil {
		return u, err
	}
	to := clock.Monotonic()
	u.stall = stalls.Stop()
	if u.delays, err = l.waitForDelays(samples); err != nil {
		return u, err
	}
	all, err := l.arrivals()
	u.share = standin.ShareOf(standin.Instants(standin.OfApp(all, appID(0))), from, to, time.Second, perSecond)
	return u, err
}

// setHold holds an app or one of its types, as an operator would.
func setHold(ctx context.Context, rdb redis.UniversalClient, app, scope string) error {
	_, err := hold.NewStore(rdb).Set(ctx, hold.Hold{App: app, Scope: scope, Reason: "operator", By: "bench"})
	return err
}

// settleTime is the pause between warm-up calls and a measurement.
const settleTime = 3 * time.Second

// warmUp delivers one task of each order, so that the workers run, have each app's token and know each
// queue. Then it waits for settleTime.
func (l *lab) warmUp(orders ...order) error {
	samples, err := sendAtIntervals(l.ctx, len(orders), constantGap(time.Millisecond), l.clientSender(orders...))
	if err != nil {
		return err
	}
	if _, err := l.waitForDelays(samples); err != nil {
		return err
	}
	return l.waitFor(settleTime)
}
