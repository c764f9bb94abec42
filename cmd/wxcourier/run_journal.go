package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/wxcourier/wxcourier/internal/journal"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// record is the journal of a run, and the results on their way into it: they are printed
// once they are there.
type record struct {
	*journal.Journal
	results chan recorded
	writer  sync.WaitGroup
	missing int // results that were printed and are not in the journal; of the writer
}

// recorded is a result. One without keep is not written into the journal, so that the
// next run makes its image again.
type recorded struct {
	tasks.Result
	keep bool
}

// mostRecorded is how many results share a write at most.
const mostRecorded = 500

// remember opens the journal.
func (j *fileRun) remember() (forget func(), err error) {
	options := j.program.journal
	if j.command.Sandbox {
		options = append(slices.Clip(options), journal.ForRehearsal())
	}
	kept, err := journal.Open(j.command.Journal, options...)
	var foreign *journal.ForeignError
	if errors.As(err, &foreign) {
		return nil, misuse("--journal: %v", err)
	}
	if err != nil {
		return nil, err
	}
	if j.printsInto(j.command.Journal) {
		_ = kept.Close()
		return nil, misuse("--journal: standard output goes into %s, too; a journal is a file of its own", j.command.Journal)
	}
	j.record = &record{Journal: kept, results: make(chan recorded, mostRecorded)}
	if n := kept.Torn(); n > 0 {
		j.program.say("%s: warning: its last line was broken off while it was written; these %d bytes are dropped, and nothing that was sent is forgotten by it", j.command.Journal, n)
	}
	if n, m := kept.Ended(), kept.PendingRequests(); !j.command.Quiet && n+m > 0 {
		j.program.say("%s: %s with an outcome, %s without an answer", j.command.Journal, plural(n, "task"), plural(m, "request"))
	}
	return func() {
		if err := kept.Close(); err != nil {
			j.program.say("%v", err)
		}
	}, nil
}

// printsInto tells whether standard output is a file.
func (j *fileRun) printsInto(path string) bool {
	stdout, ok := j.program.stdout.(*os.File)
	if !ok {
		return false
	}
	a, errA := stdout.Stat()
	b, errB := os.Stat(path)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// hooks write down what is about to be sent. A journal that cannot be written ends the run.
func (j *fileRun) hooks() worker.Hooks {
	return worker.Hooks{
		OnSending: func(ctx context.Context, s worker.Sending) error {
			err := j.record.Sending(ctx, journal.Sending(s))
			if err != nil && ctx.Err() == nil {
				j.journalTrouble(err)
			}
			return err
		},
		OnReturned: func(s worker.Sending) { j.record.Returned(s.App, s.ID) },
	}
}

func (j *fileRun) journalTrouble(err error) {
	j.cancel(fmt.Errorf("write the journal: %w: nothing more is sent; mend that, and give the same command again", err))
}

// recall is asked about each task before it is enqueued. An outcome that the journal has
// is printed; a request without an answer is put into Redis, where the worker judges it.
func (j *fileRun) recall(ctx context.Context, e tasks.Envelope) (ended bool, err error) {
	r, ended, err := j.record.Outcome(e.App, e.ID)
	if err != nil {
		return false, err
	}
	if ended {
		j.print(r)
		if !j.images.has(r) {
			j.imageTrouble(fmt.Errorf("the image of task %s is not kept in the journal, and not in %s: give its line another id to have the code made again", r.ID, j.images))
		}
		return true, nil
	}
	s, stands := j.record.PendingRequest(e.App, e.ID)
	if !stands {
		return false, nil
	}
	return false, ledger.New(j.parts.rdb, ledger.Policy{}).Restore(ctx, ledger.Ref{App: e.App, ID: e.ID}, ledger.Unanswered{
		Queue: tasks.QueueName(s.App, s.Type, e.Priority), State: string(tasks.StateWaiting),
		Attempts: s.Attempt, First: s.First, Since: s.Since,
	})
}

// restoreDay counts the calls of today into the day's limits. WeChat's own count replaces
// it where that is higher.
func (j *fileRun) restoreDay(ctx context.Context) {
	for _, c := range j.record.CallsToday() {
		if err := j.parts.limiter.Learn(ctx, c.App, c.Type, ratelimit.Learned{UsedToday: c.N}); err != nil {
			j.parts.log.Warn("the calls of earlier runs are not counted", "app", c.App, "type", c.Type, "err", err)
		}
	}
}

// start writes the results until finish, those that have come together at once.
func (k *record) start(j *fileRun) {
	k.writer.Go(func() {
		for first := range k.results {
			batch := []recorded{first}
			for more := true; more && len(batch) < mostRecorded; {
				select {
				case r, ok := <-k.results:
					if more = ok; ok {
						batch = append(batch, r)
					}
				default:
					more = false
				}
			}
			k.write(j, batch)
		}
	})
}

// write writes results down and prints them: also when the journal is full, since that
// leaves standard output as the only place that has them.
func (k *record) write(j *fileRun, batch []recorded) {
	keep := make([]tasks.Result, 0, len(batch))
	for _, r := range batch {
		if r.keep {
			keep = append(keep, r.Result)
		}
	}
	if err := k.Results(keep); err != nil {
		k.missing += len(keep)
		j.journalTrouble(err)
	}
	for _, r := range batch {
		j.print(r.Result)
	}
}

// finish waits until all results are written and printed.
func (k *record) finish() {
	close(k.results)
	k.writer.Wait()
}
