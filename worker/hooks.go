package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/tasks"
)

// Hooks are functions of an embedding service that a replica calls. Each may be nil. They
// are called from many goroutines at once, and must not block for long, since a task waits
// for each call.
//
// Between OnSending and the OnNotSent or OnResult that follows it, a request of the task
// may be under way. A service that stores each call before it returns can list those tasks
// after a crash, even where Redis has lost them.
type Hooks struct {
	// OnResult is called for each outcome that this replica recorded, after Redis has it.
	OnResult func(tasks.Result)

	// OnSending is called before a request is written that is not safe to repeat, or only
	// for a while (tasks.Never, tasks.Deduped), and after the task is marked in Redis as
	// being sent. When it returns an error the request is not written: the task is retried
	// about a second later, and no attempt is counted. ctx ends when the lane closes.
	OnSending func(ctx context.Context, s Sending) error

	// OnNotSent is called when WeChat certainly did not take the request of the last
	// OnSending: it was not written, or was refused for now. The task will be sent again,
	// after another OnSending. OnNotSent is not called for a task of which an earlier
	// request got no answer.
	OnNotSent func(s Sending)
}

// Sending is a request that is about to be written.
type Sending struct {
	App, ID, Type string
	Attempt       int       // runs of the task that called WeChat, including this one
	Since         time.Time // when the task was marked as being sent, by Redis' clock
}

func (j *job) sending() Sending {
	return Sending{App: j.App, ID: j.ID, Type: j.Type, Attempt: j.opened.Attempts, Since: j.opened.Since}
}

// notifySending calls OnSending for a request that is fenced.
func (d *deliverer) notifySending(ctx context.Context, j *job) error {
	if d.hooks.OnSending == nil || j.spec.Repeat == tasks.Always {
		return nil
	}
	if err := d.hooks.OnSending(ctx, j.sending()); err != nil {
		d.log.Debug("OnSending returned an error", j.attrs(slog.Any("err", err))...)
		return &dispatch.NotSentError{Reason: "OnSending returned an error"}
	}
	j.notified = true
	return nil
}

// notifyNotSent calls OnNotSent after OnSending, where WeChat certainly did not take the
// request.
func (d *deliverer) notifyNotSent(j *job) {
	if j.notified && !j.opened.Doubt && !dispatch.NoAnswer(j.err) && d.hooks.OnNotSent != nil {
		d.hooks.OnNotSent(j.sending())
	}
}
