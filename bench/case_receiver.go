package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets for a lane in which some tasks go to the same few people.
const (
	wantOthers   = 0.90 // of the rate of the other tasks alone
	wantReceiver = 0.80 // of the calls that a busy receiver can get one after the other
)

const (
	receiverLatency = 50 * time.Millisecond
	receiverSlots   = 64
	receiverTail    = 10 * time.Second
)

// receiverCase is a row: every n-th task goes to one of the busy receivers.
type receiverCase struct {
	label     string
	every     int // n; 0: no busy receivers
	receivers int
}

// receiverResult is the result of a receiverCase.
type receiverResult struct {
	others float64 // tasks per second to others, from the first to the last call
	busy   float64 // share of its possible calls that a busy receiver got in that time, the minimum of all
	after  float64 // the same in receiverTail after that, or until its tasks were done
	runs   float64 // handler runs per call
	stall  float64
}

func (b *bench) receiver(ctx context.Context, t *report.Table) error {
	n := sizeFor(b, 6000, 2000)
	t.Title = "Many tasks to one receiver"
	t.About = fmt.Sprintf("`send:subscribe` without a limit, one worker, %d slots, answers after %v, a backlog with %s tasks to a person each and, spread evenly among these, tasks to a few busy receivers. Messages to a receiver are sent one at a time, so it can get %.0f calls a second. *Others* are the tasks to the other people, from the first to the last call. *Busy receiver* is the share of its possible calls that it got until the others were done, and in the %.0f s after that, or until its tasks were done. Wanted: others at %.0f %% of their rate alone, less the slots that calls to busy receivers take, and busy receivers at %.0f %% of theirs.",
		receiverSlots, receiverLatency, summary.Number(n), 1/receiverLatency.Seconds(), receiverTail.Seconds(), 100*wantOthers, 100*wantReceiver)
	t.Head = []string{"busy receivers", "others a second", "of that alone", "busy receiver", "in the time after", "runs a call", "longest stall"}
	alone := 0.0
	for _, c := range []receiverCase{
		{label: "none"},
		{label: "one, every tenth task", every: 10, receivers: 1},
		{label: "one, every second task", every: 2, receivers: 1},
		{label: "ten, every second task", every: 2, receivers: 10},
	} {
		var all []receiverResult
		for range b.runsOf(1) {
			p, err := b.receiverOnce(ctx, c, n)
			if err != nil {
				return fmt.Errorf("%s: %w", c.label, err)
			}
			b.logf("  %s: others %.0f a second, busy receiver %.3f, after %.3f, %.2f runs a call, longest stall %.1f ms", c.label, p.others, p.busy, p.after, p.runs, p.stall)
			all = append(all, p)
		}
		slices.SortFunc(all, func(a, b receiverResult) int { return int(a.others - b.others) })
		p := all[(len(all)-1)/2]
		row := []any{c.label, report.Number(p.others, 0, ""), any("–"), any("–"), any("–"), report.Number(p.runs, 2, ""), report.Milliseconds(p.stall)}
		if c.every == 0 {
			alone = p.others
		} else {
			row[2], row[3], row[4] = report.Percent(p.others/alone).AtLeast(100*wantOthers*float64(receiverSlots-c.receivers)/receiverSlots), report.Percent(p.busy).AtLeast(100*wantReceiver), report.Percent(p.after).AtLeast(100*wantReceiver)
		}
		t.Add(row...)
	}
	return nil
}

// receiverOnce measures a backlog of n tasks to others plus those to busy receivers.
func (b *bench) receiverOnce(ctx context.Context, c receiverCase, n int) (p receiverResult, err error) {
	l, err := b.newLab(ctx, labConfig{apps: 1, latency: receiverLatency, limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: receiverSlots}}})
	if err != nil {
		return p, err
	}
	defer l.close()
	total := n
	if c.every > 0 {
		total = n * c.every / (c.every - 1)
	}
	// receiverOf returns the busy receiver of a task by its number; 0: another receiver.
	receiverOf := func(key int) int {
		if c.every == 0 || key%c.every != 0 {
			return 0
		}
		return 1 + key/c.every%c.receivers
	}
	if err := repeatParallel(total, func() error { return l.enqueueTo(ctx, receiverOf) }); err != nil {
		return p, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return p, err
	}
	stalls := clock.WatchStalls(ctx)
	defer stalls.Stop()
	if err := l.startWorkers(1); err != nil {
		return p, err
	}
	var all []standin.Arrival
	err = waitUntil(ctx, timeLimit(n, 40), "all tasks to others arrive", func() (bool, error) {
		if all, err = l.arrivals(); err != nil {
			return false, err
		}
		others := 0
		for _, a := range all {
			if receiverOf(a.Key) == 0 {
				others++
			}
		}
		return others >= n, l.checkProcesses()
	})
	p.stall = stalls.Stop()
	if err != nil {
		return p, err
	}
	if c.every > 0 {
		err = clock.Pause(ctx, receiverTail)
	}
	after, usageErr := l.usage(ctx)
	all, listErr := l.arrivals()
	if err := errors.Join(err, usageErr, listErr); err != nil {
		return p, err
	}
	p.runs = float64(after.since(before).calls["lrem"]) / float64(len(all))
	times := make([][]int64, 1+c.receivers)
	for _, a := range all {
		r := receiverOf(a.Key)
		times[r] = append(times[r], a.At)
	}
	return p.fill(times, (total-n)/max(1, c.receivers)), nil
}

// fill sets the rates from the arrival times: times[0] of the others, then of each busy receiver, which
// has so many tasks.
func (p receiverResult) fill(times [][]int64, tasks int) receiverResult {
	for _, one := range times {
		slices.Sort(one)
	}
	others := times[0]
	first, last := others[0], others[len(others)-1]
	p.others = float64(len(others)-1) / clock.Seconds(last-first)
	p.busy, p.after = 1, 1
	for _, one := range times[1:] {
		p.busy = min(p.busy, standin.ShareOf(one, first, last, receiverLatency, 1))
		end := last + int64(receiverTail)
		if done := one[len(one)-1] + 1; len(one) >= tasks { // all its tasks are done
			end = done
		}
		p.after = min(p.after, standin.ShareOf(one, last, end, receiverLatency, 1))
	}
	return p
}

// enqueueTo enqueues a message whose receiver depends on the task's number.
func (l *lab) enqueueTo(ctx context.Context, receiverOf func(key int) int) error {
	key := int(l.keys.Add(1))
	to := fmt.Sprintf("oBench%d", key)
	if r := receiverOf(key); r > 0 {
		to = fmt.Sprintf("oBusy%d", r)
	}
	t, err := tasks.NewSubscribeTask(appID(0), tasks.SubscribePayload{
		ToUser: to, TemplateID: "TEMPLATE_ID_0123456789012345678901234567890",
		Data: map[string]tasks.Value{"thing1": {Value: "订单已发货"}, "character_string3": {Value: fmt.Sprintf("k=%d", key)}},
	}, tasks.ID(fmt.Sprintf("t%d", key)))
	if err == nil {
		_, err = l.client.Enqueue(ctx, t)
	}
	return err
}
