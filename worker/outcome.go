package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// redisRetryDelay is the delay before a task or a write is tried again after Redis did not
// answer.
const redisRetryDelay = time.Second

// errRedriven means that the task was ended as unknown and redriven during this run. The
// outcome of this run belongs to an earlier generation and is dropped. asynq's copy of the
// task must stay: the next generation may need it.
var errRedriven = errors.New("worker: the task was redriven during the run")

// record writes the outcome to the ledger. It retries until it succeeds: an outcome that is
// known must not be lost while Redis is away. It returns what is in the record, which may be
// an earlier outcome.
func (d *deliverer) record(ctx context.Context, j *job, v dispatch.Verdict) (ledger.SettleResult, error) {
	result := j.result(v, d.now())
	ending := ledger.SettleRequest{
		Outcome: string(v.Outcome), Queue: j.queue, Generation: j.opened.Generation,
		Image: j.answer.Image, Result: result.Encode(),
		NoBlob:  j.Type != tasks.TypeImageCheck,
		Content: ledger.TaskContent{Payload: j.payload, Headers: j.headers},
	}
	if app, _ := d.apps.get(j.App); app.Receipts && j.spec.Receipts {
		ending.AwaitReceipt(j.answer.MsgID, j.receiver)
	}
	settled, err := d.settleRecord(ctx, j, ending)
	if err != nil {
		return ledger.SettleResult{}, err
	}
	if !settled.Written && settled.Outcome == string(tasks.OutcomeUnknown) && j.opened.Admission == ledger.Proceed {
		// Another runner held this one to be dead, and ended the task as unknown.
		result.Supersedes = tasks.OutcomeUnknown
		ending.Result, ending.Replaces = result.Encode(), j.runner
		if settled, err = d.settleRecord(ctx, j, ending); err != nil {
			return ledger.SettleResult{}, err
		}
	}
	if !settled.Written && settled.Outcome == "" {
		return ledger.SettleResult{}, errRedriven
	}
	if !settled.Written {
		d.log.Warn("the outcome is dropped: the task has an earlier one", j.attrs(slog.String("outcome", settled.Outcome))...)
		return settled, nil
	}
	d.countOutcome(result)
	d.misfit(ctx, j, result)
	d.logOutcome(ctx, j, v, result)
	if d.hooks.OnResult != nil {
		d.hooks.OnResult(result)
	}
	return settled, nil
}

func (d *deliverer) settleRecord(ctx context.Context, j *job, e ledger.SettleRequest) (settled ledger.SettleResult, err error) {
	err = d.retryRedis(ctx, j, "the outcome could not be recorded yet", func() (err error) {
		settled, err = d.ledger.Settle(ctx, j.ref(), e)
		return err
	})
	return settled, err
}

func (j *job) result(v dispatch.Verdict, now time.Time) tasks.Result {
	a, enqueued := j.answer, j.enqueuedAt
	if enqueued.IsZero() {
		enqueued = j.opened.Enqueued
	}
	res := tasks.Result{
		ID: j.ID, App: j.App, Type: j.Type, Batch: j.Batch,
		State: tasks.StateDone, Outcome: v.Outcome, Reason: v.Reason,
		Attempts: j.attempts(), Generation: j.opened.Generation,
		EnqueuedAt: enqueued, FinishedAt: now.UTC(),
		ErrMsg: a.Msg, RID: a.RID,
		MsgID: a.MsgID, OpenLink: a.OpenLink, URLLink: a.URLLink, Link: a.Link,
		Suggest: a.Suggest, Label: a.Label, TraceID: a.TraceID,
		Fixed: j.Fixed,
	}
	if a.Image != nil {
		res.Image = a.ImageType
	}
	if c := j.completed; c != nil {
		res.ErrCode, res.ErrMsg, res.Suggest, res.Label = c.ErrCode, c.ErrMsg, c.Suggest, c.Label
	}
	var (
		api    *wechat.APIError
		unsent *dispatch.NotSentError
	)
	switch {
	case errors.As(j.err, &unsent): // the reason is complete
	case errors.As(j.err, &api):
		res.ErrCode, res.ErrMsg, res.RID = api.Code, api.Msg, api.RID
		if api.Class() == wechat.ClassRisky {
			res.Suggest = "risky"
		}
	case j.err != nil && res.Reason != "":
		res.Reason += ": " + j.err.Error()
	}
	return res
}

