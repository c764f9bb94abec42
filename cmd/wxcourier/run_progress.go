package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// progress updates the status line and flushes the results, every tickInterval.
type progress struct {
	run          *fileRun
	total        int   // lines of the input; 0: unknown
	samples      []int // numbers of results at the last ticks, for the rate
	lastResult   time.Time
	explainAfter time.Duration // time without a result after which the reason is printed

	quit    chan struct{}
	running sync.WaitGroup
}

const (
	tickInterval = 200 * time.Millisecond
	rateWindow   = 3 * time.Second
	// After this time without a result the reason is printed, and again each time it has doubled.
	firstExplanation = 15 * time.Second
)

func newProgress(f *fileRun) *progress {
	p := &progress{run: f, quit: make(chan struct{}), explainAfter: firstExplanation}
	if f.program.stderr.Terminal() && !f.command.Quiet {
		p.total = f.input.countLines()
	}
	return p
}

func (p *progress) start(ctx context.Context) {
	p.lastResult = time.Now()
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
}

func (p *progress) stop() {
	close(p.quit)
	p.running.Wait()
	p.run.program.stderr.Status("")
}

func (p *progress) tick(ctx context.Context) {
	f := p.run
	if err := f.out.Flush(); err != nil {
		f.cancel(fmt.Errorf("write the results: %w", err))
	}
	f.mu.Lock()
	ended, text := f.summary.Total(), p.text()
	f.mu.Unlock()
	if len(p.samples) > 0 && ended > p.samples[len(p.samples)-1] || f.ingest.Pending() == 0 {
		p.lastResult, p.explainAfter = time.Now(), firstExplanation
	}
	p.samples = append(p.samples, ended)
	if most := int(rateWindow / tickInterval); len(p.samples) > most {
		p.samples = p.samples[len(p.samples)-most:]
	}
	if f.command.Quiet {
		return
	}
	if ctx.Err() != nil {
		text = "finishing the tasks in flight … " + text
	}
	f.program.stderr.Status(text)
	if time.Since(p.lastResult) > p.explainAfter {
		p.explainAfter *= 2
		p.explain(ctx)
	}
}

// text returns the status line. The caller holds the run's mutex.
func (p *progress) text() string {
	t := &p.run.summary
	text := summary.Number(t.Total())
	if p.total > 0 {
		text += " of " + summary.Number(p.total)
	}
	text += " tasks"
	if n := len(p.samples); n > 1 {
		text += fmt.Sprintf(" · %.0f/s", float64(t.Total()-p.samples[0])/(time.Duration(n)*tickInterval).Seconds())
	}
	for _, outcome := range tasks.Outcomes() {
		if n := t.Count(outcome); n > 0 {
			text += fmt.Sprintf(" · %s %s", summary.Number(n), outcome)
		}
	}
	return text
}

// explain prints why no task has ended for a while.
func (p *progress) explain(ctx context.Context) {
	f := p.run
	f.mu.Lock()
	apps := f.apps
	f.mu.Unlock()
	var holds []string
	for _, app := range apps {
		list, err := f.parts.limiter.Holds(ctx, app.ID)
		if err != nil {
			continue // Redis is unreachable, which is logged elsewhere
		}
		for _, h := range list {
			holds = append(holds, describe.Hold(h))
		}
		for _, h := range hoursOf(app.ID, app.Hours, time.Now()) {
			if !h.Open {
				holds = append(holds, h.text())
			}
		}
	}
	reason := "waiting for process_at, for a retry or for a limit"
	if len(holds) > 0 {
		reason = "held: " + strings.Join(holds, "; ")
	}
	f.program.notef("no result for %s; %s unfinished; %s", describe.Rounded(time.Since(p.lastResult)).Round(time.Second), describe.Count(f.ingest.Pending(), "task"), reason)
}
