package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// RunnerOptions configures a Runner.
type RunnerOptions struct {
	Options
	// Inspector reads results on Client's connections.
	Inspector *tasks.Inspector
	// Reader reads the results, on connections of its own. A read blocks for up to a second;
	// CloseReader ends it at once by closing Reader's connections.
	Reader      *tasks.Inspector
	CloseReader func()
	// Window is the maximum number of tasks without an outcome at a time.
	Window int
	// OnResult is called once for each task's outcome, one call at a time.
	OnResult func(ctx context.Context, r tasks.Result)
	// OnError is called when results cannot be read for a moment, and with a *[LostError]
	// when a record is gone.
	OnError func(err error)
}

// Runner enqueues one stream and waits for the outcome of each task.
type Runner struct {
	opts     RunnerOptions
	slots    chan struct{}
	pending  *pending
	enqueuer enqueuer

	followCtx     context.Context //nolint:containedctx // the context of the followers, which start with each app
	stopFollowing context.CancelFunc
	followers     sync.WaitGroup
	cursors       map[string]tasks.Cursor // by app: the start of its results; used by the reading goroutine only

	checkInterval, checkAge time.Duration // see checkOld

	resultMu sync.Mutex    // held while OnResult or OnError(*LostError) is called
	progress chan struct{} // holds a token after a slot was released
	lost     int           // guarded by resultMu
}

// NewRunner returns a Runner. It does no I/O.
func NewRunner(o RunnerOptions) *Runner {
	r := &Runner{
		opts: o, slots: make(chan struct{}, o.Window), pending: newPending(),
		cursors: make(map[string]tasks.Cursor), progress: make(chan struct{}, 1),
		checkInterval: checkInterval, checkAge: checkAge,
	}
	// A chunk is at most an eighth of the window, so that the window is refilled in small
	// steps and workers do not run dry.
	maxChunk := min(max(o.Window/8, 1), chunkTasks)
	r.enqueuer = enqueuer{Options: o.Options, beforeSubmit: r.beforeSubmit, afterSubmit: r.afterSubmit, maxChunk: maxChunk}
	r.enqueuer.Admit = r.admit
	r.followCtx, r.stopFollowing = context.WithCancel(context.Background())
	return r
}

// Counts returns the counts of the lines so far.
func (r *Runner) Counts() Counts {
	r.enqueuer.mu.Lock()
	defer r.enqueuer.mu.Unlock()
	return r.enqueuer.counts
}

// Pending returns the number of tasks without an outcome.
func (r *Runner) Pending() int { return r.pending.count() }

// Lost returns the number of tasks whose outcome will never be known, since their records are
// gone.
func (r *Runner) Lost() int {
	r.resultMu.Lock()
	defer r.resultMu.Unlock()
	return r.lost
}

// Run enqueues the stream, and returns when each of its tasks has an outcome or ctx ends. The
// error is that of [Enqueue]; Run also waits for the enqueued tasks after an error. Call Close
// when no more results can come.
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

// Close stops reading results, after it has delivered those recorded so far.
func (r *Runner) Close(ctx context.Context) {
	r.stopFollowing()
	r.opts.CloseReader()
	r.followers.Wait()
	for app, from := range r.cursors {
		if r.pending.count() == 0 {
			return
		}
		if err := r.deliverResults(ctx, r.opts.Inspector, app, from, false); err != nil && ctx.Err() == nil {
			r.opts.OnError(err)
		}
	}
}

// admit starts reading the results of an app before its first task is enqueued.
func (r *Runner) admit(ctx context.Context, app string) error {
	if err := r.opts.Admit(ctx, app); err != nil {
		return err
	}
	from, err := r.opts.Inspector.End(ctx, app)
	if err != nil {
		from = tasks.Since(time.Now().Add(-time.Minute)) // deliver ignores results of other tasks
	}
	r.cursors[app] = from
	r.followers.Go(func() { r.followApp(app, from) })
	return nil
}

const (
	followMinBackoff = 200 * time.Millisecond
	followMaxBackoff = 5 * time.Second
)

// followApp delivers the results of an app until Close. After an error it starts again at the
// app's cursor: deliver ignores results that were delivered before.
func (r *Runner) followApp(app string, from tasks.Cursor) {
	backoff := followMinBackoff
	for r.followCtx.Err() == nil {
		err := r.deliverResults(r.followCtx, r.opts.Reader, app, from, true)
		if err == nil || r.followCtx.Err() != nil {
			continue
		}
		r.opts.OnError(err)
		select {
		case <-time.After(backoff):
			backoff = min(2*backoff, followMaxBackoff)
		case <-r.followCtx.Done():
		}
	}
}

func (r *Runner) deliverResults(ctx context.Context, inspector *tasks.Inspector, app string, from tasks.Cursor, follow bool) error {
	for result, err := range inspector.Results(ctx, app, from, follow) {
		var cut *tasks.ResultsCutError
		if errors.As(err, &cut) {
			continue // checkOld looks up the tasks whose results are missing
		}
		if err != nil {
			return err
		}
		r.deliver(context.WithoutCancel(ctx), result)
	}
	return nil
}

// deliver calls OnResult, if the task is pending. A receipt is no outcome.
func (r *Runner) deliver(ctx context.Context, result tasks.Result) {
	if result.IsReceipt() || !r.pending.remove(taskKey{result.App, result.ID}) {
		return
	}
	r.resultMu.Lock()
	r.opts.OnResult(ctx, result)
	r.resultMu.Unlock()
	r.releaseSlot()
}

// releaseSlot frees a slot of the window.
func (r *Runner) releaseSlot() {
	<-r.slots
	select {
	case r.progress <- struct{}{}:
	default: // there is a token already
	}
}

// beforeSubmit waits for a free slot of the window and adds the task to pending.
func (r *Runner) beforeSubmit(ctx context.Context, e tasks.Envelope) bool {
	select {
	case r.slots <- struct{}{}:
		r.pending.add(keyOf(e))
		return true
	case <-ctx.Done():
		return false
	}
}

// afterSubmit looks up the outcome of a task that ended before, and removes a task that was
// not enqueued from pending.
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

// checkOld looks up the records of tasks that have been pending for long. Their results may
// have been trimmed from the app's stream before they were read.
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

// lookUp delivers the outcome in a task's record, if there is one.
func (r *Runner) lookUp(ctx context.Context, k taskKey) {
	result, err := r.opts.Client.Recorded(ctx, k.app, k.id)
	switch {
	case errors.Is(err, tasks.ErrNotFound):
		if !r.pending.remove(k) {
			return
		}
		r.resultMu.Lock()
		r.lost++
		r.opts.OnError(&LostError{ID: k.id})
		r.resultMu.Unlock()
		r.releaseSlot()
	case err != nil:
		return // the next check may succeed
	case result.Outcome != "":
		r.deliver(ctx, result)
	}
}

// LostError means that a task's record is gone from Redis, so that its outcome will never be
// known.
type LostError struct{ ID string }

func (e *LostError) Error() string {
	return "task " + e.ID + ": its record is gone from Redis, and its outcome will not be known"
}
