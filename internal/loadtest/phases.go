package loadtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	submitBatch  = 1000                  // tasks per SubmitMany
	streamSlack  = 1000                  // results that the stream keeps in addition to those of the run
	resultPoll   = 50 * time.Millisecond // interval of counting the results
	stallTimeout = time.Minute           // maximum time without a result
	producers    = 64                    // concurrent producers of end to end
)

// enqueue fills the queue while no worker runs.
func (r *run) enqueue(ctx context.Context) error {
	before, err := readRedisStats(ctx, r.rdb)
	if err != nil {
		return err
	}
	cpu, known := ownCPU()
	began := time.Now()
	for done := 0; done < r.options.Tasks; {
		size := min(submitBatch, r.options.Tasks-done)
		envelopes := make([]tasks.Envelope, size)
		for i := range envelopes {
			envelopes[i] = r.envelope("bench", done+i)
		}
		for _, answer := range r.client.SubmitMany(ctx, envelopes) {
			if answer.Err != nil {
				return fmt.Errorf("enqueue: %w", answer.Err)
			}
		}
		done += size
		r.options.Progress(fmt.Sprintf("enqueue: %s of %s tasks", summary.Number(done), summary.Number(r.options.Tasks)))
	}
	p := &r.report.Enqueue
	p.span(r.options.Tasks, time.Since(began))
	if used, ok := ownCPU(); known && ok {
		p.ProducerCPU = per100k(used-cpu, p.Tasks)
	}
	return p.redis(ctx, r.rdb, before, p.Tasks)
}

// drain starts the workers and waits for the last outcome.
func (r *run) drain(ctx context.Context) error {
	before, err := readRedisStats(ctx, r.rdb)
	if err != nil {
		return err
	}
	if err := r.startWorkers(ctx, r.options.Tasks+streamSlack); err != nil {
		return err
	}
	if err := r.waitForResults(ctx, "drain", 0, r.options.Tasks); err != nil {
		return err
	}
	p := &r.report.Drain
	if err := p.redis(ctx, r.rdb, before, r.options.Tasks); err != nil {
		return err
	}
	p.workers(r.stopWorkers(), r.options.Tasks)
	results, err := r.readResults(ctx, "")
	if err != nil {
		return err
	}
	p.Outcomes = results.outcomes
	p.span(results.count(), results.last.Sub(results.first))
	if p.Tasks > 1 { // the time starts at the first outcome, which therefore does not count
		p.Rate *= Figure(p.Tasks-1) / Figure(p.Tasks)
	}
	if r.options.Limit > 0 {
		p.LimitUsed = p.Rate / Figure(r.options.Limit)
	}
	return nil
}

// steadyRate returns a rate that the workers sustain: half of the drain rate, or nine tenths of the
// limit if the limit bounded the drain.
func (r *run) steadyRate() float64 {
	if !r.report.Drain.Rate.known() { // of a single task
		return 1
	}
	drained := float64(r.report.Drain.Rate)
	if limit := float64(r.options.Limit); limit > 0 && drained > 0.8*limit {
		return 0.9 * limit
	}
	return max(drained/2, 1)
}

// endToEnd offers tasks at a steady rate to workers that are warmed up, and measures the latency of
// each.
func (r *run) endToEnd(ctx context.Context) error {
	rate := r.steadyRate()
	count := max(int(rate*r.options.Steady.Seconds()), 1)
	if err := r.startWorkers(ctx, r.options.Tasks+count+2*streamSlack); err != nil {
		return err
	}
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	from, err := r.inspector.End(ctx, r.app)
	if err != nil {
		return err
	}
	before, err := readRedisStats(ctx, r.rdb)
	if err != nil {
		return err
	}
	cpu, known := ownCPU()
	initial, err := r.resultCount(ctx)
	if err != nil {
		return err
	}
	produced, err := r.produce(ctx, rate, count)
	if err != nil {
		return err
	}
	used, ok := ownCPU()
	if err := r.waitForResults(ctx, "end to end", initial, count); err != nil {
		return err
	}
	p := &r.report.EndToEnd
	if err := p.redis(ctx, r.rdb, before, count); err != nil {
		return err
	}
	p.workers(r.stopWorkers(), count)
	results, err := r.readResults(ctx, from)
	if err != nil {
		return err
	}
	p.Outcomes, p.Offered = results.outcomes, Figure(rate)
	p.span(results.count(), produced)
	p.P50, p.P99, p.Slowest = results.quantile(0.50), results.quantile(0.99), results.quantile(1)
	if known && ok {
		p.ProducerCPU = per100k(used-cpu, count)
	}
	return nil
}

// warmUp sends some tasks before the measurement, so that each replica has its token, lane and
// connections.
func (r *run) warmUp(ctx context.Context) error {
	r.options.Progress("end to end: the workers start")
	ctx, cancel := context.WithTimeout(ctx, childStartTimeout)
	defer cancel()
	for i := range 10 * r.options.Replicas {
		e := r.envelope("warm", i)
		if _, err := r.client.Submit(ctx, e); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		if _, err := r.client.Wait(ctx, r.app, e.ID); err != nil {
			return errors.Join(r.checkChildren(), fmt.Errorf("the first tasks have no outcome: %w", err))
		}
	}
	return nil
}

// produce enqueues count tasks at a fixed rate, independent of how long earlier ones take, and
// returns the duration.
func (r *run) produce(ctx context.Context, rate float64, count int) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(producers, count) {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if !sleepUntil(ctx, due) {
					return
				}
				if _, err := r.client.Submit(ctx, r.envelope("steady", i)); err != nil {
					cancel(fmt.Errorf("enqueue: %w", err))
					return
				}
				if i%100 == 0 {
					r.options.Progress(fmt.Sprintf("end to end: %s of %s tasks", summary.Number(i), summary.Number(count)))
				}
			}
		})
	}
	all.Wait()
	return time.Since(began), context.Cause(ctx)
}

func sleepUntil(ctx context.Context, due time.Time) bool {
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// resultCount returns the number of results in the stream.
func (r *run) resultCount(ctx context.Context) (int, error) {
	n, err := r.rdb.XLen(ctx, ledger.StreamKey(r.app)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the results: %w", err)
	}
	return int(n), nil
}

// waitForResults waits until there are count results more than initial.
func (r *run) waitForResults(ctx context.Context, phase string, initial, count int) error {
	progressed, last := time.Now(), 0
	for {
		n, err := r.resultCount(ctx)
		if err != nil {
			return err
		}
		n -= initial
		r.options.Progress(fmt.Sprintf("%s: %s of %s tasks", phase, summary.Number(n), summary.Number(count)))
		switch {
		case n >= count:
			return nil
		case n > last:
			progressed, last = time.Now(), n
		case time.Since(progressed) > stallTimeout:
			return fmt.Errorf("%s: no outcome for %v, with %s of %s; output of the workers:\n%s", phase, stallTimeout, summary.Number(n), summary.Number(count), r.workerOutput())
		}
		if err := r.checkChildren(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(resultPoll):
		}
	}
}

func (r *run) workerOutput() string {
	for _, p := range r.workers {
		if text := p.output.String(); text != "" {
			return text
		}
	}
	return "none"
}
