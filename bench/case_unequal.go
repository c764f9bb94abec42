package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// unequalLimit is a limit per second that one worker reaches on a small machine.
const unequalLimit = 500

// workerMix is a number of fast workers with 64 slots, and of slow workers with one.
type workerMix struct {
	fast, slow int
	backlog    int
}

func (m workerMix) label() string { return fmt.Sprintf("%d fast, %d slow", m.fast, m.slow) }

// unequalResult is the result of a workerMix.
type unequalResult struct {
	times []int64
	slow  float64 // calls per second and slow worker
	stall float64 // ms
	cost  cost
}

func (b *bench) unequal(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 10_000, 3000)
	t.Title = "Workers that are not alike"
	t.About = fmt.Sprintf("`scheme:generate`, %d a second, a backlog of %s, `pace.margin: 0.02`, answers after 20 ms. A fast worker has 64 slots, a slow one has one. Each kind calls its own stand-in. Wanted: at least 95 %% of the limit, no call over it, and for a slow worker next to fast ones at least 80 %% of its rate alone.", unequalLimit, summary.Number(n))
	t.Head = append([]string{"workers", "share of the limit", "most in a second", "calls over", "a slow worker's calls a second", "longest stall"}, costHead()...)
	alone := math.NaN()
	for _, m := range []workerMix{{slow: 1, backlog: n / 20}, {fast: 1, backlog: n}, {fast: 1, slow: 1, backlog: n}, {fast: 1, slow: 3, backlog: n}} {
		r, err := b.unequalOnce(ctx, m)
		if err != nil {
			return fmt.Errorf("%s: %w", m.label(), err)
		}
		share, each := report.Percent(standin.MiddleShare(r.times, unequalLimit)), report.Number(r.slow, 1, "")
		switch {
		case m.fast == 0:
			alone = r.slow
		case m.slow == 0:
			share = share.AtLeast(95)
		default:
			share, each = share.AtLeast(95), each.AtLeast(0.8*alone)
		}
		peak, over := standin.MaxInWindow(r.times, time.Second, unequalLimit)
		t.Add(append([]any{m.label(), share, report.Count(peak), report.Count(over).AtMost(0), each, report.Milliseconds(r.stall)}, r.cost.cells()...)...)
	}
	return nil
}

// unequalOnce measures a workerMix.
func (b *bench) unequalOnce(ctx context.Context, m workerMix) (r unequalResult, err error) {
	s := labConfig{apps: 1, margin: lowMargin, latency: standInLatency, limits: map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: unequalLimit}}}
	l, err := b.newLab(ctx, s)
	if err != nil {
		return r, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme}, m.backlog); err != nil {
		return r, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return r, err
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	slowURL, err := l.startSlow(ctx, s, m.slow)
	if err != nil {
		return r, err
	}
	if err := l.startWorkers(m.fast); err != nil {
		return r, err
	}
	var fast, slow []standin.Arrival
	err = waitUntil(ctx, timeLimit(m.backlog, 20), "all calls arrive", func() (bool, error) {
		if err := l.checkProcesses(); err != nil {
			return false, err
		}
		var errFast, errSlow error
		fast, errFast = l.arrivals()
		slow, errSlow = l.arrivalsAt(slowURL)
		return len(fast)+len(slow) >= m.backlog, errors.Join(errFast, errSlow)
	})
	if err != nil {
		return r, err
	}
	r.times, r.slow, r.stall = standin.Instants(append(fast, slow...)), math.NaN(), stalls.Stop()
	if m.slow > 0 {
		r.slow = standin.MiddleShare(standin.Instants(slow), 1) / float64(m.slow)
	}
	r.cost, err = l.costSince(ctx, before, m.backlog)
	return r, err
}

// startSlow starts n slow workers with a stand-in of their own, and returns its URL.
func (l *lab) startSlow(ctx context.Context, s labConfig, n int) (string, error) {
	fast := l.wechat
	defer func() { l.wechat = fast }()
	if err := l.startStandIn(ctx, s); err != nil {
		return "", err
	}
	s.limits = map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: unequalLimit, Concurrency: 1}}
	config := filepath.Join(l.dir, "slow.yaml")
	if err := os.WriteFile(config, []byte(s.yaml(l.workerRedis, l.wechat)), 0o600); err != nil {
		return "", err
	}
	for range n {
		if err := l.startWorker(l.bench.binary, "worker", "-c", config); err != nil {
			return "", err
		}
	}
	return l.wechat, nil
}
