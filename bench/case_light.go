package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/report"
	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// Targets of the case light.
const (
	lightStart  = 300.0 // ms, from a process' start to its first call
	lightBinary = 40.0  // MB
	lightMemory = 60.0  // MB, for a worker that delivers lightRate
	lightRate   = 2000  // tasks a second
	lightLimit  = 2041  // with lowMargin this gives lightRate
	lightSlots  = 256   // lightRate × 80 ms is 160 concurrent calls
)

func (b *bench) light(ctx context.Context, t *report.Table) error {
	starts, span, runs := sizeFor(b, 10, 2), sizeFor(b, 15*time.Second, 3*time.Second), b.runsOf(3)
	t.Title = "Start, size and memory"
	t.About = fmt.Sprintf("The binary as `make build` and the Dockerfile make it. Start to first call: one task of `send:subscribe` waits; from before the process is started to the arrival at the server, the app's token fetched on the way, answers after 20 ms; %d starts, the file in the page cache. Memory: the most that was resident (`VmHWM`), %d runs each: `send:subscribe`, limited to 2,000 a second (`per_second: %d`, `pace.margin: 0.02`), %d slots, for %.0f s, with the tasks enqueued before, or meanwhile by 20; and without a limit, instant answers, 50 slots. Wanted: at most 300 ms, 40 MB, and 60 MB at 2,000 a second. 1 MB is 1,000,000 bytes.",
		starts, runs, lightLimit, lightSlots, span.Seconds())
	t.Head = []string{"figure", "median", "worst", "tasks a second"}
	if err := b.firstCalls(ctx, t, starts); err != nil {
		return err
	}
	binary, err := os.Stat(b.binary)
	if err != nil {
		return err
	}
	t.Add("size of the binary", report.Megabytes(binary.Size()).AtMost(lightBinary), "–", "–")
	n := lightRate * int(span.Seconds())
	for _, d := range []memoryCase{
		{label: "memory, 2,000 a second, answers after 20 ms", tasks: n, latency: 20 * time.Millisecond, limited: true},
		{label: "memory, 2,000 a second, answers after 80 ms", tasks: n, latency: 80 * time.Millisecond, limited: true},
		{label: "memory, 2,000 a second, answers after 80 ms, enqueued meanwhile", tasks: n, latency: 80 * time.Millisecond, limited: true, meanwhile: true},
		{label: "memory, no limit", tasks: n},
	} {
		if err := b.memory(ctx, t, d, runs); err != nil {
			return fmt.Errorf("%s: %w", d.label, err)
		}
	}
	return nil
}

// firstCalls measures the starts and adds their row.
func (b *bench) firstCalls(ctx context.Context, t *report.Table, starts int) error {
	var took []float64
	for range starts {
		ms, err := b.firstCall(ctx)
		if err != nil {
			return err
		}
		b.logf("  start to first call: %.1f ms", ms)
		took = append(took, ms)
	}
	t.Add("start to first call", report.Milliseconds(report.Median(took)).AtMost(lightStart), report.Milliseconds(report.Quantile(took, 1)).AtMost(lightStart), "–")
	return nil
}

// firstCall starts a worker without a cached token, and returns the milliseconds to its first call.
func (b *bench) firstCall(ctx context.Context) (float64, error) {
	l, err := b.newLab(ctx, labConfig{apps: 1, latency: standInLatency})
	if err != nil {
		return 0, err
	}
	defer l.close()
	if err := l.backlog(ctx, order{app: appID(0), typ: tasks.TypeSubscribe}, 1); err != nil {
		return 0, err
	}
	start := clock.Monotonic()
	if err := l.startWorkers(1); err != nil {
		return 0, err
	}
	if err := l.waitForCalls(1, 30*time.Second); err != nil {
		return 0, err
	}
	all, err := l.arrivals()
	if err != nil {
		return 0, err
	}
	return 1000 * clock.Seconds(all[0].At-start), nil
}

// memoryCase is the load of a worker whose memory is measured.
type memoryCase struct {
	label     string
	tasks     int
	latency   time.Duration
	limited   bool // to lightRate
	meanwhile bool // enqueued at lightRate while the worker runs, not before
}

// memory measures a case and adds its row. With limited, the row also checks the rate: a slower
// worker would need less memory.
func (b *bench) memory(ctx context.Context, t *report.Table, d memoryCase, runs int) error {
	var peaks, rates []float64
	for run := range runs {
		peak, rate, err := b.measureMemory(ctx, d)
		if err != nil {
			return err
		}
		b.logf("  run %d, %s: %.1f MB at %.0f a second", run+1, d.label, float64(peak)/1e6, rate)
		peaks, rates = append(peaks, float64(peak)), append(rates, rate)
	}
	mid, worst, rate := report.Megabytes(int64(report.Median(peaks))), report.Megabytes(int64(report.Quantile(peaks, 1))), report.Number(report.Quantile(rates, 0), 0, "")
	if d.limited {
		mid, worst, rate = mid.AtMost(lightMemory), worst.AtMost(lightMemory), rate.AtLeast(0.99*lightRate)
	}
	t.Add(d.label, mid, worst, rate)
	return nil
}

// measureMemory runs a worker on a memoryCase. It returns its peak resident memory in bytes, and the
// tasks per second from the first to the last call.
func (b *bench) measureMemory(ctx context.Context, d memoryCase) (peak int64, rate float64, err error) {
	s := labConfig{apps: 1, latency: d.latency, limits: map[string]ratelimit.Limit{tasks.TypeSubscribe: {Concurrency: 50}}}
	if d.limited {
		s.margin, s.limits = lowMargin, map[string]ratelimit.Limit{tasks.TypeSubscribe: {PerSecond: lightLimit, Concurrency: lightSlots}}
	}
	l, err := b.newLab(ctx, s)
	if err != nil {
		return 0, 0, err
	}
	defer l.close()
	o := order{app: appID(0), typ: tasks.TypeSubscribe}
	if !d.meanwhile {
		if err := l.backlog(ctx, o, d.tasks); err != nil {
			return 0, 0, err
		}
	}
	if err := l.startWorkers(1); err != nil {
		return 0, 0, err
	}
	if d.meanwhile {
		if _, err := sendAtIntervals(ctx, d.tasks/enqueueBatch, constantGap(enqueueBatch*time.Second/lightRate), l.batchSender(o)); err != nil {
			return 0, 0, err
		}
	}
	if err := l.waitForCalls(d.tasks, timeLimit(d.tasks, 200)); err != nil {
		return 0, 0, err
	}
	if err := l.waitUntilSettled(ctx, o, 30*time.Second); err != nil {
		return 0, 0, err
	}
	all, err := l.arrivals()
	if err != nil {
		return 0, 0, err
	}
	times := standin.Instants(all)
	peak, err = l.workers[0].PeakMemory()
	return peak, float64(len(times)-1) / clock.Seconds(times[len(times)-1]-times[0]), err
}

// enqueueBatch is the number of tasks per call of batchSender. One by one, a single goroutine could not
// enqueue at lightRate next to a worker that uses a whole core.
const enqueueBatch = 20

// batchSender returns a sender that enqueues enqueueBatch tasks per call, and returns the number of
// the last one.
func (l *lab) batchSender(o order) sender {
	return func(ctx context.Context) (last int, err error) {
		some := make([]*asynq.Task, enqueueBatch)
		for i := range some {
			if some[i], last, err = l.task(o); err != nil {
				return last, err
			}
		}
		for _, answer := range l.client.EnqueueMany(ctx, some) {
			if answer.Err != nil {
				return last, answer.Err
			}
		}
		return last, nil
	}
}
