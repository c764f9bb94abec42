package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// RunnerOptions is what a Job needs besides Options.
type RunnerOptions struct {
	Options
	// Reader reads the results, beside Client. A read waits for results for up to a
	// second; StopReading ends it at once (it closes the reader's connections).
	Reader      *tasks.Client
	StopReading func()
	// Window is how many tasks may be without an outcome at the same time.
	Window int
	// Result is told of each task's outcome, once, one at a time.
	Result func(ctx context.Context, r tasks.Result)
	// Trouble is told when results cannot be read for a moment, or a record is gone.
	Trouble func(err error)
}

// Runner enqueues a stream and follows each task to its outcome. It serves one stream.
type Runner struct {
	opts     RunnerOptions
	slots    chan struct{}
	pending  *pending
	enqueuer enqueuer

	followCtx     context.Context //nolint:containedctx // the life of the followers, which begin with each app
	stopFollowing context.CancelFunc
	followers     sync.WaitGroup
	cursors       map[string]tasks.Cursor // by app: where its results began; of the goroutine that reads

	checkInterval, checkAge time.Duration // see checkOld

	resultMu sync.Mutex    // one result at a time
	progress chan struct{} // holds one token after a result
	lost     int           // guarded by telling
}

// NewRunner does no I/O.
func NewRunner(o RunnerOptions) *Runner {
	r := &Runner{
		opts: o, slots: make(chan struct{}, o.Window), pending: newPending(),
		cursors: make(map[string]tasks.Cursor), progress: make(chan struct{}, 1),
		checkInterval: checkInterval, checkAge: checkAge,
	}
	// An eighth of the window: it fills in small steps, so that workers do not wait.
	maxChunk := min(max(o.Window/8, 1), chunkTasks)
	r.enqueuer = enqueuer{Options: o.Options, beforeSubmit: r.beforeSubmit, afterSubmit: r.afterSubmit, maxChunk: maxChunk}
	r.enqueuer.Admit = r.admit
	r.followCtx, r.stopFollowing = context.WithCancel(context.Background())
	return r
}

// Counts is what became of the lines so far.
func (r *Runner) Counts() Counts {
	r.enqueuer.mu.Lock()
	defer r.enqueuer.mu.Unlock()
	return r.enqueuer.counts
}

// Pending is how many tasks have no outcome yet.
func (r *Runner) Pending() int { return r.pending.count() }

// Lost is how many tasks have no outcome and never will, since their records are gone.
func (r *Runner) Lost() int {
	r.resultMu.Lock()
	defer r.resultMu.Unlock()
	return r.lost
}

// Run enqueues the stream, and returns when each of its tasks has an outcome, or when
// ctx ends. The error is that of [Enqueue]; also then the tasks that were enqueued are
// followed to their outcomes. Call Close when no more results can come.
func (r *Runner) Run(ctx context.Context, source *taskfile.Source) error {
	var checker sync.WaitGroup
	checkCtx, stopChecking := context.WithCancel(ctx)
	checker.Go(func() { r.checkOld(checkCtx) })
	defer checker.Wait()
	defer stopChecking()
	err := r.enqueuer.run(ctx, source)
	for r.pending.count() > 0 && ctx.Err() == nil {
		select {
		case <-r.progress:
		case <-ctx.Done():
		}
	}
	return err
}

// Close ends the following. Results that were recorded before are told first.
func (r *Runner) Close(ctx context.Context) {
	r.stopFollowing()
	r.opts.StopReading()
	r.followers.Wait()
	for app, from := range r.cursors {
		if r.pending.count() == 0 {
			return
		}
		if err := r.deliverResults(ctx, r.opts.Client, app, from, false); err != nil && ctx.Err() == nil {
			r.opts.Trouble(err)
		}
	}
}

