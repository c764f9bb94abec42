package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// Hooks tells an embedding service what happens. Each may be nil. They are called from
// many goroutines at once, and a task waits meanwhile: they must not block for long.
//
// Between OnSending and what ends it, OnReturned or OnResult, a request of the task may
// be on its way. A service that keeps both, before they return, knows after a crash which
// tasks those were, even where Redis has lost them.
type Hooks struct {
	// OnResult is called for each outcome that this replica recorded, after it is in
	// Redis.
	OnResult func(tasks.Result)

	// OnSending is called before a request is written that is not safe to repeat, or only
	// for a while (tasks.Never, tasks.Deduped), and after the task is marked in Redis as
	// being sent. Its error keeps the request from being written: the task goes back to
	// its queue, comes again about a second later, and no attempt is counted. ctx ends
	// when the lane closes.
	OnSending func(ctx context.Context, s Sending) error

	// OnReturned is called when WeChat surely did not take the request that OnSending
	// told of last: it was not written, or refused for now. The task is to be sent again,
	// and OnSending called for it again. It is not called for a task of which an earlier
	// request got no answer.
	OnReturned func(s Sending)
}

// Sending is a request that is about to be written.
type Sending struct {
	App, ID, Type string
	Attempt       int       // runs of the task that called WeChat, this one included
	Since         time.Time // Redis' time, when the task was marked
}

func (j *job) sending() Sending {
	return Sending{App: j.App, ID: j.ID, Type: j.Type, Attempt: j.opened.Attempts, Since: j.opened.Since}
}

// notifySending tells of a request that is fenced.
func (r *Replica) notifySending(ctx context.Context, j *job) error {
	if r.hooks.OnSending == nil || j.spec.Repeat == tasks.Always {
		return nil
	}
	if err := r.hooks.OnSending(ctx, j.sending()); err != nil {
		r.log.Debug("OnSending forbids it", j.attrs(slog.Any("err", err))...)
		return &guardError{reason: "OnSending forbids it for now"}
	}
	j.notified = true
	return nil
}

// notifyReturned takes back what announce told, when WeChat surely did not take it.
func (r *Replica) notifyReturned(j *job) {
	if j.notified && !j.opened.Doubt && !noAnswer(j.err) && r.hooks.OnReturned != nil {
		r.hooks.OnReturned(j.sending())
	}
}
