package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// progress keeps the person at the terminal, and whoever reads the output, up to date.
type progress struct {
	run          *fileRun
	total        int   // lines of the input, 0 when not known
	samples      []int // results at the last ticks, for the rate
	lastResult   time.Time
	explainAfter time.Duration // after which a pause is explained

	quit    chan struct{}
	running sync.WaitGroup
}

const (
	tickInterval = 200 * time.Millisecond
	rateWindow   = 3 * time.Second
	// A pause of this length is explained, and again each time that it has doubled.
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
	if err := f.out.flush(); err != nil {
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
		text = "finishing what is in hand … " + text
	}
	f.program.stderr.Status(text)
	if time.Since(p.lastResult) > p.explainAfter {
		p.explainAfter *= 2
		p.explain(ctx)
	}
}

// text is the status line. The job's lock is held.
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
		if n := t.Of(outcome); n > 0 {
			text += fmt.Sprintf(" · %s %s", summary.Number(n), outcome)
		}
	}
	return text
}

// explain says why nothing ends.
func (p *progress) explain(ctx context.Context) {
	f := p.run
	f.mu.Lock()
	apps := f.apps
	f.mu.Unlock()
	var holds []string
	for _, app := range apps {
		list, err := f.parts.limiter.Holds(ctx, app.ID)
		if err != nil {
			continue // Redis is away, which the log says
		}
		for _, h := range list {
			holds = append(holds, holdText(h))
		}
		for _, h := range hoursOf(app.ID, app.Hours, time.Now()) {
			if !h.Open {
				holds = append(holds, h.text())
			}
		}
	}
	reason := "they wait for their time, for a retry or for room in a limit"
	if len(holds) > 0 {
		reason = "held: " + strings.Join(holds, "; ")
	}
	f.program.notef("no result for %s; %s open; %s", rounded(time.Since(p.lastResult)).Round(time.Second), plural(f.ingest.Pending(), "task"), reason)
}
