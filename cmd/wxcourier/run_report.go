package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// bad reports an invalid line.
func (f *fileRun) bad(line int, err error) {
	f.program.badLine(f.input.name, line, err)
}

// badLine prints each fault of an invalid line on a line of its own.
func (p *program) badLine(name string, line int, err error) {
	var invalid *tasks.ValidationError
	if !errors.As(err, &invalid) {
		p.notef("%s:%d: %v", name, line, err)
		return
	}
	for _, fault := range invalid.Fields {
		p.notef("%s:%d: %s", name, line, fault)
	}
}

// enqueued prints each warning once. A conflicting body is reported even with --quiet, since that
// message is not sent.
func (f *fileRun) enqueued(line int, r tasks.Receipt) {
	f.mu.Lock()
	f.conflicts.add(line, r)
	f.mu.Unlock()
	if r.Warning == "" || f.command.Quiet {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.warned[r.Warning] {
		f.warned[r.Warning] = true
		f.program.notef("%s:%d: warning: %s", f.input.name, line, r.Warning)
	}
}

func (f *fileRun) duplicate(line int, e tasks.Envelope) {
	if !f.command.Quiet {
		f.program.notef("%s:%d: already enqueued: an earlier line has the id %s", f.input.name, line, e.ID)
	}
}

func (f *fileRun) readError(err error) {
	var lost *ingest.LostError
	if errors.As(err, &lost) {
		f.program.notef("%v", err)
		return
	}
	f.parts.log.Warn("the results cannot be read at the moment", "err", err)
}

// result handles one outcome.
func (f *fileRun) result(ctx context.Context, r tasks.Result) {
	err := f.images.Save(ctx, f.parts.client, r, f.journal != nil)
	if f.usesEmbedded() {
		f.deleteRecord(ctx, r)
	}
	if err != nil {
		f.imageError(err)
	}
	if f.journal != nil {
		f.journal.results <- journalResult{r, err == nil}
		return
	}
	f.print(r)
}

// print prints and counts one outcome.
func (f *fileRun) print(r tasks.Result) {
	if err := f.out.Write(r); err != nil {
		f.cancel(fmt.Errorf("write the results: %w", err))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summary.Add(r)
}

func (f *fileRun) imageError(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.imageErrors++
	f.program.notef("%v", err)
}

// deleteRecord deletes a task's record from the embedded Redis, which only this run uses: records
// take memory and slow it down.
func (f *fileRun) deleteRecord(ctx context.Context, r tasks.Result) {
	_ = f.parts.rdb.Del(ctx, ledger.TaskKey(r.App, r.ID)).Err() // on an error it expires later
}

// finish prints the summary and returns the error of the run; err is that of ingestAll.
func (f *fileRun) finish(ctx context.Context, err error, took time.Duration) error {
	counts, left := f.ingest.Counts(), f.ingest.Pending()
	if !f.command.Quiet {
		if err := f.summary.Write(f.program.stderr); err != nil {
			return err
		}
		ended := f.summary.Total()
		text := fmt.Sprintf("%s in %s (%.0f/s)", describe.Count(ended, "task"), describe.Rounded(took), float64(ended-counts.Ended)/max(took.Seconds(), 0.001))
		for _, count := range []struct {
			n    int
			what string
		}{
			{counts.Bad, "skipped as invalid"},
			{counts.Duplicates, "already enqueued by an earlier line"},
			{counts.Already, "already enqueued before this run"},
			{counts.Differing, "of those with a different body"},
			{counts.Ended, "already ended according to the journal"},
		} {
			if count.n > 0 {
				text += fmt.Sprintf("; %s %s", describe.Count(count.n, "line"), count.what)
			}
		}
		f.program.notef("%s", text)
	}
	var problems []string
	problem := func(n int, what, tail string) {
		if n > 0 {
			problems = append(problems, describe.Count(n, what)+" "+tail)
		}
	}
	problem(counts.Bad, "line", "could not be sent")
	problem(f.summary.Count(tasks.OutcomeFailed), "task", "failed")
	problem(f.summary.Count(tasks.OutcomeUnknown), "task", "may or may not have reached WeChat")
	problem(f.ingest.Lost(), "task", "lost from Redis")
	problem(f.imageErrors, "image", "not written")
	if f.journal != nil {
		problem(f.journal.unwritten, "result", "not in the journal: keep standard output, since the same command sends these tasks again where that is harmless and reports the others as unknown")
	}
	if f.command.Strict {
		other := f.summary.Total() - f.summary.Count(tasks.OutcomeAccepted) - f.summary.Count(tasks.OutcomeFailed) - f.summary.Count(tasks.OutcomeUnknown)
		problem(other, "task", "not accepted (--strict)")
	}
	if cause := context.Cause(ctx); cause != nil {
		if !errors.Is(cause, context.Canceled) {
			err = errors.Join(err, cause)
		}
		problems = append([]string{"interrupted"}, problems...)
	}
	if left > 0 {
		problems = append(problems, describe.Count(left, "task")+" without an outcome, "+f.unfinishedText())
	}
	if len(problems) > 0 {
		err = errors.Join(err, errors.New(strings.Join(problems, "; ")))
	}
	return errors.Join(err, f.replicaErr)
}

// unfinishedText describes what happens to tasks that have no outcome yet.
func (f *fileRun) unfinishedText() string {
	if f.journal != nil {
		return "not sent, or waiting for a retry: repeat the command to continue"
	}
	if f.command.Sandbox {
		return "lost with the Redis inside this process"
	}
	return "still in Redis: workers deliver them, or repeat the command"
}
