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

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// A job is one run of one task: what came from asynq, and what became of it.
type job struct {
	tasks.Envelope
	spec       tasks.Spec
	receiver   string // the openid that the body is for, or ""
	template   string // the template that it uses, or ""
	queue      string
	runner     string            // unique to this run
	failed     int               // attempts that failed before, as asynq counts them
	retries    int               // asynq's limit of them
	marked     bool              // its producer marked it
	enqueuedAt time.Time         // as a header says it; of a marked task, opened does
	payload    []byte            // as asynq has it, for a redrive
	headers    map[string]string // of asynq's, likewise

	permit    *ratelimit.Permit // in hand; nil when there is none, or it was used
	unlock    func()            // of the receiver's lock
	request   wechat.Request
	opened    ledger.OpenResult
	notified bool // OnSending was told
	called    bool // WeChat was called
	answer    wechat.Answer
	err       error // of the request or the call
}

// undecodableError is a task that no attempt can be made for.
type undecodableError struct {
	app, typ, id, batch, queue string
	why                        error
}

func (e *undecodableError) Error() string { return fmt.Sprintf("the task cannot be decoded: %v", e.why) }
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
		return bad(fmt.Errorf("it is for another queue than %s", queue))
	}
	if j.TaskID() != taskID {
		return bad(errors.New("its id is not the one that asynq has for it"))
	}
	spec, ok := tasks.Lookup(j.Type)
	if !ok {
		return bad(errors.New("its type is not in the catalog"))
	}
	j.spec = spec
	j.receiver, j.template = j.Addressee()
	return j, nil
}

// batchOf reads what it can of a payload that cannot be decoded, for the counters.
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

// receiverKey names the receiver whose lock a message takes; checks and links take none.
func (j *job) receiverKey() string {
	if j.spec.Kind != tasks.Message {
		return ""
	}
	if j.receiver == "" {
		return ""
	}
	return j.App + " " + j.receiver
}

// expired tells whether the task's not_after has passed.
func (j *job) expired(now time.Time) bool { return !j.NotAfter.IsZero() && now.After(j.NotAfter) }

// attempts is how many runs called WeChat.
func (j *job) attempts() int {
	if j.opened.Admission == ledger.Proceed && !j.called {
		return j.opened.Attempts - 1 // this one did not
	}
	return j.opened.Attempts
}

// capped tells whether asynq would archive the task rather than bring it back. Only a
// producer that set asynq's MaxRetry itself meets this.
func (j *job) capped() bool { return j.failed >= j.retries }

func (j *job) attrs(more ...any) []any {
	return append([]any{
		slog.String("app", j.App), slog.String("type", j.Type), slog.String("task", j.ID),
		slog.Int("attempt", j.attempts()),
	}, more...)
}

// why is what asynq keeps as the task's last error; it is shown in the asynq web UI.
func (j *job) why(v verdict) string {
	if j.err != nil {
		return j.err.Error()
	}
	return v.reason
}

// guardError says that a task must not be sent, before any call: never, or not now.
type guardError struct {
	outcome tasks.Outcome // "" is not now
	reason  string
	delay   time.Duration // of "not now"; 0 is crowdPause
}

func (e *guardError) Error() string { return "not sent: " + e.reason }

func (e *guardError) verdict() verdict {
	v := verdict{outcome: e.outcome, reason: e.reason}
	if e.outcome == "" {
		v.delay = cmp.Or(e.delay, shortDelay)
	}
	return v
}

// panicError stands for a panic; the value is not kept, it may hold anything.
type panicError struct{}

func (*panicError) Error() string { return "panic in a delivery" }

// noAnswer tells whether WeChat may have taken the request although it did not say so.
// It is total; what it does not know, it holds possible.
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

// handedBack tells asynq to bring a task back after a delay.
type handedBack struct {
	delay  time.Duration
	counts bool
	why    string
	place  place // in the queue, delay means nothing
}

func (e *handedBack) Error() string { return e.why }

// retryLater hands a task back without fault of its own.
func retryLater(delay time.Duration, why string) error { return &handedBack{delay: delay, why: why} }

// retryDelay is asynq's RetryDelayFunc. asynq keeps whole seconds and cuts the rest
// off; up to one second more makes sure that no task is back early.
func retryDelay(_ int, err error, _ *asynq.Task) time.Duration {
	var back *handedBack
	if errors.As(err, &back) {
		if back.place != retrySet {
			return requeueDelay(back.place, time.Now())
		}
		if back.delay <= 0 {
			return 0
		}
		return back.delay + time.Second - time.Nanosecond
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return time.Hour // past its deadline in asynq; expire has ended it
	}
	return 0 // a lost lease: the record says when its runner is dead
}

// isFailure is asynq's IsFailure: only what counts raises asynq's own retry count,
// which is the count of our attempts.
func isFailure(err error) bool {
	var back *handedBack
	return errors.As(err, &back) && back.counts
}
