package main

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
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

func (b *bench) tenants(ctx context.Context, t *table) error {
	waiting, timed := sizeFor(b, 100_000, 5000), sizeFor(b, 600, 100)
	t.title = "An app beside another one that waits"
	t.about = fmt.Sprintf("2 workers; `scheme:generate`, 100 a second for each app, default margin. App B is given one task every 50 ms, %d in all; timed from before `Client.Enqueue` to the arrival at the server. App A has nothing, %s bulk tasks that wait for its limit, or the same while it is held. Wanted: B's p99 is at most 50 ms higher than alone.", timed, thousands(waiting))
	t.head = []string{"app A", "B p50", "B p99", "B most", "p99 more than alone", "A's share of its limit", "longest stall"}
	alone := 0.0
	for _, c := range []tenantCase{
		{label: "nothing"},
		{label: thousands(waiting) + " waiting", backlog: waiting},
		{label: thousands(waiting) + " waiting, held", backlog: waiting, held: true},
	} {
		u, err := b.tenantsOnce(ctx, c, timed)
		if err != nil {
			return fmt.Errorf("%s: %w", c.label, err)
		}
		p99 := quantile(u.delays, 0.99)
		var more any = "–"
		if c.backlog == 0 {
			alone = p99
		} else {
			more = millis(p99 - alone).atMost(maxTenantDelay)
		}
		var ofA any = "–"
		if c.backlog > 0 && !c.held {
			ofA = percent(u.share)
		}
		t.add(c.label, millis(median(u.delays)), millis(p99), millis(quantile(u.delays, 1)), more, ofA, millis(u.stall))
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
	from, stalls := monotonic(), watchStalls(ctx)
	defer stalls.stop()
	samples, err := sendAtIntervals(ctx, timed, constantGap(tenantGap), l.clientSender(order{app: appID(1), typ: tasks.TypeScheme}))
	if err != nil {
		return u, err
	}
	to := monotonic()
	u.stall = stalls.stop()
	if u.delays, err = l.waitForDelays(samples); err != nil {
		return u, err
	}
	all, err := l.arrivals()
	u.share = shareOf(instants(arrivalsOf(all, appID(0))), from, to, time.Second, perSecond)
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
