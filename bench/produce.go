package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/tasks"
)

// enqueueParallelism is the number of goroutines that enqueue a backlog.
const enqueueParallelism = 32

// order is the kind of tasks to enqueue.
type order struct {
	app  string
	typ  string
	bulk bool
}

// task makes the next task of an order and returns its number, which the stand-in reads from the
// body.
func (l *lab) task(o order) (*asynq.Task, int, error) {
	key := int(l.keys.Add(1))
	text := standin.Text(key)
	options := []tasks.Option{tasks.ID(fmt.Sprintf("t%d", key))}
	if o.bulk {
		options = append(options, tasks.WithPriority(tasks.Bulk))
	}
	var t *asynq.Task
	var err error
	switch o.typ {
	case tasks.TypeScheme:
		t, err = tasks.NewSchemeTask(o.app, tasks.SchemePayload{Path: "pages/index/index", Query: text}, options...)
	case tasks.TypeTextCheck:
		t, err = tasks.NewTextCheckTask(o.app, tasks.TextCheckPayload{Content: text, Scene: 2, OpenID: "oBench"}, options...)
	case tasks.TypeSubscribe:
		t, err = tasks.NewSubscribeTask(o.app, tasks.SubscribePayload{
			ToUser: fmt.Sprintf("oBench%d", key), TemplateID: "TEMPLATE_ID_0123456789012345678901234567890", Page: "pages/index/index",
			Data: map[string]tasks.Value{"thing1": {Value: "订单已发货"}, "time2": {Value: "2026-12-01 08:00"}, "character_string3": {Value: text}},
		}, options...)
	default:
		err = fmt.Errorf("no body for %s", o.typ)
	}
	return t, key, err
}

// backlog enqueues n tasks as fast as possible.
func (l *lab) backlog(ctx context.Context, o order, n int) error {
	return repeatParallel(n, func() error {
		t, _, err := l.task(o)
		if err == nil {
			_, err = l.client.Enqueue(ctx, t)
		}
		return err
	})
}

// repeatParallel calls do n times from enqueueParallelism goroutines.
func repeatParallel(n int, do func() error) error {
	errs := make([]error, enqueueParallelism)
	var all sync.WaitGroup
	for i := range enqueueParallelism {
		all.Go(func() {
			for j := i; j < n && errs[i] == nil; j += enqueueParallelism {
				errs[i] = do()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// sample is a task whose latency is measured.
type sample struct {
	key  int
	sent int64 // monotonic time before the enqueuing
	took int64 // duration of the enqueuing, ns
}

// sender enqueues a task and returns its number.
type sender func(ctx context.Context) (key int, err error)

// clientSender returns a sender that uses tasks.Client, with the orders in turn.
func (l *lab) clientSender(orders ...order) sender {
	next := 0
	return func(ctx context.Context) (int, error) {
		t, key, err := l.task(orders[next%len(orders)])
		next++
		if err == nil {
			_, err = l.client.Enqueue(ctx, t)
		}
		return key, err
	}
}

// asynqSender returns a sender that uses a plain asynq client, which sends no wake-up.
func (l *lab) asynqSender(orders ...order) sender {
	client := asynq.NewClientFromRedisClient(l.rdb)
	next := 0
	return func(ctx context.Context) (int, error) {
		t, key, err := l.task(orders[next%len(orders)])
		next++
		if err == nil {
			_, err = client.EnqueueContext(ctx, t)
		}
		return key, err
	}
}

// sendAtIntervals sends n tasks at intervals of gap, independent of how long the enqueuing takes, and
// returns a sample of each.
func sendAtIntervals(ctx context.Context, n int, gap func() time.Duration, send sender) ([]sample, error) {
	samples := make([]sample, 0, n)
	due := time.Now()
	for range n {
		if err := clock.Pause(ctx, time.Until(due)); err != nil {
			return samples, err
		}
		due = due.Add(gap())
		sent := clock.Monotonic()
		key, err := send(ctx)
		if err != nil {
			return samples, err
		}
		samples = append(samples, sample{key, sent, clock.Monotonic() - sent})
	}
	return samples, nil
}

// constantGap returns a gap that is always d.
func constantGap(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// waitForDelays waits until all samples have arrived, for at most a minute. It returns the delay of each
// in milliseconds.
func (l *lab) waitForDelays(samples []sample) ([]float64, error) {
	var delays []float64
	err := waitUntil(l.ctx, time.Minute, "all timed tasks arrive", func() (bool, error) {
		if err := l.checkProcesses(); err != nil {
			return false, err
		}
		all, err := l.arrivals()
		delays = match(samples, all)
		return len(delays) == len(samples), err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %d of %d arrived", err, len(delays), len(samples))
	}
	l.bench.logf("  the slowest of %d: %s", len(delays), slowest(samples, delays))
	return delays, nil
}

// slowest describes the slowest samples, to help to find the cause.
func slowest(samples []sample, delays []float64) string {
	order := make([]int, len(delays))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(delays[b], delays[a]) })
	var texts []string
	for _, i := range order[:min(5, len(order))] {
		texts = append(texts, fmt.Sprintf("%.1f ms (no. %d, %.1f ms to enqueue)", delays[i], i+1, float64(samples[i].took)/1e6))
	}
	return strings.Join(texts, ", ")
}

// match returns the delay of the first arrival of each sample, in milliseconds. Samples that have not
// arrived are left out.
func match(samples []sample, all []standin.Arrival) []float64 {
	first := make(map[int]int64, len(all))
	for _, a := range all {
		if at, seen := first[a.Key]; !seen || a.At < at {
			first[a.Key] = a.At
		}
	}
	var delays []float64
	for _, s := range samples {
		if at, ok := first[s.key]; ok {
			delays = append(delays, float64(at-s.sent)/1e6)
		}
	}
	return delays
}
