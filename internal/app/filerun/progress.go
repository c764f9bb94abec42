package filerun

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// Progress is the state of a delivery.
type Progress struct {
	Ended    int                   // tasks with an outcome
	Outcomes map[tasks.Outcome]int // of these
	Rate     float64               // tasks ended per second, over the last seconds; 0 at the start
	HasRate  bool                  // Rate was measured
	Stopping bool                  // ctx has ended: only the tasks in flight are finished
}

// Stall says why no task has ended for a while.
type Stall struct {
	For        time.Duration
	Unfinished int // tasks without an outcome
	// Held describes the holds in force and the hours that are not open. If there are none,
	// tasks wait for their process_at, for a retry or for a limit.
	Held []string
}

// progress flushes the results every tickInterval, and calls OnProgress and OnStall.
type progress struct {
	run        *Run
	samples    []int // numbers of results at the last ticks, for the rate
	lastResult time.Time
	stallAfter time.Duration // time without a result after which OnStall is called

	quit    chan struct{}
	running sync.WaitGroup
}

const (
	tickInterval = 200 * time.Millisecond
	rateWindow   = 3 * time.Second
	firstStall   = 15 * time.Second
)

func startProgress(ctx context.Context, r *Run) *progress {
	p := &progress{run: r, quit: make(chan struct{}), stallAfter: firstStall, lastResult: time.Now()}
	p.running.Go(func() {
		t := time.NewTicker(tickInterval)
		defer t.Stop()
		for {
			select {
			case <-p.quit:
				return
			case <-t.C:
				p.tick(ctx)
			}
		}
	})
	return p
}

func (p *progress) stop() {
	close(p.quit)
	p.running.Wait()
}

func (p *progress) tick(ctx context.Context) {
	r := p.run
	if err := r.out.Flush(); err != nil {
		r.cancel(fmt.Errorf("write the results: %w", err))
	}
	now := p.current()
	now.Stopping = ctx.Err() != nil
	if n := len(p.samples); n > 0 && now.Ended > p.samples[n-1] || r.ingest.Pending() == 0 {
		p.lastResult, p.stallAfter = time.Now(), firstStall
	}
	p.samples = append(p.samples, now.Ended)
	if most := int(rateWindow / tickInterval); len(p.samples) > most {
		p.samples = p.samples[len(p.samples)-most:]
	}
	if r.cfg.OnProgress != nil {
		r.cfg.OnProgress(now)
	}
	if r.cfg.OnStall != nil && time.Since(p.lastResult) > p.stallAfter {
		p.stallAfter *= 2
		r.cfg.OnStall(Stall{time.Since(p.lastResult), r.ingest.Pending(), r.held(ctx)})
	}
}

// current returns the progress; its rate is that of the last ticks.
func (p *progress) current() Progress {
	r := p.run
	r.mu.Lock()
	defer r.mu.Unlock()
	now := Progress{Ended: r.summary.Total(), Outcomes: make(map[tasks.Outcome]int)}
	for _, outcome := range tasks.Outcomes() {
		now.Outcomes[outcome] = r.summary.Count(outcome)
	}
	if n := len(p.samples); n > 1 {
		now.HasRate = true
		now.Rate = float64(now.Ended-p.samples[0]) / (time.Duration(n) * tickInterval).Seconds()
	}
	return now
}

// held describes what holds tasks of the run's apps back.
func (r *Run) held(ctx context.Context) []string {
	r.mu.Lock()
	apps := append([]worker.App(nil), r.apps...)
	r.mu.Unlock()
	var held []string
	for _, one := range apps {
		holds, err := r.parts.Holds.List(ctx, one.ID)
		if err != nil {
			continue // Redis is unreachable, which is logged elsewhere
		}
		for _, h := range holds {
			held = append(held, describe.Hold(h))
		}
		for _, h := range app.HoursOf(one.ID, one.Hours, time.Now()) {
			if !h.Open {
				held = append(held, h.String())
			}
		}
	}
	return held
}
