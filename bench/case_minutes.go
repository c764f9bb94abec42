package main

import (
	"context"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/tasks"
)

// perMinute is seccheck:text's documented limit.
const perMinute = 4000

func (b *bench) minutes(ctx context.Context, t *report.Table) error {
	spans := sizeFor(b, 3, 1)
	t.Title = "A limit of 4,000 a minute"
	t.About = fmt.Sprintf("`seccheck:text`, a backlog that outlasts the run, answers after 20 ms, `pace.margin: 0.02`, real time. After the idle start the calls of a whole minute are made at once, and again when they have left the window. The share is that of the calls from the first arrival up to the first one that comes %d min or more after it. Wanted: at least 97.5 %%, and no call over the limit in any sliding minute.", spans)
	t.Head = []string{"case", "share of the limit", "most in a minute", "calls over", "measured over", "start to first call"}
	for _, workers := range sizeFor(b, []int{1, 4}, []int{4}) {
		if err := b.minutesOnce(ctx, t, workers, spans); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) minutesOnce(ctx context.Context, t *report.Table, workers, spans int) error {
	l, err := b.newLab(ctx, labConfig{apps: 1, margin: lowMargin, latency: standInLatency})
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeTextCheck}, (spans+1)*perMinute); err != nil {
		return err
	}
	start := clock.Monotonic()
	if err := l.startWorkers(workers); err != nil {
		return err
	}
	if err := l.waitForCalls(1, time.Minute); err != nil {
		return err
	}
	span := time.Duration(spans) * time.Minute
	// The next minute's permits come at most 200 ms late; allow more for a busy machine.
	if err := l.waitFor(span + 3*time.Second); err != nil {
		return err
	}
	all, err := l.arrivals()
	if err != nil {
		return err
	}
	times := standin.Instants(all)
	next := standin.InSpan(times, times[0]+int64(span), times[len(times)-1]+1)
	if len(next) == 0 {
		return fmt.Errorf("%d workers: no call came %v after the first", workers, span)
	}
	share := standin.ShareOf(times, times[0], next[0], time.Minute, perMinute)
	peak, over := standin.MaxInWindow(times, time.Minute, perMinute)
	t.Add(workersText(workers), report.Percent(share).AtLeast(100*wantShare), report.Count(peak), report.Count(over).AtMost(0),
		report.Number(clock.Seconds(next[0]-times[0]), 1, " s"), report.Number(clock.Seconds(times[0]-start), 2, " s"))
	return nil
}

// waitFor waits for span. It only checks each second that all processes still run.
func (l *lab) waitFor(span time.Duration) error {
	for end := time.Now().Add(span); time.Now().Before(end); {
		if err := clock.Pause(l.ctx, time.Second); err != nil {
			return err
		}
		if err := l.checkProcesses(); err != nil {
			return err
		}
	}
	return nil
}
