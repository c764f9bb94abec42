package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// runJournal is the journal of a run, and the results that wait to be written to it. A result is
// printed after it was written.
type runJournal struct {
	*journal.Journal
	results   chan journalResult
	writer    sync.WaitGroup
	unwritten int // results that were printed but not written; used by the writer alone, until it has ended
}

// journalResult is a result. Without keep it is not written to the journal, so that the next run
// makes its image again.
type journalResult struct {
	tasks.Result
	keep bool
}

// maxJournalBatch is the maximum number of results per write.
const maxJournalBatch = 500

// openJournal opens the journal of --journal.
func (f *fileRun) openJournal() (closeJournal func(), err error) {
	options := f.program.journal
	if f.command.Sandbox {
		options = append(slices.Clip(options), journal.ForSandbox())
	}
	kept, err := journal.Open(f.command.Journal, options...)
	var foreign *journal.ForeignError
	if errors.As(err, &foreign) {
		return nil, usageErrorf("--journal: %v", err)
	}
	if err != nil {
		return nil, err
	}
	if f.stdoutIs(f.command.Journal) {
		_ = kept.Close()
		return nil, usageErrorf("--journal: standard output goes to %s as well; use a separate file for the journal", f.command.Journal)
	}
	f.journal = &runJournal{Journal: kept, results: make(chan journalResult, maxJournalBatch)}
	if n := kept.Torn(); n > 0 {
		f.program.notef("%s: warning: the last line is incomplete; its %d bytes are dropped, which loses no record of a sent request", f.command.Journal, n)
	}
	if n, m := kept.Ended(), kept.PendingRequests(); !f.command.Quiet && n+m > 0 {
		f.program.notef("%s: %s with an outcome, %s without an answer", f.command.Journal, describe.Count(n, "task"), describe.Count(m, "request"))
	}
	return func() {
		if err := kept.Close(); err != nil {
			f.program.notef("%v", err)
		}
	}, nil
}

// stdoutIs reports whether standard output is the file at path.
func (f *fileRun) stdoutIs(path string) bool {
	stdout, ok := f.program.stdout.(*os.File)
	if !ok {
		return false
	}
	a, errA := stdout.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// hooks returns worker hooks that write each request to the journal before it is sent. A write
// error ends the run.
func (f *fileRun) hooks() worker.Hooks {
	return worker.Hooks{
		OnSending: func(ctx context.Context, s worker.Sending) error {
			err := f.journal.Sending(ctx, journal.Sending(s))
			if err != nil && ctx.Err() == nil {
				f.journalError(err)
			}
			return err
		},
		OnNotSent: func(s worker.Sending) { f.journal.Returned(s.App, s.ID) },
	}
}

func (f *fileRun) journalError(err error) {
	f.cancel(fmt.Errorf("write the journal: %w: sending has stopped; fix the cause and repeat the command", err))
}

// checkJournal is called for each task before it is enqueued. It returns true, and prints the
// result, when the journal has its outcome. A request without an answer is restored in Redis,
// where the worker decides what to do about it.
func (f *fileRun) checkJournal(ctx context.Context, e tasks.Envelope) (ended bool, err error) {
	r, ended, err := f.journal.Outcome(e.App, e.ID)
	if err != nil {
		return false, err
	}
	if ended {
		f.print(r)
		if !f.images.Has(r) {
			f.imageError(fmt.Errorf("the image of task %s is not in %s, and the journal keeps no images: give its line another id to make the code again", r.ID, f.images))
		}
		return true, nil
	}
	s, pending := f.journal.PendingRequest(e.App, e.ID)
	if !pending {
		return false, nil
	}
	return false, ledger.New(f.parts.rdb, ledger.Policy{}).Restore(ctx, ledger.Ref{App: e.App, ID: e.ID}, ledger.Unanswered{
		Queue: tasks.QueueName(s.App, s.Type, e.Priority), State: string(tasks.StateWaiting),
		Attempts: s.Attempt, First: s.First, Since: s.Since,
	})
}

// restoreDay adds today's calls in the journal to the use of the daily limits. WeChat's own count
// replaces it where that is higher.
func (f *fileRun) restoreDay(ctx context.Context) {
	for _, c := range f.journal.CallsToday() {
		if err := f.parts.limiter.Learn(ctx, c.App, c.Type, ratelimit.Learned{UsedToday: c.N}); err != nil {
			f.parts.log.Warn("the calls of earlier runs could not be counted", "app", c.App, "type", c.Type, "err", err)
		}
	}
}

// start starts the writer, which writes results in batches until finish is called.
func (k *runJournal) start(f *fileRun) {
	k.writer.Go(func() {
		for first := range k.results {
			batch := []journalResult{first}
			for more := true; more && len(batch) < maxJournalBatch; {
				select {
				case r, ok := <-k.results:
					if more = ok; ok {
						batch = append(batch, r)
					}
				default:
					more = false
				}
			}
			k.write(f, batch)
		}
	})
}

// write writes results to the journal and prints them. It prints them also when the write failed:
// then standard output is the only place that has them.
func (k *runJournal) write(f *fileRun, batch []journalResult) {
	keep := make([]tasks.Result, 0, len(batch))
	for _, r := range batch {
		if r.keep {
			keep = append(keep, r.Result)
		}
	}
	if err := k.Results(keep); err != nil {
		k.unwritten += len(keep)
		f.journalError(err)
	}
	for _, r := range batch {
		f.print(r.Result)
	}
}

// finish waits until all results are written and printed.
func (k *runJournal) finish() {
	close(k.results)
	k.writer.Wait()
}
