package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// Options has the client and the callbacks of a run. The callbacks are called one at a time,
// except AdmitTask and AlreadyEnded.
type Options struct {
	Client *tasks.Client
	// Admit is called once for each app, before its first task is enqueued. If it returns
	// an error, all lines of the app are bad lines with that error.
	Admit func(ctx context.Context, app string) error
	// AdmitTask, if set, is called for each task of such an app before it is enqueued. If it returns an
	// error, the line is a bad line with that error. It may be called at the same time as the other
	// callbacks.
	AdmitTask func(ctx context.Context, e tasks.Envelope) error
	// AlreadyEnded, if set, is called for each task before it is enqueued. If it returns
	// true, the task has ended before and is not enqueued; AlreadyEnded has reported its
	// outcome. It may be called at the same time as the other callbacks. Its error ends the
	// run.
	AlreadyEnded func(ctx context.Context, e tasks.Envelope) (bool, error)
	// Known reports which of an app's ids have a record or a mark. It is called, once a chunk,
	// for the ids that an earlier version derived from lines without an id: a line that is
	// known by such an id keeps it, so that nothing is sent twice after an update.
	Known func(ctx context.Context, app string, ids []string) ([]bool, error)
	// OnBadLine is called for each line that is not a valid task.
	OnBadLine func(line int, err error)
	// OnEnqueued is called for each task that was enqueued, now or before.
	OnEnqueued func(line int, r tasks.Receipt)
	// OnDuplicate is called for each line whose task is also on an earlier line.
	OnDuplicate func(line int, e tasks.Envelope)
	// OnAnswers, if set, is called with one answer for each line that is not blank, in the
	// order of the lines, as soon as they are known. The source must yield repeated ids, see
	// [taskfile.Source.Unbounded]; Redis then says what became of them.
	OnAnswers func([]Answer)
	// OnBroken, if set, is called when Redis has not answered and the run is to end. It should
	// end a read of the stream that blocks.
	OnBroken func()
}

// Counts counts the lines of a stream by what was done with them.
type Counts struct {
	Lines      int // read, without blank lines
	Bad        int // not a valid task
	Duplicates int // the task is also on an earlier line
	Enqueued   int // enqueued by this run
	Already    int // enqueued before
	Differing  int // of Already: enqueued with another body
	Ended      int // for which Options.AlreadyEnded returned true
}

// ErrBroken means that the stream was not enqueued completely, for a reason other than the
// end of ctx.
var ErrBroken = errors.New("the rest was not enqueued")

// Enqueue enqueues the tasks of a stream until the stream or ctx ends. A bad line is reported
// and skipped. The error wraps ErrBroken: reading failed, or Redis did not answer.
func Enqueue(ctx context.Context, source *taskfile.Source, o Options) (Counts, error) {
	e := enqueuer{Options: o, maxChunk: chunkTasks}
	err := e.run(ctx, source)
	return e.counts, err
}

// enqueuer is one run of Enqueue. One goroutine reads and parses lines, one groups the tasks
// into chunks, and several submit the chunks.
type enqueuer struct {
	Options
	// beforeSubmit and afterSubmit, if set, are called around each task's submission, from
	// several goroutines. beforeSubmit may block; it returns false if ctx ended.
	beforeSubmit func(ctx context.Context, e tasks.Envelope) bool
	afterSubmit  func(e tasks.Envelope, r tasks.Receipt, err error)
	// maxChunk is the maximum number of tasks in a chunk. beforeSubmit must be able to admit
	// the chunks of all submitters at once, since each waits until all its tasks are
	// admitted.
	maxChunk int

	admitted map[string]error // by app; used by the reading goroutine only
	answers  *answerQueue     // nil without Options.OnAnswers
	inFlight *inFlight        // likewise

	mu     sync.Mutex // guards the fields below and calls of the callbacks in Options
	counts Counts
	failed error
}

