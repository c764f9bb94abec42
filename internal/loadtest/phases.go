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
	submitBatch  = 1000                  // tasks of one SubmitMany
	streamSlack  = 1000                  // results that the stream keeps beyond those of the run
	resultPoll   = 50 * time.Millisecond // between two looks at the number of results
	stallTimeout = time.Minute           // without a result: something is wrong
	producers    = 64                    // enqueue at the same time, end to end
)

// enqueue fills the queue, which nobody drains yet.
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
	seen, err := r.readResults(ctx, "")
	if err != nil {
		return err
	}
	p.Outcomes = seen.outcomes
	p.span(seen.count(), seen.last.Sub(seen.first))
	if p.Tasks > 1 { // the first outcome begins the time, and so does not count
		p.Rate *= Figure(p.Tasks-1) / Figure(p.Tasks)
	}
	if r.options.Limit > 0 {
		p.LimitUsed = p.Rate / Figure(r.options.Limit)
	}
	return nil
}

// steadyRate is what the workers keep up with: half of what they drained, or nine tenths
// of a limit if that is what bounded them.
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

// endToEnd offers a steady rate to workers that are there and awake, and looks at how
// long each task took.
func (r *run) endToEnd(ctx context.Context) error {
	rate := r.steadyRate()
	count := max(int(rate*r.options.Steady.Seconds()), 1)
	if err := r.startWorkers(ctx, r.options.Tasks+count+2*streamSlack); err != nil {
		return err
	}
	if err := r.warmUp(ctx); err != nil {
		return err
	}
	from, err := r.client.End(ctx, r.app)
	if err != nil {
		return err
	}
	before, err := readRedisStats(ctx, r.rdb)
	if err != nil {
		return err
	}
	cpu, known := ownCPU()
	there, err := r.resultCount(ctx)
	if err != nil {
		return err
	}
	produced, err := r.produce(ctx, rate, count)
	if err != nil {
		return err
	}
	used, ok := ownCPU()
	if err := r.waitForResults(ctx, "end to end", there, count); err != nil {
		return err
	}
	p := &r.report.EndToEnd
	if err := p.redis(ctx, r.rdb, before, count); err != nil {
		return err
	}
	p.workers(r.stopWorkers(), count)
	seen, err := r.readResults(ctx, from)
	if err != nil {
		return err
	}
	p.Outcomes, p.Offered = seen.outcomes, Figure(rate)
	p.span(seen.count(), produced)
	p.P50, p.P99, p.Slowest = seen.quantile(0.50), seen.quantile(0.99), seen.quantile(1)
	if known && ok {
		p.ProducerCPU = per100k(used-cpu, count)
	}
	return nil
}

// warmUp has each replica's token, lane and connections made before anything counts.
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
			return errors.Join(r.checkChildren(), fmt.Errorf("no outcome of the first tasks: %w", err))
		}
	}
	return nil
}

// produce enqueues a number of tasks, each at its own time whatever the earlier ones
// took, and tells how long that lasted.
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

// resultCount is how many results there are.
func (r *run) resultCount(ctx context.Context) (int, error) {
	n, err := r.rdb.XLen(ctx, ledger.StreamKey(r.app)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the results: %w", err)
	}
	return int(n), nil
}

// waitForResults waits until there are count results more than there were.
func (r *run) waitForResults(ctx context.Context, phase string, there, count int) error {
	moved, last := time.Now(), 0
	for {
		n, err := r.resultCount(ctx)
		if err != nil {
			return err
		}
		n -= there
		r.options.Progress(fmt.Sprintf("%s: %s of %s tasks", phase, summary.Number(n), summary.Number(count)))
		switch {
		case n >= count:
			return nil
		case n > last:
			moved, last = time.Now(), n
		case time.Since(moved) > stallTimeout:
			return fmt.Errorf("%s: no outcome for %v, with %s of %s; the workers said:\n%s", phase, stallTimeout, summary.Number(n), summary.Number(count), r.workerOutput())
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
	return "nothing"
}
