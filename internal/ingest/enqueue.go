package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// Options says who takes the tasks, and who is told. The functions are called one at a
// time, but for Ended.
type Options struct {
	Client *tasks.Client
	// Admit is asked once for each app, before the first of its tasks is enqueued. Its
	// error makes all lines of the app bad ones.
	Admit func(ctx context.Context, app string) error
	// Ended, where set, is asked about each task before it is enqueued. One that it says
	// to have ended is not enqueued, and Ended has told its outcome. It is called beside
	// the other functions; its error ends the run.
	Ended func(ctx context.Context, e tasks.Envelope) (bool, error)
	// Bad is told of each line that is no task that could be sent.
	Bad func(line int, err error)
	// Enqueued is told of each task that was handed over.
	Enqueued func(line int, r tasks.Receipt)
	// Duplicate is told of each line whose task an earlier line has.
	Duplicate func(line int, e tasks.Envelope)
}

// Counts is what became of the lines of a stream.
type Counts struct {
	Lines      int // that were read, blank ones aside
	Bad        int // that are no task that could be sent
	Duplicates int // whose task an earlier line has
	Enqueued   int // handed over now
	Already    int // handed over at another time
	Differing  int // of Already, those that were handed over with another body
	Ended      int // that Options.Ended knew
}

// ErrBroken says that not all of the stream was enqueued, for another reason than that
// ctx ended.
var ErrBroken = errors.New("the rest was not enqueued")

// Enqueue hands over the tasks of a stream until it or ctx ends. A bad line is told and
// skipped. An error wraps ErrBroken: the stream broke off, or Redis is away.
func Enqueue(ctx context.Context, source *taskfile.Source, o Options) (Counts, error) {
	e := enqueuer{Options: o, maxChunk: chunkTasks}
	err := e.run(ctx, source)
	return e.counts, err
}

// enqueuer is one run of Enqueue. One goroutine reads and parses lines, one gathers them
// into chunks, and submitters hand those over.
type enqueuer struct {
	Options
	// before and after, where set, are called around each task's submission, from
	// several goroutines. before may block; it returns false when ctx ended meanwhile.
	beforeSubmit func(ctx context.Context, e tasks.Envelope) bool
	afterSubmit  func(e tasks.Envelope, r tasks.Receipt, err error)
	// most is how many tasks a chunk has at most. All submitters' chunks together must
	// fit into what before lets through: each waits until all of its own may go.
	maxChunk int

	admitted map[string]error // by app; of the goroutine that reads

	mu     sync.Mutex // guards what follows, and the functions of Options
	counts Counts
	failed error
}

func (e *enqueuer) run(ctx context.Context, source *taskfile.Source) error {
	e.admitted = make(map[string]error)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	items, chunks := make(chan taskfile.Item), make(chan []taskfile.Item)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(chunks)
		makeChunks(items, chunks, e.maxChunk)
	})
	for range submitters {
		all.Go(func() {
			for chunk := range chunks {
				if err := e.submit(ctx, chunk); err != nil {
					e.fail(err)
					stop()
				}
			}
		})
	}
	if err := e.read(ctx, source, items); err != nil {
		e.fail(err)
	}
	close(items)
	all.Wait()
	return e.failed
}

// fail keeps the first reason for which the rest is not enqueued.
func (e *enqueuer) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.failed == nil {
		e.failed = fmt.Errorf("%w: %w", ErrBroken, err)
	}
}

// read passes the tasks of the stream on until it or ctx ends.
func (e *enqueuer) read(ctx context.Context, source *taskfile.Source, items chan<- taskfile.Item) error {
	for item, err := range source.Items() {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if item.Err == nil {
			item.Err = e.admit(ctx, item.Envelope.App)
		}
		e.update(func(c *Counts) { c.Lines++ })
		switch {
		case item.Err != nil:
			e.reportBad(item.Line, item.Err)
		case item.Duplicate:
			e.update(func(c *Counts) {
				c.Duplicates++
				e.Duplicate(item.Line, item.Envelope)
			})
		default:
			if err := e.forward(ctx, item, items); err != nil {
				return fmt.Errorf("line %d: %w", item.Line, err)
			}
		}
	}
	return nil
}

// forward hands a task on, unless it has ended before.
func (e *enqueuer) forward(ctx context.Context, item taskfile.Item, items chan<- taskfile.Item) error {
	if e.Ended != nil {
		ended, err := e.Ended(ctx, item.Envelope)
		if err != nil {
			return err
		}
		if ended {
			e.update(func(c *Counts) { c.Ended++ })
			return nil
		}
	}
	select {
	case items <- item:
	case <-ctx.Done():
	}
	return nil
}

func (e *enqueuer) admit(ctx context.Context, app string) error {
	err, known := e.admitted[app]
	if known || !tasks.ValidApp(app) { // an id that none can have is told with the other faults of the line
		return err
	}
	err = e.Admit(ctx, app)
	e.admitted[app] = err
	return err
}

func (e *enqueuer) update(apply func(*Counts)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	apply(&e.counts)
}

func (e *enqueuer) reportBad(line int, err error) {
	e.update(func(c *Counts) {
		c.Bad++
		e.Bad(line, err)
	})
}