func (e *enqueuer) run(ctx context.Context, source *taskfile.Source) error {
	e.admitted = make(map[string]error)
	if e.OnAnswers != nil {
		e.answers, e.inFlight = newAnswerQueue(e.OnAnswers), newInFlight()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events, chunks := make(chan event), make(chan []task)
	source.BeforeRead = func() { events <- event{reading: true} }
	var all sync.WaitGroup
	all.Go(func() {
		defer close(chunks)
		e.makeChunks(events, chunks)
	})
	for range submitters {
		all.Go(func() {
			for chunk := range chunks {
				if err := e.submit(ctx, chunk); err != nil {
					e.fail(err)
					stop()
					if e.OnBroken != nil {
						e.OnBroken()
					}
				}
			}
		})
	}
	if err := e.read(ctx, source, events); err != nil {
		e.fail(err)
	}
	close(events)
	all.Wait()
	return e.failed
}

// fail records the error that ends the run, if it is the first.
func (e *enqueuer) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil {
		e.failed = fmt.Errorf("%w: %w", ErrBroken, err)
	}
}

// read sends the tasks of the stream to events until the stream or ctx ends.
func (e *enqueuer) read(ctx context.Context, source *taskfile.Source, events chan<- event) error {
	for item, err := range source.Items() {
		if ctx.Err() != nil {
			if err == nil && e.answers != nil { // the line was read, so it has an answer
				e.answerUnsent([]task{{Item: item, seq: e.answers.reserve()}}, nil)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if item.Err == nil {
			item.Err = e.admit(ctx, item.Envelope.App)
		}
		if item.Err == nil && e.AdmitTask != nil {
			item.Err = e.AdmitTask(ctx, item.Envelope)
		}
		e.update(func(c *Counts) { c.Lines++ })
		switch next := (task{Item: item, seq: e.answers.reserve()}); {
		case item.Err != nil:
			e.reportBad(item.Line, item.Err)
			e.answers.add(next.answered(tasks.Receipt{}, item.Err))
		case item.Duplicate:
			e.update(func(c *Counts) {
				c.Duplicates++
				e.OnDuplicate(item.Line, item.Envelope)
			})
		default:
			if err := e.forward(ctx, next, events); err != nil {
				return fmt.Errorf("line %d: %w", item.Line, err)
			}
		}
	}
	return nil
}

// forward sends a task to events, unless it has ended before.
func (e *enqueuer) forward(ctx context.Context, next task, events chan<- event) error {
	ended, err := e.alreadyEnded(ctx, next.Item)
	if err != nil {
		return err
	}
	if ended {
		e.update(func(c *Counts) { c.Ended++ })
		return nil
	}
	select {
	case events <- event{task: next}:
	case <-ctx.Done():
		e.answerUnsent([]task{next}, nil)
	}
	return nil
}

// alreadyEnded calls Options.AlreadyEnded for a task, also under the id that an earlier version
// derived from its line.
func (e *enqueuer) alreadyEnded(ctx context.Context, item taskfile.Item) (bool, error) {
	if e.AlreadyEnded == nil {
		return false, nil
	}
	ended, err := e.AlreadyEnded(ctx, item.Envelope)
	if err == nil && !ended && item.EarlierID != "" {
		earlier := item.Envelope
		earlier.ID = item.EarlierID
		return e.AlreadyEnded(ctx, earlier)
	}
	return ended, err
}

// admit returns the result of Options.Admit, which it calls once per app.
func (e *enqueuer) admit(ctx context.Context, app string) error {
	err, known := e.admitted[app]
	if known || !tasks.ValidApp(app) { // the checks of the task report an invalid app id
		return err
	}
	err = e.Admit(ctx, app)
	e.admitted[app] = err
	return err
}

// update changes the counts and may call callbacks; only one update runs at a time.
func (e *enqueuer) update(apply func(*Counts)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	apply(&e.counts)
}

func (e *enqueuer) reportBad(line int, err error) {
	e.update(func(c *Counts) {
		c.Bad++
		e.OnBadLine(line, err)
	})
}
