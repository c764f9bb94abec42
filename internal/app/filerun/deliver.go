package filerun

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/worker"
)

// Report says what became of the input.
type Report struct {
	Lines   ingest.Counts
	Results summary.Summary // written, including those of the journal
	Took    time.Duration

	Unfinished  int  // tasks without an outcome
	Lost        int  // tasks whose records are gone from Redis
	ImageErrors int  // images that were not written, or are missing
	Unjournaled int  // results that were written, but not to the journal
	Interrupted bool // ctx ended, or an error ended the delivery
	// ReplicaErr is the error of the worker, such as worker.ErrShutdownTimeout.
	ReplicaErr error
}

// Deliver enqueues the input and waits until every task has an outcome or ctx ends; then it finishes
// the tasks in flight. The error is the one that ended the delivery early, if any: the input could not
// be read, or the results or the journal could not be written. The report is nil if the delivery did
// not begin. Deliver may be called once.
func (r *Run) Deliver(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.cancel = cancel
	r.running, r.stopRunning = context.WithCancel(context.WithoutCancel(ctx))
	defer r.stopRunning()
	if !r.anyApp {
		if err := r.startReplica(r.apps); err != nil {
			return nil, err
		}
	}
	started := time.Now()
	err := r.deliver(ctx)
	report := &Report{
		Lines: r.ingest.Counts(), Results: r.summary, Took: time.Since(started),
		Unfinished: r.ingest.Pending(), Lost: r.ingest.Lost(), ImageErrors: r.imageErrors, ReplicaErr: r.replicaErr,
	}
	if r.journal != nil {
		report.Unjournaled = r.journal.unwritten
	}
	if cause := context.Cause(ctx); cause != nil {
		report.Interrupted = true
		if !errors.Is(cause, context.Canceled) {
			err = errors.Join(err, cause)
		}
	}
	return report, err
}

// deliver enqueues the input and waits until every task has an outcome.
func (r *Run) deliver(ctx context.Context) error {
	reader := r.cfg.Settings.Redis.NewClient()
	options := ingest.Options{
		Client: r.parts.Tasks, Admit: r.admit, AdmitTask: r.admitTask, Known: ledger.New(r.parts.Redis, ledger.Policy{}).Exist,
		OnBadLine: r.reporter.BadLine, OnEnqueued: r.reporter.Enqueued, OnDuplicate: r.reporter.Duplicate,
	}
	if r.journal != nil {
		options.AlreadyEnded = r.checkJournal
		r.journal.start(r)
	}
	r.ingest = ingest.NewRunner(ingest.RunnerOptions{
		Options: options, Inspector: r.parts.Inspector,
		Reader: tasks.NewInspector(reader), CloseReader: func() { _ = reader.Close() },
		Window: r.window, OnResult: r.onResult, OnError: r.onError,
	})
	progress := startProgress(ctx, r)
	err := r.ingest.Run(ctx, taskfile.New(r.cfg.Input))
	r.stopRunning()
	r.replicas.Wait()
	r.ingest.Close(context.WithoutCancel(ctx))
	if r.journal != nil {
		r.journal.finish()
	}
	progress.stop()
	r.reporter.Close()
	if flushErr := r.out.Flush(); flushErr != nil {
		return errors.Join(err, fmt.Errorf("write the results: %w", flushErr))
	}
	return err
}

// startReplica starts a replica for the apps.
func (r *Run) startReplica(apps []worker.App) error {
	replica, err := r.parts.Replica(apps, nil)
	if err != nil {
		return err
	}
	r.replicas.Go(func() {
		if err := replica.Run(r.running); err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.replicaErr = errors.Join(r.replicaErr, err)
		}
	})
	return nil
}

// maxSandboxApps is the maximum number of apps of a run with the sandbox and no configured apps: each
// app gets a replica of its own when it first occurs in the input.
const maxSandboxApps = 500

// admit returns an error when tasks of the app cannot be sent.
func (r *Run) admit(_ context.Context, id string) error {
	if !r.anyApp {
		if !app.Known(r.cfg.Settings.Apps, id) {
			return fmt.Errorf("app: %s is not configured: add it to apps in %s, with its secret", id, r.cfg.SettingsName)
		}
		return nil
	}
	if len(r.apps) == maxSandboxApps {
		return fmt.Errorf("app: %s exceeds the maximum of %d apps with --sandbox", id, maxSandboxApps)
	}
	one := worker.App{ID: id}
	r.mu.Lock()
	r.apps = append(r.apps, one)
	r.mu.Unlock()
	return r.startReplica([]worker.App{one})
}
