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
	job   *fileRun
	total int   // lines of the input, 0 when not known
	past  []int // results at the last ticks, for the rate
	idle  time.Time
	quiet time.Duration // after which a pause is explained

	quit    chan struct{}
	running sync.WaitGroup
}

const (
	tick     = 200 * time.Millisecond
	rateOver = 3 * time.Second
	// A pause of this length is explained, and again each time that it has doubled.
	pauseTold = 15 * time.Second
)

func newProgress(j *fileRun) *progress {
	p := &progress{job: j, quit: make(chan struct{}), quiet: pauseTold}
	if j.program.stderr.Terminal() && !j.command.Quiet {
		p.total = j.input.countLines()
	}
	return p
}

func (p *progress) start(ctx context.Context) {
	p.idle = time.Now()
	p.running.Go(func() {
		t := time.NewTicker(tick)
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
	p.job.program.stderr.Status("")
}

func (p *progress) tick(ctx context.Context) {
	j := p.job
	if err := j.out.flush(); err != nil {
		j.cancel(fmt.Errorf("write the results: %w", err))
	}
	j.mu.Lock()
	ended, text := j.summary.Total(), p.text()
	j.mu.Unlock()
	if len(p.past) > 0 && ended > p.past[len(p.past)-1] || j.ingest.Pending() == 0 {
		p.idle, p.quiet = time.Now(), pauseTold
	}
	p.past = append(p.past, ended)
	if most := int(rateOver / tick); len(p.past) > most {
		p.past = p.past[len(p.past)-most:]
	}
	if j.command.Quiet {
		return
	}
	if ctx.Err() != nil {
		text = "finishing what is in hand … " + text
	}
	j.program.stderr.Status(text)
	if time.Since(p.idle) > p.quiet {
		p.quiet *= 2
		p.explain(ctx)
	}
}

// text is the status line. The job's lock is held.
func (p *progress) text() string {
	t := &p.job.summary
	text := summary.Number(t.Total())
	if p.total > 0 {
		text += " of " + summary.Number(p.total)
	}
	text += " tasks"
	if n := len(p.past); n > 1 {
		text += fmt.Sprintf(" · %.0f/s", float64(t.Total()-p.past[0])/(time.Duration(n)*tick).Seconds())
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
	j := p.job
	j.mu.Lock()
	apps := j.apps
	j.mu.Unlock()
	var holds []string
	for _, app := range apps {
		list, err := j.parts.limiter.Holds(ctx, app.ID)
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
	j.program.say("no result for %s; %s open; %s", rounded(time.Since(p.idle)).Round(time.Second), plural(j.ingest.Pending(), "task"), reason)
}
