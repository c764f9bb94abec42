package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// What the cases of the pace share.
const (
	perSecond      = 100 // scheme:generate's documented limit
	standInLatency = 20 * time.Millisecond
	lowMargin      = 0.02 // loopback is a quiet network
)

// paceCase is one measurement of a second's limit: so many workers drain a backlog.
type paceCase struct {
	label   string
	workers int
	backlog int
	limit   int // a second
	busy    bool
	setup   labConfig
	churn   time.Duration // how long workers come and go; 0: not at all
}

// paceResult is what came of a race.
type paceResult struct {
	share     float64 // of the limit, in the middle
	peak      int     // most arrivals in a sliding second
	over      int     // arrivals beyond the limit in the second that they ended
	firstCall float64 // seconds from the workers' start to the first arrival
	missing   int     // tasks that did not arrive while it was measured
	repeats   int     // arrivals beyond the first of each task
	stall     float64 // the longest of this program's, ms
	cost      cost
}

// wantShare is the part of a limit that must be used.
const (
	wantShare      = 0.975
	wantShareChurn = 0.90
)

func (b *bench) seconds(ctx context.Context, t *table) error {
	n := sizeFor(b, 3000, 600)
	t.title = "A limit of 100 a second"
	t.about = fmt.Sprintf("`scheme:generate`, a backlog of %s, answers after 20 ms, `pace.margin: 0.02`. Wanted: at least 97.5 %% of the limit, and no call over it in any sliding second at the server. The share is that of the calls between the first arrival plus a second and the last one minus a second.", thousands(n))
	setPaceHead(t)
	for _, busy := range []bool{false, true} {
		for _, workers := range sizeFor(b, []int{1, 2, 4, 8}, []int{1, 4}) {
			label := workersText(workers)
			if busy {
				label += ", one core busy"
			}
			r := paceCase{
				label: label, workers: workers, backlog: n, limit: perSecond, busy: busy,
				setup: labConfig{apps: 1, margin: lowMargin, latency: standInLatency},
			}
			if err := b.measurePace(ctx, t, r, wantShare); err != nil {
				return err
			}
		}
	}
	// The first calls of all wait for the app's token, and must not leave together then.
	return b.measurePace(ctx, t, paceCase{
		label: "4 workers, the token takes 200 ms", workers: 4, backlog: n, limit: perSecond,
		setup: labConfig{apps: 1, margin: lowMargin, latency: standInLatency, token: 200 * time.Millisecond},
	}, wantShare)
}

func (b *bench) churn(ctx context.Context, t *table) error {
	span := sizeFor(b, 30*time.Second, 8*time.Second)
	t.title = "Workers that come, go and are killed"
	t.about = fmt.Sprintf("100 a second, `pace.margin: 0.02`, 4 workers. Over %.0f s, every 2 s the oldest one is ended, in turn by SIGKILL and by SIGTERM, and another one starts. Wanted: at least 90 %% of the limit, and no call over it. What was in flight in a killed worker comes again a minute later, and is missing here.", span.Seconds())
	setPaceHead(t)
	return b.measurePace(ctx, t, paceCase{
		label: "4 workers, one replaced every 2 s", workers: 4, limit: perSecond, churn: span,
		backlog: perSecond * int(span.Seconds()+15),
		setup:   labConfig{apps: 1, margin: lowMargin, latency: standInLatency},
	}, wantShareChurn)
}

func (b *bench) jitter(ctx context.Context, t *table) error {
	n := sizeFor(b, 3000, 600)
	t.title = "50 ms of jitter in the network"
	t.about = fmt.Sprintf("100 a second, a backlog of %s, the default margin of 0.05. A proxy holds back all that workers and server write to each other, each time between 0 and 50 ms at random, in the same order. Wanted: no call over the limit; the most that this margin lets through is 95 %%.", thousands(n))
	setPaceHead(t)
	for _, workers := range sizeFor(b, []int{1, 4}, []int{2}) {
		r := paceCase{
			label: workersText(workers), workers: workers, backlog: n, limit: perSecond,
			setup: labConfig{apps: 1, latency: standInLatency, jitter: 50 * time.Millisecond},
		}
		if err := b.measurePace(ctx, t, r, 0); err != nil {
			return err
		}
	}
	return nil
}

