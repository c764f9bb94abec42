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

	"github.com/wxcourier/wxcourier/tasks"
)

// enqueueParallelism is how many goroutines enqueue a backlog.
const enqueueParallelism = 32

// order is what to enqueue.
type order struct {
	app  string
	typ  string
	bulk bool
}

// task makes the next task of an order. Its number is in the body, where the stand-in
// finds it.
func (l *lab) task(o order) (*asynq.Task, int, error) {
	key := int(l.keys.Add(1))
	text := fmt.Sprintf("k=%d", key)
	options := []tasks.Option{tasks.ID(fmt.Sprintf("t%d", key))}
	if o.bulk {
		options = append(options, tasks.WithPriority(tasks.Bulk))
	}
	var t *asynq.Task
	var err error
	switch o.typ {
	case tasks.TypeScheme:
		t, err = tasks.NewSchemeTask(o.app, tasks.SchemePayload{JumpWxa: &tasks.JumpTarget{Path: "pages/index/index", Query: text}}, options...)
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

// backlog enqueues n tasks as fast as it can.
func (l *lab) backlog(ctx context.Context, o order, n int) error {
	return repeatParallel(n, func() error {
		t, _, err := l.task(o)
		if err == nil {
			_, err = l.client.Enqueue(ctx, t)
		}
		return err
	})
}

// repeatParallel does something n times, by some goroutines.
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

// sample is one task whose way is timed.
type sample struct {
	key  int
	sent int64 // right before it was enqueued, by monotonic
	took int64 // that the enqueuing took
}

// sender hands one task over, and tells its number.
type sender func(ctx context.Context) (key int, err error)

// clientSender enqueues with tasks.Client, round and round the orders.
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

// asynqSender enqueues with a plain asynq client, which wakes nobody.
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

// sendAtIntervals sends n tasks, each some time after the one before whatever that took, and tells
// when each was sent.
func sendAtIntervals(ctx context.Context, n int, gap func() time.Duration, send sender) ([]sample, error) {
	samples := make([]sample, 0, n)
	due := time.Now()
	for range n {
		if err := pause(ctx, time.Until(due)); err != nil {
			return samples, err
		}
		due = due.Add(gap())
		sent := monotonic()
		key, err := send(ctx)
		if err != nil {
			return samples, err
		}
		samples = append(samples, sample{key, sent, monotonic() - sent})
	}
	return samples, nil
}

// constantGap is the same gap each time.
func constantGap(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// waitForDelays waits until all samples have arrived, a minute at most, and tells how long each
// took, in milliseconds.
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
		return nil, fmt.Errorf("%w: %d of %d did", err, len(delays), len(samples))
	}
	l.bench.logf("  the slowest of %d: %s", len(delays), slowest(samples, delays))
	return delays, nil
}

// slowest tells of the samples that took the longest: for whoever looks for the reason.
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

// match finds the first arrival of each sample.
func match(samples []sample, all []arrival) []float64 {
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
