package check

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/reconcile"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// scanTimeout bounds the scan of all tasks in a run without repair.
	scanTimeout = 30 * time.Second
	// defaultConfirm is that of Options.Confirm.
	defaultConfirm = 15 * time.Second
)

// deleted reports tasks that are in the ledger but not in asynq, and archived copies older than
// the retention. With repair it ends the tasks and deletes the copies.
func (c *checker) deleted(ctx context.Context) {
	results, confirm := c.Config.Results, cmp.Or(c.Confirm, defaultConfirm)
	l := ledger.New(c.parts.Redis, ledger.Policy{Retention: results.Retention, StreamMax: results.StreamMaxLen, StreamRetention: results.StreamRetention})
	r := reconcile.New(c.parts.Redis, l, reconcile.Config{
		MinAge: confirm, Confirm: confirm, DeadAfter: worker.DeadAfter(c.Config.WeChat.AttemptTimeout),
		Retention: results.Retention, Repair: c.Repair,
	})
	if !c.Repair {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, scanTimeout)
		defer cancel()
	}
	report, err := r.Pass(ctx)
	if err == nil && c.Repair && report.Missing > 0 {
		if c.OnConfirm != nil {
			c.OnConfirm(report.Missing, confirm)
		}
		copies := report.Deleted
		if err = pause(ctx, confirm); err == nil {
			report, err = r.Pass(ctx)
			report.Deleted += copies
		}
	}
	partly := errors.Is(err, context.DeadlineExceeded)
	if err != nil && !partly {
		c.fail("deleted tasks", "%v", err)
		return
	}
	c.reportDeleted(report, partly)
}

func (c *checker) reportDeleted(report reconcile.Report, partly bool) {
	examined := describe.Count(report.Checked, "task") + " without an outcome"
	if partly {
		examined = "the first " + examined + " (stopped after " + scanTimeout.String() + ")"
	}
	switch {
	case report.Missing == 0:
		c.ok("deleted tasks", "none among %s", examined)
	case c.Repair && report.Ended == report.Missing:
		c.ok("deleted tasks", "%s ended as canceled, reason deleted (as unknown where a request may have been written)", describe.Count(report.Ended, "task"))
	case c.Repair:
		c.warn("deleted tasks", "%d of %s ended; repeat the command to end the rest", report.Ended, describe.Count(report.Missing, "task"))
	default:
		c.warn("deleted tasks", "%d among %s are not in asynq: they were deleted there, or their producer died before it enqueued them\n"+
			"workers end them as canceled within hours; wxcourier check --repair does so at once", report.Missing, examined)
	}
	switch {
	case report.Deleted > 0:
		c.ok("archived copies", "%d older than results.retention deleted", report.Deleted)
	case report.Archived > 0:
		c.warn("archived copies", "%d in asynq are older than results.retention; workers delete them within hours, wxcourier check --repair at once", report.Archived)
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
