package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/reconcile"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// checkTimeout bounds the walk over all tasks of a check that repairs nothing.
	checkTimeout = 30 * time.Second
	// repairConfirm is how long a repair waits between noting and ending, and how old a task
	// must be that it looks for: longer than a producer takes from the mark of a task to its
	// queue.
	repairConfirm = 15 * time.Second
)

// deleted tells of tasks that the ledger has and asynq has not, and of archived copies past
// the retention, and with repair ends and deletes them.
func (f *findings) deleted(cfg configs.Config, parts *parts, repair bool) {
	l := ledger.New(parts.rdb, ledger.Policy{Retention: cfg.Results.Retention, StreamMax: cfg.Results.StreamMaxLen})
	confirm := cmp.Or(f.p.confirm, repairConfirm)
	r := reconcile.New(parts.rdb, l, reconcile.Config{
		MinAge: confirm, Confirm: confirm, DeadAfter: worker.DeadAfter(cfg.WeChat.AttemptTimeout),
		Retention: cfg.Results.Retention, Repair: repair,
	})
	ctx := f.p.ctx
	if !repair {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, checkTimeout)
		defer cancel()
	}
	report, err := r.Pass(ctx)
	if err == nil && repair && report.Missing > 0 {
		f.p.notef("%s not in asynq; looking again in %v before they are ended", plural(report.Missing, "task"), confirm)
		copies := report.Deleted
		if err = pause(ctx, confirm); err == nil {
			report, err = r.Pass(ctx)
			report.Deleted += copies
		}
	}
	partly := errors.Is(err, context.DeadlineExceeded)
	if err != nil && !partly {
		f.fail("deleted tasks", "%v", err)
		return
	}
	f.reportDeleted(report, partly, repair)
}

func (f *findings) reportDeleted(report reconcile.Report, partly, repair bool) {
	looked := plural(report.Looked, "task") + " without an outcome"
	if partly {
		looked = "the first " + looked + ", as many as were looked at in " + checkTimeout.String()
	}
	switch {
	case report.Missing == 0:
		f.ok("deleted tasks", "none among %s", looked)
	case repair && report.Ended == report.Missing:
		f.ok("deleted tasks", "%s ended as canceled, reason deleted (as unknown where a request may have been written)", plural(report.Ended, "task"))
	case repair:
		f.warn("deleted tasks", "%d of %s ended; repeat the command for the others", report.Ended, plural(report.Missing, "task"))
	default:
		f.warn("deleted tasks", "%d among %s are not in asynq: they were deleted there, or their producer died before it enqueued them\n"+
			"workers end them as canceled within hours; wxcourier check --repair does at once", report.Missing, looked)
	}
	switch {
	case report.Deleted > 0:
		f.ok("archived copies", "%d past results.retention deleted", report.Deleted)
	case report.Archived > 0:
		f.warn("archived copies", "%d in asynq are past results.retention; workers delete them within hours, wxcourier check --repair at once", report.Archived)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
