package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/reconcile"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// checkTimeout bounds the scan of all tasks in a check without --repair.
	checkTimeout = 30 * time.Second
	// repairConfirm is the time between the two passes of a repair, and the minimum age of the
	// tasks that it examines. It exceeds the time that a producer takes between marking a task
	// and enqueuing it.
	repairConfirm = 15 * time.Second
)

// deleted reports tasks that are in the ledger but not in asynq, and archived copies older than
// the retention. With repair it ends the tasks and deletes the copies.
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
		f.p.notef("%s not in asynq; checking again in %v before ending them", describe.Count(report.Missing, "task"), confirm)
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
	examined := describe.Count(report.Checked, "task") + " without an outcome"
	if partly {
		examined = "the first " + examined + " (stopped after " + checkTimeout.String() + ")"
	}
	switch {
	case report.Missing == 0:
		f.ok("deleted tasks", "none among %s", examined)
	case repair && report.Ended == report.Missing:
		f.ok("deleted tasks", "%s ended as canceled, reason deleted (as unknown where a request may have been written)", describe.Count(report.Ended, "task"))
	case repair:
		f.warn("deleted tasks", "%d of %s ended; repeat the command to end the rest", report.Ended, describe.Count(report.Missing, "task"))
	default:
		f.warn("deleted tasks", "%d among %s are not in asynq: they were deleted there, or their producer died before it enqueued them\n"+
			"workers end them as canceled within hours; wxcourier check --repair does so at once", report.Missing, examined)
	}
	switch {
	case report.Deleted > 0:
		f.ok("archived copies", "%d older than results.retention deleted", report.Deleted)
	case report.Archived > 0:
		f.warn("archived copies", "%d in asynq are older than results.retention; workers delete them within hours, wxcourier check --repair at once", report.Archived)
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