// admit follows the results of an app from before its first task is enqueued.
func (r *Runner) admit(ctx context.Context, app string) error {
	if err := r.opts.Admit(ctx, app); err != nil {
		return err
	}
	from, err := r.opts.Client.End(ctx, app)
	if err != nil {
		from = tasks.Since(time.Now().Add(-time.Minute)) // results of other tasks do no harm
	}
	r.cursors[app] = from
	r.followers.Go(func() { r.followApp(app, from) })
	return nil
}

const (
	followMinBackoff = 200 * time.Millisecond
	followMaxBackoff = 5 * time.Second
)

// followApp tells the results of an app until Close. After an error it begins anew,
// from where the app's results began: what was told before is no longer pending.
func (r *Runner) followApp(app string, from tasks.Cursor) {
	backoff := followMinBackoff
	for r.followCtx.Err() == nil {
		err := r.deliverResults(r.followCtx, r.opts.Reader, app, from, true)
		if err == nil || r.followCtx.Err() != nil {
			continue
		}
		r.opts.Trouble(err)
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, followMaxBackoff)
		case <-r.followCtx.Done():
		}
	}
}

func (r *Runner) deliverResults(ctx context.Context, client *tasks.Client, app string, from tasks.Cursor, follow bool) error {
	for result, err := range client.Results(ctx, app, from, follow) {
		if err != nil {
			return err
		}
		r.deliver(context.WithoutCancel(ctx), result)
	}
	return nil
}

// deliver passes a result on if its task is one of ours and was not told before.
func (r *Runner) deliver(ctx context.Context, result tasks.Result) {
	if !r.pending.remove(taskKey{result.App, result.ID}) {
		return
	}
	r.resultMu.Lock()
	r.opts.Result(ctx, result)
	r.resultMu.Unlock()
	r.releaseSlot()
}

// releaseSlot makes room in the window.
func (r *Runner) releaseSlot() {
	<-r.slots
	select {
	case r.progress <- struct{}{}:
	default: // Run will look anyway
	}
}

// beforeSubmit waits for room in the window, and expects the task's result from then on.
func (r *Runner) beforeSubmit(ctx context.Context, e tasks.Envelope) bool {
	select {
	case r.slots <- struct{}{}:
		r.pending.add(keyOf(e))
		return true
	case <-ctx.Done():
		return false
	}
}

// afterSubmit looks up what ended before it was enqueued here, and forgets what was not
// enqueued.
func (r *Runner) afterSubmit(e tasks.Envelope, receipt tasks.Receipt, err error) {
	if err != nil {
		if r.pending.remove(keyOf(e)) {
			r.releaseSlot()
		}
		return
	}
	if receipt.Done {
		r.lookUp(context.Background(), keyOf(e))
	}
}

const (
	checkInterval = 5 * time.Second
	checkAge      = 15 * time.Second
	checkLimit    = 500
)

// checkOld looks up what has been pending for long. Results are learned from the app's
// stream; should its cap cut one off before it was read, the task's record still has it.
func (r *Runner) checkOld(ctx context.Context) {
	t := time.NewTicker(r.checkInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, k := range r.pending.olderThan(r.checkAge, checkLimit) {
			if ctx.Err() != nil {
				return
			}
			r.lookUp(ctx, k)
		}
	}
}

// lookUp tells the outcome that a task's record has, if any.
func (r *Runner) lookUp(ctx context.Context, k taskKey) {
	result, err := r.opts.Client.Result(ctx, k.app, k.id)
	switch {
	case errors.Is(err, tasks.ErrNotFound):
		if !r.pending.remove(k) {
			return
		}
		r.resultMu.Lock()
		r.lost++
		r.opts.Trouble(&LostError{ID: k.id})
		r.resultMu.Unlock()
		r.releaseSlot()
	case err != nil:
		return // the next look may succeed
	case result.Outcome != "":
		r.deliver(ctx, result)
	}
}

// LostError says that a task's record is gone from Redis, so that its outcome will
// never be known.
type LostError struct{ ID string }

func (e *LostError) Error() string {
	return "task " + e.ID + ": its record is gone from Redis, and its outcome will not be known"
}