// lastAnswer returns the answer to an attempt that did not end the task, for its record: WeChat's,
// also one that refused the token, or else why there was none. It is zero when nothing was asked.
func (j *job) lastAnswer(now time.Time) ledger.Answer {
	var (
		api      *wechat.APIError
		token    *wechat.TokenError
		prepared *dispatch.PrepareError
	)
	switch {
	case errors.As(j.err, &api):
		return ledger.Answer{Code: api.Code, Class: dispatch.ClassOf(j.err), Msg: api.Msg, RID: api.RID, At: now}
	case errors.As(j.err, &prepared):
		return ledger.Answer{Class: "not_sent", Msg: j.err.Error(), At: now}
	case errors.As(j.err, &token), j.err != nil && j.call.Called():
		return ledger.Answer{Class: dispatch.ClassOf(j.err), Msg: j.err.Error(), At: now}
	}
	return ledger.Answer{}
}

// discard ends a task that cannot be decoded. It records one outcome and writes one log
// line; asynq archives the task, so that an operator can read the payload.
func (d *deliverer) discard(ctx context.Context, cause error) error {
	var bad *undecodableError
	if !errors.As(cause, &bad) {
		return fmt.Errorf("%w: %w", cause, asynq.SkipRetry)
	}
	j := &job{Envelope: tasks.Envelope{App: bad.app, Type: bad.typ, ID: bad.id, Batch: bad.batch}, queue: bad.queue}
	if record, err := d.ledger.Record(ctx, bad.app, bad.id); err == nil {
		j.opened.Generation, j.opened.Enqueued = record.Generation, record.Enqueued
	}
	d.log.Error("a task cannot be decoded", j.attrs(slog.Any("err", bad.why))...)
	err := d.end(ctx, j, dispatch.Verdict{Outcome: tasks.OutcomeFailed, Reason: "undecodable"})
	if err == nil { // whatever is configured: asynq's archive is the only place with the payload
		return &archivedError{"failed: undecodable"}
	}
	return err
}

// logOutcome logs an outcome, at a level from debug for an accepted task to warn for one
// that an operator should look at. Of the rejected tasks of a kind it logs the first of a minute;
// rejectedLog adds how many more there were.
func (d *deliverer) logOutcome(ctx context.Context, j *job, v dispatch.Verdict, result tasks.Result) {
	level := slog.LevelDebug
	switch v.Outcome {
	case tasks.OutcomeUnknown, tasks.OutcomeFailed:
		level = slog.LevelWarn
		if v.Reason == "undecodable" {
			level = slog.LevelDebug // discard has logged it
		}
	case tasks.OutcomeRejected:
		if d.rejected.first(result, j.template) {
			level = slog.LevelInfo
		}
	case tasks.OutcomeAccepted, tasks.OutcomeRefused, tasks.OutcomeExpired, tasks.OutcomeCanceled:
		if v.Outcome == tasks.OutcomeAccepted && j.failed > 0 {
			level = slog.LevelInfo // a retry that worked
		}
	}
	if !d.log.Enabled(ctx, level) {
		return // the common case
	}
	d.log.Log(ctx, level, string(v.Outcome), j.attrs(slog.Any("err", j.err), slog.String("reason", v.Reason))...)
}

// countOutcome counts an outcome that was recorded, in memory.
func (d *deliverer) countOutcome(result tasks.Result) {
	d.metrics.countOutcome(result)
	d.series.Add(result.App, result.Type, string(result.Outcome), result.ErrCode)
}

// ended counts an outcome that the sweeper recorded, and calls OnResult.
func (d *deliverer) ended(result tasks.Result) {
	d.countOutcome(result)
	if d.hooks.OnResult != nil {
		d.hooks.OnResult(result)
	}
}
