package filerun

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// runJournal is the journal of a run, and the results that wait to be written to it. A result goes to
// the run's output after it was written to the journal.
type runJournal struct {
	*journal.Journal
	results   chan journalResult
	writer    sync.WaitGroup
	unwritten int // results that the journal could not take; used by the writer alone, until it has ended
}

// journalResult is a result. Without keep it is not written to the journal, so that the next run
// makes its image again.
type journalResult struct {
	tasks.Result
	keep bool
}

// maxJournalBatch is the maximum number of results per write.
const maxJournalBatch = 500

// openJournal opens the journal of Config.Journal.
func (r *Run) openJournal() error {
	options := r.cfg.JournalOptions
	if r.cfg.Sandbox {
		options = append(slices.Clip(options), journal.ForSandbox())
	}
	kept, err := journal.Open(r.cfg.Journal, options...)
	if err != nil {
		return err
	}
	r.closers = append(r.closers, kept.Close)
	r.journal = &runJournal{Journal: kept, results: make(chan journalResult, maxJournalBatch)}
	return nil
}

// JournalState is what a journal held when it was opened.
type JournalState struct {
	Torn     int64 // bytes of an incomplete last line, which are dropped
	Ended    int   // tasks with an outcome
	Requests int   // requests without an answer
}

// JournalState returns what the journal held, which is nothing without a journal.
func (r *Run) JournalState() JournalState {
	if r.journal == nil {
		return JournalState{}
	}
	return JournalState{Torn: r.journal.Torn(), Ended: r.journal.Ended(), Requests: r.journal.PendingRequests()}
}

// hooks returns worker hooks that write each request to the journal before it is sent. A write
// error ends the run.
func (r *Run) hooks() worker.Hooks {
	return worker.Hooks{
		OnSending: func(ctx context.Context, s worker.Sending) error {
			err := r.journal.Sending(ctx, journal.Sending(s))
			if err != nil && ctx.Err() == nil {
				r.journalError(err)
			}
			return err
		},
		OnNotSent: func(s worker.Sending) { r.journal.Returned(s.App, s.ID) },
	}
}

func (r *Run) journalError(err error) {
	r.cancel(fmt.Errorf("write the journal: %w: sending has stopped; fix the cause and repeat the command", err))
}

// checkJournal is called for each task before it is enqueued. It returns true, and writes the
// result, when the journal has its outcome. A request without an answer is restored in Redis,
// where the worker decides what to do about it.
func (r *Run) checkJournal(ctx context.Context, e tasks.Envelope) (ended bool, err error) {
	result, ended, err := r.journal.Outcome(e.App, e.ID)
	if err != nil {
		return false, err
	}
	if ended {
		r.write(result)
		if !r.cfg.Images.Has(result) {
			r.imageError(fmt.Errorf("the image of task %s is not in %s, and the journal keeps no images: give its line another id to make the code again", result.ID, r.cfg.Images))
		}
		return true, nil
	}
	s, pending := r.journal.PendingRequest(e.App, e.ID)
	if !pending {
		return false, nil
	}
	return false, ledger.New(r.parts.Redis, ledger.Policy{}).Restore(ctx, ledger.Ref{App: e.App, ID: e.ID}, ledger.PendingRequest{
		Queue: tasks.QueueName(s.App, s.Type, e.Priority), State: string(tasks.StateWaiting),
		Attempts: s.Attempt, First: s.First, Since: s.Since,
	})
}

// restoreDay adds today's calls in the journal to the use of the daily limits. WeChat's own count
// replaces it where that is higher.
func (r *Run) restoreDay(ctx context.Context) {
	for _, c := range r.journal.CallsToday() {
		if err := r.parts.Limiter.Learn(ctx, c.App, c.Type, ratelimit.Learned{UsedToday: c.N}); err != nil {
			r.cfg.Log.Warn("the calls of earlier runs could not be counted", "app", c.App, "type", c.Type, "err", err)
		}
	}
}

// start starts the writer, which writes results in batches until finish is called.
func (k *runJournal) start(r *Run) {
	k.writer.Go(func() {
		for first := range k.results {
			batch := []journalResult{first}
			for more := true; more && len(batch) < maxJournalBatch; {
				select {
				case next, ok := <-k.results:
					if more = ok; ok {
						batch = append(batch, next)
					}
				default:
					more = false
				}
			}
			k.write(r, batch)
		}
	})
}

// write writes results to the journal and then to the run's output. It does the latter also when the
// former failed: then the output is the only place that has them.
func (k *runJournal) write(r *Run, batch []journalResult) {
	keep := make([]tasks.Result, 0, len(batch))
	for _, one := range batch {
		if one.keep {
			keep = append(keep, one.Result)
		}
	}
	if err := k.Results(keep); err != nil {
		k.unwritten += len(keep)
		r.journalError(err)
	}
	for _, one := range batch {
		r.write(one.Result)
	}
}

// finish waits until all results are written.
func (k *runJournal) finish() {
	close(k.results)
	k.writer.Wait()
}
