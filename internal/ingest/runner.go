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
	o       RunnerOptions
	window  chan struct{}
	pending *pending
	run     enqueuer

	follow    context.Context //nolint:containedctx // the life of the followers, which begin with each app
	unfollow  context.CancelFunc
	followers sync.WaitGroup
	from      map[string]tasks.Cursor // by app: where its results began; of the goroutine that reads

	lookEvery, lookAfter time.Duration // see checkOld

	telling sync.Mutex    // one result at a time
	settled chan struct{} // holds one token after a result
	lost    int           // guarded by telling
}

// NewRunner does no I/O.
func NewRunner(o RunnerOptions) *Runner {
	j := &Runner{
		o: o, window: make(chan struct{}, o.Window), pending: newPending(),
		from: make(map[string]tasks.Cursor), settled: make(chan struct{}, 1),
		lookEvery: lookEvery, lookAfter: lookAfter,
	}
	// An eighth of the window: it fills in small steps, so that workers do not wait.
	most := min(max(o.Window/8, 1), chunkTasks)
	j.run = enqueuer{Options: o.Options, before: j.before, after: j.after, most: most}
	j.run.Admit = j.admit
	j.follow, j.unfollow = context.WithCancel(context.Background())
	return j
}

// Counts is what became of the lines so far.
func (j *Runner) Counts() Counts {
	j.run.mu.Lock()
	defer j.run.mu.Unlock()
	return j.run.counts
}

// Pending is how many tasks have no outcome yet.
func (j *Runner) Pending() int { return j.pending.count() }

// Lost is how many tasks have no outcome and never will, since their records are gone.
func (j *Runner) Lost() int {
	j.telling.Lock()
	defer j.telling.Unlock()
	return j.lost
}

// Run enqueues the stream, and returns when each of its tasks has an outcome, or when
// ctx ends. The error is that of [Enqueue]; also then the tasks that were enqueued are
// followed to their outcomes. Call Close when no more results can come.
func (j *Runner) Run(ctx context.Context, source *taskfile.Source) error {
	var checker sync.WaitGroup
	checked, stop := context.WithCancel(ctx)
	checker.Go(func() { j.checkOld(checked) })
	defer checker.Wait()
	defer stop()
	err := j.run.run(ctx, source)
	for j.pending.count() > 0 && ctx.Err() == nil {
		select {
		case <-j.settled:
		case <-ctx.Done():
		}
	}
	return err
}

// Close ends the following. Results that were recorded before are told first.
func (j *Runner) Close(ctx context.Context) {
	j.unfollow()
	j.o.StopReading()
	j.followers.Wait()
	for app, from := range j.from {
		if j.pending.count() == 0 {
			return
		}
		if err := j.tellResults(ctx, j.o.Client, app, from, false); err != nil && ctx.Err() == nil {
			j.o.Trouble(err)
		}
	}
}

// admit follows the results of an app from before its first task is enqueued.
func (j *Runner) admit(ctx context.Context, app string) error {
	if err := j.o.Admit(ctx, app); err != nil {
		return err
	}
	from, err := j.o.Client.End(ctx, app)
	if err != nil {
		from = tasks.Since(time.Now().Add(-time.Minute)) // results of other tasks do no harm
	}
	j.from[app] = from
	j.followers.Go(func() { j.followApp(app, from) })
	return nil
}

const (
	followPauseFirst   = 200 * time.Millisecond
	followPauseLongest = 5 * time.Second
)

// followApp tells the results of an app until Close. After an error it begins anew,
// from where the app's results began: what was told before is no longer pending.
func (j *Runner) followApp(app string, from tasks.Cursor) {
	pause := followPauseFirst
	for j.follow.Err() == nil {
		err := j.tellResults(j.follow, j.o.Reader, app, from, true)
		if err == nil || j.follow.Err() != nil {
			continue
		}
		j.o.Trouble(err)
		select {
		case <-time.After(pause):
			pause = min(2*pause, followPauseLongest)
		case <-j.follow.Done():
		}
	}
}

func (j *Runner) tellResults(ctx context.Context, client *tasks.Client, app string, from tasks.Cursor, follow bool) error {
	for r, err := range client.Results(ctx, app, from, follow) {
		if err != nil {
			return err
		}
		j.tell(context.WithoutCancel(ctx), r)
	}
	return nil
}

// tell passes a result on if its task is one of ours and was not told before.
func (j *Runner) tell(ctx context.Context, r tasks.Result) {
	if !j.pending.remove(taskKey{r.App, r.ID}) {
		return
	}
	j.telling.Lock()
	j.o.Result(ctx, r)
	j.telling.Unlock()
	j.leave()
}

// leave makes room in the window.
func (j *Runner) leave() {
	<-j.window
	select {
	case j.settled <- struct{}{}:
	default: // Run will look anyway
	}
}

// before waits for room in the window, and expects the task's result from then on.
func (j *Runner) before(ctx context.Context, e tasks.Envelope) bool {
	select {
	case j.window <- struct{}{}:
		j.pending.add(keyOf(e))
		return true
	case <-ctx.Done():
		return false
	}
}

// after looks up what ended before it was enqueued here, and forgets what was not
// enqueued.
func (j *Runner) after(e tasks.Envelope, r tasks.Receipt, err error) {
	if err != nil {
		if j.pending.remove(keyOf(e)) {
			j.leave()
		}
		return
	}
	if r.Done {
		j.lookUp(context.Background(), keyOf(e))
	}
}

const (
	lookEvery = 5 * time.Second
	lookAfter = 15 * time.Second
	lookMost  = 500
)

// checkOld looks up what has been pending for long. Results are learned from the app's
// stream; should its cap cut one off before it was read, the task's record still has it.
func (j *Runner) checkOld(ctx context.Context) {
	t := time.NewTicker(j.lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, k := range j.pending.olderThan(j.lookAfter, lookMost) {
			if ctx.Err() != nil {
				return
			}
			j.lookUp(ctx, k)
		}
	}
}

// lookUp tells the outcome that a task's record has, if any.
func (j *Runner) lookUp(ctx context.Context, k taskKey) {
	r, err := j.o.Client.Result(ctx, k.app, k.id)
	switch {
	case errors.Is(err, tasks.ErrNotFound):
		if !j.pending.remove(k) {
			return
		}
		j.telling.Lock()
		j.lost++
		j.o.Trouble(&LostError{ID: k.id})
		j.telling.Unlock()
		j.leave()
	case err != nil:
		return // the next look may succeed
	case r.Outcome != "":
		j.tell(ctx, r)
	}
}

// LostError says that a task's record is gone from Redis, so that its outcome will
// never be known.
type LostError struct{ ID string }

func (e *LostError) Error() string {
	return "task " + e.ID + ": its record is gone from Redis, and its outcome will not be known"
}
