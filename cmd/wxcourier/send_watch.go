package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// send enqueues the rows, and waits until all have an outcome.
func (r *sendRun) send(c *campaign.Checked) error {
	remaining := r.summary.state.Remaining
	sent, err := r.sender.Send(r.p.ctx, c, campaign.SendOptions{
		AcceptChange: r.Changed, Retention: r.parts.Config.Results.Retention,
		OnProgress: func(s campaign.Sent) {
			r.p.stderr.Status(fmt.Sprintf("%s of %s enqueued", summary.Number(s.Enqueued), summary.Number(remaining)))
		},
	})
	r.p.stderr.Status("")
	r.summary.Sent = &sent
	if sent.Enqueued > 0 {
		r.p.audit(r.parts.Redis, audit.Entry{
			Action: audit.Campaign, App: c.Plan.App, Target: c.Plan.Batch, Count: int64(sent.Enqueued), Note: c.Plan.Type,
		})
	}
	_, _ = fmt.Fprintln(r.text, sentText(sent))
	switch {
	case errors.Is(err, campaign.ErrCanceled):
		return errors.New("the batch was canceled: the rest was not enqueued")
	case r.p.ctx.Err() != nil:
		return errors.New("interrupted; repeat the command to enqueue the rest")
	case err != nil:
		return fmt.Errorf("%w; repeat the command to continue", err)
	}
	problem := errors.Join(faultsError(c), leftOutError(sent))
	if r.NoWait {
		return problem
	}
	progress, err := r.watch(c.Plan)
	r.summary.Progress = &progress
	if err != nil {
		return errors.Join(err, problem)
	}
	_, _ = fmt.Fprintln(r.text, drainedText(progress))
	return errors.Join(outcomesError(progress), problem)
}

func sentText(s campaign.Sent) string {
	text := describe.Count(s.Enqueued, "row") + " enqueued"
	if s.Earlier > 0 {
		text += ", " + summary.Number(s.Earlier) + " by an earlier run"
	}
	return text
}

// leftOutError returns an error for valid rows that were not enqueued.
func leftOutError(s campaign.Sent) error {
	var problems []string
	if s.Unsure > 0 {
		problems = append(problems, describe.Count(s.Unsure, "row")+" left out: a run that was killed may have sent them, and their results are no longer kept")
	}
	if s.TooLate > 0 {
		problems = append(problems, describe.Count(s.TooLate, "row")+" left out: at this rate their turn comes after not_after")
	}
	if s.Taken > 0 {
		problems = append(problems, describe.Count(s.Taken, "row")+" left out: their ids belong to tasks of another type")
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New(strings.Join(problems, "; "))
}

func drainedText(p campaign.Progress) string {
	if p.Gone {
		return "All tasks of the batch ended some time ago; their results are no longer kept."
	}
	return "All " + describe.Count(int(p.Total), "task") + " ended: " + outcomesText(p)
}

func outcomesText(p campaign.Progress) string {
	var parts []string
	for _, outcome := range tasks.Outcomes() {
		if n := p.Outcomes[outcome]; n > 0 {
			parts = append(parts, summary.Number(int(n))+" "+string(outcome))
		}
	}
	return strings.Join(parts, ", ")
}

const (
	watchEvery = 500 * time.Millisecond
	stallAfter = 15 * time.Second // without an outcome; doubled after each message
)

// watch waits until every task of the batch has an outcome, and shows the progress.
func (r *sendRun) watch(plan campaign.Plan) (campaign.Progress, error) {
	defer r.p.stderr.Status("")
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	view := watchView{started: time.Now(), last: time.Now(), stall: stallAfter}
	var progress campaign.Progress
	var failing time.Time // since when Redis does not answer
	for {
		now, err := r.sender.Progress(r.p.ctx, plan)
		switch {
		case r.p.ctx.Err() != nil:
			return progress, fmt.Errorf("interrupted; %s without an outcome, which workers deliver; repeat the command to go on watching",
				describe.Count(int(progress.Total-progress.Done), "task"))
		case err == nil:
			progress, failing = now, time.Time{}
		case failing.IsZero():
			failing = time.Now()
		case time.Since(failing) > time.Minute:
			return progress, fmt.Errorf("%w; the tasks are enqueued: repeat the command to go on watching", err)
		}
		if err == nil && progress.Drained() {
			return progress, nil
		}
		r.p.stderr.Status(view.text(progress, time.Now()))
		if view.stalled(time.Now()) {
			r.p.notef("%s", r.stallText(plan, progress, time.Since(view.last)))
		}
		select {
		case <-r.p.ctx.Done():
		case <-ticks.C:
		}
	}
}

// stallText says why no task has ended for a while.
func (r *sendRun) stallText(plan campaign.Plan, progress campaign.Progress, d time.Duration) string {
	text := fmt.Sprintf("no outcome for %s; %s left", d.Round(time.Second), describe.Count(int(progress.Total-progress.Done), "task"))
	if at := plan.At; at.After(time.Now()) {
		return text + "; they are sent from " + shanghai(at) + " on"
	}
	holds, err := r.parts.Holds.List(r.p.ctx, plan.App)
	if err == nil {
		for _, h := range holds {
			if h.Stops(plan.App, plan.Type) {
				return text + "; held: " + describe.Hold(h)
			}
		}
	}
	if r.summary.situation.Replicas == 0 {
		return text + "; no worker was running when this command began (wxcourier worker)"
	}
	return text + "; waiting for a limit, for the app's hours or for a retry"
}

// watchView computes what the status line shows.
type watchView struct {
	started time.Time
	first   int64 // outcomes at the start
	done    int64
	last    time.Time // when an outcome was last seen
	stall   time.Duration
	begun   bool
}

// text returns the status line.
func (v *watchView) text(p campaign.Progress, now time.Time) string {
	if !v.begun {
		v.begun, v.first, v.done = true, p.Done, p.Done
	}
	if p.Done > v.done {
		v.done, v.last, v.stall = p.Done, now, stallAfter
	}
	text := fmt.Sprintf("%s of %s tasks", summary.Number(int(p.Done)), summary.Number(int(p.Total)))
	if seconds := now.Sub(v.started).Seconds(); seconds > 2 && p.Done > v.first {
		rate := float64(p.Done-v.first) / seconds
		left := time.Duration(min(float64(p.Total-p.Done)/rate, 1e9) * float64(time.Second))
		text += fmt.Sprintf(" · %s/s · %s left", rateText(rate), describe.Coarse(left))
	}
	if outcomes := outcomesText(p); outcomes != "" {
		text += " · " + strings.ReplaceAll(outcomes, ", ", " · ")
	}
	return text
}

// stalled reports whether to say that nothing happens: less and less often.
func (v *watchView) stalled(now time.Time) bool {
	if now.Sub(v.last) < v.stall {
		return false
	}
	v.stall *= 2
	return true
}
