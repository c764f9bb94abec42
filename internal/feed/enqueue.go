package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// Options says who takes the tasks, and who is told. The functions are called one at a
// time.
type Options struct {
	Client *tasks.Client
	// Admit is asked once for each app, before the first of its tasks is enqueued. Its
	// error makes all lines of the app bad ones.
	Admit func(ctx context.Context, app string) error
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
}

// ErrBroken says that not all of the stream was enqueued, for another reason than that
// ctx ended.
var ErrBroken = errors.New("the rest was not enqueued")

// Enqueue hands over the tasks of a stream until it or ctx ends. A bad line is told and
// skipped. An error wraps ErrBroken: the stream broke off, or Redis is away.
func Enqueue(ctx context.Context, source *taskfile.Source, o Options) (Counts, error) {
	e := enqueuer{Options: o}
	err := e.run(ctx, source)
	return e.counts, err
}

// submitters is how many tasks are handed over at the same time.
const submitters = 8

// enqueuer is one run of Enqueue.
type enqueuer struct {
	Options
	// before and after, where set, are called around each submission, from several
	// goroutines. before may block; it returns false when ctx ended meanwhile.
	before func(ctx context.Context, e tasks.Envelope) bool
	after  func(e tasks.Envelope, r tasks.Receipt, err error)

	admitted map[string]error // by app; of the goroutine that reads

	mu     sync.Mutex // guards what follows, and the functions of Options
	counts Counts
	failed error
}

func (e *enqueuer) run(ctx context.Context, source *taskfile.Source) error {
	e.admitted = make(map[string]error)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	items := make(chan taskfile.Item)
	var all sync.WaitGroup
	for range submitters {
		all.Go(func() {
			for item := range items {
				if err := e.submit(ctx, item); err != nil {
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
		e.note(func(c *Counts) { c.Lines++ })
		switch {
		case item.Err != nil:
			e.bad(item.Line, item.Err)
		case item.Duplicate:
			e.note(func(c *Counts) {
				c.Duplicates++
				e.Duplicate(item.Line, item.Envelope)
			})
		default:
			select {
			case items <- item:
			case <-ctx.Done():
				return nil
			}
		}
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

func (e *enqueuer) note(what func(*Counts)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	what(&e.counts)
}

func (e *enqueuer) bad(line int, err error) {
	e.note(func(c *Counts) {
		c.Bad++
		e.Bad(line, err)
	})
}

// mayGo waits until a task may be handed over. It is false when ctx has ended.
func (e *enqueuer) mayGo(ctx context.Context, envelope tasks.Envelope) bool {
	return ctx.Err() == nil && (e.before == nil || e.before(ctx, envelope))
}

// submit hands over one task. The error is one that ends the run; that ctx ended is none.
func (e *enqueuer) submit(ctx context.Context, item taskfile.Item) error {
	if !e.mayGo(ctx, item.Envelope) {
		return nil
	}
	receipt, err := e.patiently(ctx, item.Envelope)
	if e.after != nil {
		e.after(item.Envelope, receipt, err)
	}
	var invalid *tasks.ValidationError
	switch {
	case errors.As(err, &invalid):
		e.bad(item.Line, err)
	case err != nil:
		return fmt.Errorf("line %d: %w", item.Line, err)
	default:
		e.note(func(c *Counts) {
			if receipt.Already {
				c.Already++
			} else {
				c.Enqueued++
			}
			e.Enqueued(item.Line, receipt)
		})
	}
	return nil
}

// patience is how long Redis may be away, as pauses between attempts: 0.2 + 0.5 + 1 + 2 s,
// and what the client itself waits for each.
var patience = [...]time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// patiently submits, again while Redis does not answer: repeating it is safe. A
// submission that has begun is finished even when ctx ends.
func (e *enqueuer) patiently(ctx context.Context, envelope tasks.Envelope) (tasks.Receipt, error) {
	for attempt := 0; ; attempt++ {
		receipt, err := e.Client.Submit(context.WithoutCancel(ctx), envelope)
		var invalid *tasks.ValidationError
		if err == nil || errors.As(err, &invalid) || attempt == len(patience) {
			return receipt, err
		}
		select {
		case <-time.After(patience[attempt]):
		case <-ctx.Done():
			return receipt, err
		}
	}
}
