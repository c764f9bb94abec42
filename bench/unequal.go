package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// unequalLimit is a second's limit that one worker reaches on a small machine.
const unequalLimit = 500

// slowRate is what a slow worker can use at most: it has one slot, and its calls take
// standInWait.
const slowRate = float64(time.Second / standInWait)

func (b *bench) unequal(ctx context.Context, t *table) error {
	n := sized(b, 10_000, 3000)
	t.title = "Workers that are not alike"
	t.about = fmt.Sprintf("`scheme:generate`, %d a second, a backlog of %s, `pace.margin: 0.02`. A fast worker has 64 slots; a slow one has one, whose calls take 20 ms, so that it can use %.0f a second at most. Each kind calls a stand-in of its own. Wanted: at least 95 %% of the limit, no call over it, and for each slow worker at least 70 %% of what it can use.", unequalLimit, thousands(n), slowRate)
	t.head = append([]string{"case", "share of the limit", "most in a second", "calls over", "a slow worker's calls a second", "longest stall"}, costHead()...)
	for _, slow := range []int{0, 1, 3} {
		if err := b.mixed(ctx, t, n, slow); err != nil {
			return fmt.Errorf("%d slow workers: %w", slow, err)
		}
	}
	return nil
}

// mixed measures a fast worker beside slow ones.
func (b *bench) mixed(ctx context.Context, t *table, n, slow int) error {
	s := setup{apps: 1, margin: quietMargin, latency: standInWait, limits: map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: unequalLimit}}}
	l, err := b.newLab(ctx, s)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeScheme}, n); err != nil {
		return err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return err
	}
	stalls := watchStalls(ctx)
	defer stalls.end()
	slowURL, err := l.startSlow(s, slow)
	if err != nil {
		return err
	}
	if err := l.startWorkers(1); err != nil {
		return err
	}
	var fast, few []arrival
	err = until(ctx, patience(n, unequalLimit), "all calls arrive", func() (bool, error) {
		if err := l.troubled(); err != nil {
			return false, err
		}
		var errFast, errSlow error
		fast, errFast = l.arrivals()
		few, errSlow = l.arrivalsAt(slowURL)
		return len(fast)+len(few) >= n, errors.Join(errFast, errSlow)
	})
	if err != nil {
		return err
	}
	spent, err := l.costSince(ctx, before, n)
	if err != nil {
		return err
	}
	times := instants(append(fast, few...))
	peak, over := densest(times, time.Second, unequalLimit)
	each := num(0, 0, "")
	if slow > 0 {
		rate := middleShare(instants(few), 1) / float64(slow)
		each = num(rate, 1, "").atLeast(0.7 * slowRate)
	}
	t.add(append([]any{
		fmt.Sprintf("1 fast worker, %d slow", slow), percent(middleShare(times, unequalLimit)).atLeast(95), whole(peak),
		whole(over).atMost(0), each, millis(stalls.end()),
	}, spent.cells()...)...)
	return nil
}

// startSlow starts slow workers, which call another stand-in than the others, and returns
// its address.
func (l *lab) startSlow(s setup, n int) (string, error) {
	fast := l.wechat
	defer func() { l.wechat = fast }()
	if err := l.startStandIn(s); err != nil {
		return "", err
	}
	s.limits = map[string]ratelimit.Limit{tasks.TypeScheme: {PerSecond: unequalLimit, Concurrency: 1}}
	config := filepath.Join(l.dir, "slow.yaml")
	if err := os.WriteFile(config, []byte(s.yaml(l.near, l.wechat)), 0o600); err != nil {
		return "", err
	}
	for range n {
		if err := l.startWorker(l.bench.binary, "worker", "-c", config); err != nil {
			return "", err
		}
	}
	return l.wechat, nil
}
