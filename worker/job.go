package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/gate"
	"github.com/wxcourier/wxcourier/internal/ledger"
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

	lane    *lane
	app     App // as it was when the run began
	started *gate.StartedTask
	// resultWriter writes the result to asynq's copy; nil where asynq does not run the task.
	resultWriter *asynq.ResultWriter
	call         dispatch.Call
	trace        *runTrace // nil: no span
	endProbe     func()    // nil unless the lane's breaker has tripped and this task probes it
	unlock       func()    // unlocks the receiver; nil when it is not locked
	request      wechat.Request
	opened       ledger.OpenResult
	notified     bool             // OnSending was called
	consent      *consent.Checked // nil: the consent of the receiver does not matter
	answer       wechat.Answer
	completed    *tasks.Result // what a push says; nil: the answer tells the result
	err          error         // of the request or the call
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

// newJob decodes a task. The error is an *undecodableError.
func newJob(ctx context.Context, l *lane, runner string, t *asynq.Task) (*job, error) {
	queue, _ := asynq.GetQueueName(ctx)
	taskID, _ := asynq.GetTaskID(ctx)
	failed, _ := asynq.GetRetryCount(ctx)
	retries, _ := asynq.GetMaxRetry(ctx)
	j := &job{
		lane: l, queue: queue, runner: runner, failed: failed, retries: retries,
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
	if j.App != l.app || j.Lane() != l.typ {
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
	j.spec.Repeat = spec.RepeatOf(j.Body)
	j.receiver, j.template = j.ReceiverAndTemplate()
	j.call = dispatch.Call{
		App: j.App, Type: j.Type, Endpoint: wechat.Endpoint(spec.Path), Template: j.template, Bulk: j.Priority == tasks.Bulk,
		Log: j.attrs,
	}
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
	if j.opened.Admission == ledger.Proceed && !j.call.Called() {
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
func (j *job) why(v dispatch.Verdict) string {
	if j.err != nil {
		return j.err.Error()
	}
	return v.Reason
}