func setPaceHead(t *table) {
	t.head = append([]string{"case", "share of the limit", "most in a second", "calls over", "start to first call", "missing", "repeated", "longest stall"}, costHead()...)
}

// measurePace runs a race as often as is wanted, and adds its row: the median of the shares, the
// worst of all else.
func (b *bench) measurePace(ctx context.Context, t *table, r paceCase, want float64) error {
	var worst paceResult
	var shares []float64
	var costs []cost
	for range b.runsOf(1) {
		f, err := b.paceOnce(ctx, r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.label, err)
		}
		b.logf("  %s: share %.4f, peak %d, over %d, first call after %.2f s, longest stall %.1f ms", r.label, f.share, f.peak, f.over, f.firstCall, f.stall)
		shares, costs = append(shares, f.share), append(costs, f.cost)
		worst = paceResult{
			peak: max(worst.peak, f.peak), over: worst.over + f.over, firstCall: max(worst.firstCall, f.firstCall),
			missing: worst.missing + f.missing, repeats: worst.repeats + f.repeats, stall: max(worst.stall, f.stall),
		}
	}
	t.add(append([]any{
		r.label, percent(median(shares)).atLeast(100 * want), whole(worst.peak), whole(worst.over).atMost(0),
		num(worst.firstCall, 2, " s"), whole(worst.missing), whole(worst.repeats), millis(worst.stall),
	}, medianCost(costs).cells()...)...)
	return nil
}

// paceOnce is one race.
func (b *bench) paceOnce(ctx context.Context, r paceCase) (f paceResult, err error) {
	l, err := b.newLab(ctx, r.setup)
	if err != nil {
		return f, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme}, r.backlog); err != nil {
		return f, err
	}
	if r.busy {
		if err := l.keepCoreBusy(); err != nil {
			return f, err
		}
	}
	before, err := l.usage(ctx)
	if err != nil {
		return f, err
	}
	began, stalls := monotonic(), watchStalls(ctx)
	defer stalls.stop()
	if err := l.startWorkers(r.workers); err != nil {
		return f, err
	}
	if r.churn > 0 {
		err = l.replaceWorkers(r.churn)
	} else {
		err = l.waitForCalls(r.backlog, timeLimit(r.backlog, r.limit))
	}
	if err != nil {
		return f, err
	}
	f.stall = stalls.stop()
	all, err := l.arrivals()
	if err != nil || len(all) == 0 {
		return f, errors.Join(err, fmt.Errorf("%d calls arrived", len(all)))
	}
	f.fill(r, all, began)
	f.cost, err = l.costSince(ctx, before, len(all))
	return f, err
}

// fill tells what the arrivals show of a race whose workers began at a time.
func (f *paceResult) fill(r paceCase, all []arrival, began int64) {
	times := instants(all)
	f.share, f.firstCall = middleShare(times, r.limit), seconds(times[0]-began)
	f.peak, f.over = maxInWindow(times, time.Second, r.limit)
	f.repeats = len(all) - distinct(all)
	if r.churn == 0 { // else the backlog is longer than the race
		f.missing = r.backlog - distinct(all)
	}
}

// timeLimit is how long a backlog may take: three times what it should, and a while for
// the start.
func timeLimit(backlog, perSecond int) time.Duration {
	return 30*time.Second + 3*time.Duration(backlog)*time.Second/time.Duration(perSecond)
}

// replaceEvery is how often comeAndGo changes the workers.
const replaceEvery = 2 * time.Second

// replaceWorkers replaces one worker after the other for some time.
func (l *lab) replaceWorkers(span time.Duration) error {
	if err := l.waitForCalls(1, 30*time.Second); err != nil {
		return err
	}
	end := time.Now().Add(span)
	var leaving []chan error
	for n := 0; time.Now().Before(end); n++ {
		if err := pause(l.ctx, replaceEvery); err != nil {
			return err
		}
		if p := l.takeOldestWorker(); n%2 == 0 {
			p.kill()
		} else {
			ended := make(chan error, 1)
			go func() { ended <- p.stop() }()
			leaving = append(leaving, ended)
		}
		if err := l.startWorkers(1); err != nil {
			return err
		}
		if err := l.checkProcesses(); err != nil {
			return err
		}
	}
	for _, ended := range leaving {
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
}

// workersText writes 1 worker, 2 workers.
func workersText(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

// thousands writes 3000 as 3,000.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
