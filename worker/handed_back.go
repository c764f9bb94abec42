package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// handedBack is the error that makes asynq retry a task after a delay, or put it back into
// its queue.
type handedBack struct {
	delay  time.Duration // ignored unless place is asynqwire.RetrySet
	counts bool          // asynq counts a failed attempt
	why    string
	place  asynqwire.Place
}

func (e *handedBack) Error() string { return e.why }

// retryLater returns the error that makes asynq retry a task, without counting an attempt.
func retryLater(delay time.Duration, why string) error { return &handedBack{delay: delay, why: why} }

// retryDelay is asynq's RetryDelayFunc. asynq truncates the time of the retry to whole
// seconds; retryDelay adds up to one second, so that no task comes back early.
func retryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var back *handedBack
	if errors.As(err, &back) {
		if back.place != asynqwire.RetrySet {
			return asynqwire.RequeueDelay(back.place, time.Now())
		}
		if back.delay <= 0 {
			return 0
		}
		return back.delay + time.Second - time.Nanosecond
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return time.Hour // asynq's deadline has passed; lane.expire ended the task
	}
	return 0 // the lease was lost: the record decides when the runner counts as dead
}

// isFailure is asynq's IsFailure. asynq's retry count is our count of failed attempts, so
// only errors that count raise it.
func isFailure(err error) bool {
	var back *handedBack
	return errors.As(err, &back) && back.counts
}

// isHandedBack reports whether a task only has to wait.
func isHandedBack(err error) bool {
	var back *handedBack
	return errors.As(err, &back)
}

// archivedError makes asynq archive a task. Its text is the task's error in the asynq web UI.
type archivedError struct{ text string }

func (e *archivedError) Error() string { return e.text }
func (e *archivedError) Unwrap() error { return asynq.SkipRetry }

// endInAsynq returns what asynq does with its copy of a task that has an outcome: archive it as
// failed, for the outcomes of ResultsConfig.Archive, or complete it, with the result where it keeps
// completed tasks.
func (d *deliverer) endInAsynq(j *job, recorded ledger.SettleResult) error {
	outcome := tasks.Outcome(recorded.Outcome)
	if slices.Contains(d.results.Archive, outcome) {
		return &archivedError{archiveText(outcome, recorded.Result)}
	}
	if d.results.AsynqRetention > 0 && j.resultWriter != nil {
		// Without it the completed task has no result. asynq's context may have ended, by a
		// "cancel" in its web UI.
		if _, err := j.resultWriter.Write(recorded.Result); err != nil {
			d.log.Debug("the result could not be written to asynq", j.attrs(slog.Any("err", err))...)
		}
	}
	return nil
}

// endAgain ends asynq's copy of a task that had an outcome before this run: an earlier run ended
// before asynq knew, the task was enqueued again by a plain asynq client, or an operator pressed
// "run" on its copy in the archive. That one is archived again, with an error that says what to do
// instead.
func (d *deliverer) endAgain(ctx context.Context, j *job) error {
	record, err := d.ledger.Record(ctx, j.App, j.ID)
	switch {
	case err != nil && !errors.Is(err, ledger.ErrNotFound):
		return retryLater(redisRetryDelay, "Redis did not answer")
	case record.Outcome == "": // expired since, or redriven, which takes the copy away
		return nil
	}
	err = d.endInAsynq(j, ledger.SettleResult{Outcome: record.Outcome, Result: record.Result})
	var archived *archivedError
	if errors.As(err, &archived) {
		archived.text += archivedAgain
		d.log.Info("already ended; not sent again", j.attrs(slog.String("outcome", record.Outcome))...)
	} else {
		d.log.Debug("already settled", j.attrs()...)
	}
	return err
}

// archivedAgain is added to the error of a task that was archived again.
const archivedAgain = " (not sent by this run, since it had ended before; to send it again: wxcourier redrive)"

// archiveText returns the text that the asynq web UI shows for an archived task: the outcome, its
// reason, and WeChat's answer.
func archiveText(outcome tasks.Outcome, result []byte) string {
	var r tasks.Result
	_ = json.Unmarshal(result, &r) // the zero Result still has the outcome
	parts := []string{string(outcome)}
	if r.Reason != "" {
		parts = append(parts, r.Reason)
	}
	if r.ErrCode != 0 && !strings.Contains(r.Reason, fmt.Sprintf("errcode %d", r.ErrCode)) {
		answer := fmt.Sprintf("errcode %d %s", r.ErrCode, r.ErrMsg)
		if r.RID != "" {
			answer += " rid: " + r.RID
		}
		parts = append(parts, answer)
	}
	return strings.Join(parts, ": ")
}
