package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// bad tells of a line that is no task.
func (j *fileRun) bad(line int, err error) {
	j.program.badLine(j.input.name, line, err)
}

// badLine tells each fault of a line on a line of its own.
func (p *program) badLine(name string, line int, err error) {
	var invalid *tasks.ValidationError
	if !errors.As(err, &invalid) {
		p.say("%s:%d: %v", name, line, err)
		return
	}
	for _, fault := range invalid.Fields {
		p.say("%s:%d: %s", name, line, fault)
	}
}

// enqueued tells of a type's warning once, and of another body also to who asked for quiet:
// a message is missing.
func (j *fileRun) enqueued(line int, r tasks.Receipt) {
	j.mu.Lock()
	j.others.tell(line, r)
	j.mu.Unlock()
	if r.Warning == "" || j.command.Quiet {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.warned[r.Warning] {
		j.warned[r.Warning] = true
		j.program.say("%s:%d: warning: %s", j.input.name, line, r.Warning)
	}
}

func (j *fileRun) duplicate(line int, e tasks.Envelope) {
	if !j.command.Quiet {
		j.program.say("%s:%d: already enqueued: an earlier line has the id %s", j.input.name, line, e.ID)
	}
}

func (j *fileRun) trouble(err error) {
	var lost *ingest.LostError
	if errors.As(err, &lost) {
		j.program.say("%v", err)
		return
	}
	j.parts.log.Warn("the results cannot be read at the moment", "err", err)
}

// result takes one outcome.
func (j *fileRun) result(ctx context.Context, r tasks.Result) {
	err := j.images.save(ctx, j.parts.client, r, j.record != nil)
	if j.alone() {
		j.forget(ctx, r)
	}
	if err != nil {
		j.imageTrouble(err)
	}
	if j.record != nil {
		j.record.results <- recorded{r, err == nil}
		return
	}
	j.print(r)
}

// print prints and counts one outcome.
func (j *fileRun) print(r tasks.Result) {
	if err := j.out.write(r); err != nil {
		j.cancel(fmt.Errorf("write the results: %w", err))
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.summary.Add(r)
}

func (j *fileRun) imageTrouble(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.imageFails++
	j.program.say("%v", err)
}

// forget drops a record from the embedded Redis, which only this run reads: it grows
// slow with them, and its memory is ours.
func (j *fileRun) forget(ctx context.Context, r tasks.Result) {
	_ = j.parts.rdb.Del(ctx, ledger.TaskKey(r.App, r.ID)).Err() // else it expires
}

// finish tells what became of the whole, and as what the run ends.
func (j *fileRun) finish(ctx context.Context, fed error, took time.Duration) error {
	counts, left := j.ingest.Counts(), j.ingest.Pending()
	if !j.command.Quiet {
		if err := j.summary.Write(j.program.stderr); err != nil {
			return err
		}
		ended := j.summary.Total()
		text := fmt.Sprintf("%s in %s (%.0f/s)", plural(ended, "task"), rounded(took), float64(ended-counts.Ended)/max(took.Seconds(), 0.001))
		for _, part := range []struct {
			n    int
			what string
		}{
			{counts.Bad, "skipped as bad"},
			{counts.Duplicates, "already enqueued by an earlier line"},
			{counts.Already, "already enqueued before this run"},
			{counts.Differing, "of those with another body"},
			{counts.Ended, "ended before, as the journal says"},
		} {
			if part.n > 0 {
				text += fmt.Sprintf("; %s %s", plural(part.n, "line"), part.what)
			}
		}
		j.program.say("%s", text)
	}
	var problems []string
	problem := func(n int, what, tail string) {
		if n > 0 {
			problems = append(problems, plural(n, what)+" "+tail)
		}
	}
	problem(counts.Bad, "line", "could not be sent")
	problem(j.summary.Of(tasks.OutcomeFailed), "task", "failed")
	problem(j.summary.Of(tasks.OutcomeUnknown), "task", "may or may not have reached WeChat")
	problem(j.ingest.Lost(), "task", "lost from Redis")
	problem(j.imageFails, "image", "not written")
	if j.record != nil {
		problem(j.record.missing, "result", "not in the journal: keep standard output, since the same command sends these tasks again where that is harmless, and calls the others unknown")
	}
	if j.command.Strict {
		other := j.summary.Total() - j.summary.Of(tasks.OutcomeAccepted) - j.summary.Of(tasks.OutcomeFailed) - j.summary.Of(tasks.OutcomeUnknown)
		problem(other, "task", "not accepted (--strict)")
	}
	if cause := context.Cause(ctx); cause != nil {
		if !errors.Is(cause, context.Canceled) {
			fed = errors.Join(fed, cause)
		}
		problems = append([]string{"interrupted"}, problems...)
	}
	if left > 0 {
		problems = append(problems, plural(left, "task")+" without an outcome, "+j.whereLeft())
	}
	if len(problems) > 0 {
		fed = errors.Join(fed, errors.New(strings.Join(problems, "; ")))
	}
	return errors.Join(fed, j.unclean)
}

// whereLeft says what happens to tasks that have no outcome yet.
func (j *fileRun) whereLeft() string {
	if j.record != nil {
		return "not sent, or to be tried again: the same command goes on with them"
	}
	if j.command.Sandbox {
		return "gone with the Redis inside this process"
	}
	return "still in Redis: the workers there send them, or the same command again"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return summary.Number(n) + " " + noun + "s"
}

func rounded(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second / 10)
}
