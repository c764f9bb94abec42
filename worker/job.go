package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// A job is one run of one task: the task as it came from asynq, and the state of the run.
type job struct {
	tasks.Envelope
	spec       tasks.Spec
	receiver   string // the openid in the body, or ""
	template   string // the template id in the body, or ""
	queue      string
	runner     string            // unique to this run
	failed     int               // attempts that failed before, by asynq's retry count
	retries    int               // asynq's MaxRetry
	marked     bool              // the producer marked the task in the ledger
	enqueuedAt time.Time         // from a header; zero for a marked task, whose time is in opened
	payload    []byte            // asynq's payload, kept for a redrive
	headers    map[string]string // asynq's headers, likewise

	permit   *ratelimit.Permit // nil when there is none, or it was used
	unlock   func()            // unlocks the receiver and ends the probe
	request  wechat.Request
	opened   ledger.OpenResult
	notified bool // OnSending was called
	called   bool // WeChat was called
	answer   wechat.Answer
	err      error // of the request or the call
}

// undecodableError describes a task whose payload cannot be decoded, so that no attempt is
// possible.
type undecodableError struct {
	app, typ, id, batch, queue string
	why                        error
}

func (e *undecodableError) Error() string {
	return fmt.Sprintf("the task cannot be decoded: %v", e.why)
}
func (e *undecodableError) Unwrap() error { return e.why }

func newJob(ctx context.Context, l *lane, t *asynq.Task) (*job, error) {
	queue, _ := asynq.GetQueueName(ctx)
	taskID, _ := asynq.GetTaskID(ctx)
	failed, _ := asynq.GetRetryCount(ctx)
	retries, _ := asynq.GetMaxRetry(ctx)
	j := &job{
		queue: queue, runner: l.replica.newRunner(), failed: failed, retries: retries,
		marked: retries == tasks.MarkedRetry, enqueuedAt: tasks.EnqueuedAt(t.Headers()),
		payload: t.Payload(), headers: t.Headers(),
	}
	bad := func(err error) (*job, error) {
		return nil, &undecodableError{
			app: l.app, typ: l.typ, id: strings.TrimPrefix(taskID, l.app+":"), batch: batchOf(t.Payload()), queue: queue, why: err,
		}
	}
	var err error
	if j.Envelope, err = tasks.DecodePayload(t.Payload()); err != nil {
		return bad(err)
	}
	if j.App != l.app || j.Type != l.typ {
		return bad(fmt.Errorf("it belongs to another queue than %s", queue))
	}
	if j.TaskID() != taskID {
		return bad(errors.New("its id differs from its task id in asynq"))
	}
	spec, ok := tasks.Lookup(j.Type)
	if !ok {
		return bad(errors.New("its type is not in the catalog"))
	}
	j.spec = spec
	j.receiver, j.template = j.ReceiverAndTemplate()
	return j, nil
}

// batchOf returns the batch in a payload that cannot be decoded, or "", for the counters.
func batchOf(payload []byte) string {
	var e struct {
		Batch string `json:"batch"`
	}
	if json.Unmarshal(payload, &e) != nil || !tasks.ValidBatch(e.Batch) {
		return ""
	}
	return e.Batch
}

func (j *job) ref() ledger.Ref { return ledger.Ref{App: j.App, ID: j.ID, Batch: j.Batch} }

// receiverKey returns the name of the lock that a message takes; "" for checks and links,
// which take none.
func (j *job) receiverKey() string {
	if j.spec.Kind != tasks.Message {
		return ""
	}
	if j.receiver == "" {
		return ""
	}
	return j.App + " " + j.receiver
}

// expired reports whether the task's not_after has passed.
func (j *job) expired(now time.Time) bool { return !j.NotAfter.IsZero() && now.After(j.NotAfter) }

// attempts returns how many runs of the task called WeChat.
func (j *job) attempts() int {
	if j.opened.Admission == ledger.Proceed && !j.called {
		return j.opened.Attempts - 1 // open counted this run, which did not
	}
	return j.opened.Attempts
}

// capped reports whether asynq would archive the task instead of retrying it. That happens
// only where the producer set asynq's MaxRetry itself.
func (j *job) capped() bool { return j.failed >= j.retries }

func (j *job) attrs(more ...any) []any {
	return append([]any{
		slog.String("app", j.App), slog.String("type", j.Type), slog.String("task", j.ID),
		slog.Int("attempt", j.attempts()),
	}, more...)
}

// why returns the text that asynq stores as the task's last error, for its web UI.
func (j *job) why(v verdict) string {
	if j.err != nil {
		return j.err.Error()
	}
	return v.reason
}

// guardError means that a task must not be sent, now or ever. No request was written.
type guardError struct {
	outcome tasks.Outcome // the task's end; "" when it may be sent later
	reason  string
	delay   time.Duration // until the task may be sent; 0 means shortDelay
}

func (e *guardError) Error() string { return "not sent: " + e.reason }

func (e *guardError) verdict() verdict {
	v := verdict{outcome: e.outcome, reason: e.reason}
	if e.outcome == "" {
		v.delay = cmp.Or(e.delay, shortDelay)
	}
	return v
}

// panicError stands for a panic. It leaves out the value, which may contain a secret.
type panicError struct{}

func (*panicError) Error() string { return "panic in a delivery" }

// noAnswer reports whether WeChat may have taken the request without an answer. It returns
// true for errors that it does not know.
func noAnswer(err error) bool {
	var (
		api   *wechat.APIError
		guard *guardError
		media *mediaError
	)
	if errors.As(err, &api) || errors.As(err, &guard) || errors.As(err, &media) {
		return false
	}
	return wechat.Written(err)
}

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
