package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// The headers that our asynq tasks may carry.
const (
	// HeaderEnqueuedAt holds the time of enqueuing, in RFC 3339 with nanoseconds. Only a task
	// that a plain asynq.Client enqueues has it: of a [Client]'s the ledger knows the time.
	HeaderEnqueuedAt = "wxcourier-enqueued-at"
	// HeaderTraceParent holds a W3C trace context, where the producer gave one.
	HeaderTraceParent = "traceparent"
)

const (
	// MaxRetry is asynq's retry limit for our tasks. It is far out of reach since
	// asynq archives a task at its limit even when it only waited for its turn; the
	// worker counts attempts itself.
	MaxRetry = 1_000_000
	// MarkedRetry in its place says that a [Client] marked the task's id before it enqueued
	// it, with the time of enqueuing: a task that the ledger does not know all the same has
	// run out. The number takes no byte more; a header of any length would take one waiting
	// task in ten to Redis' next larger piece of memory.
	MarkedRetry = MaxRetry + 1
	// handlerTimeout is asynq's time limit for a handler. It is far out of reach
	// since asynq runs a task again while a handler past it goes on.
	handlerTimeout = 24 * time.Hour
)

// An Option sets what is in the envelope beside type, app and body.
type Option func(*draft)

// draft is a task in the making.
type draft struct {
	Envelope
	traceParent string
	marked      bool   // by the client
	digest      string // of what it sends; of a marked task
}

// ID sets the producer's idempotency key; without it one is made.
func ID(id string) Option { return func(d *draft) { d.ID = id } }

// WithPriority sets the priority; without it a task is Urgent.
func WithPriority(p Priority) Option { return func(d *draft) { d.Priority = p } }

// ProcessAt sets the earliest time of sending.
func ProcessAt(t time.Time) Option { return func(d *draft) { d.ProcessAt = t } }

// NotAfter sets the latest time of sending; later the outcome is OutcomeExpired.
func NotAfter(t time.Time) Option { return func(d *draft) { d.NotAfter = t } }

// InBatch puts the task into a batch.
func InBatch(name string) Option { return func(d *draft) { d.Batch = name } }

// IgnoreHours lets the task be sent outside the app's sending hours; see
// [Envelope.IgnoreHours].
func IgnoreHours() Option { return func(d *draft) { d.IgnoreHours = true } }

// TraceParent hands a W3C trace context on to the worker
// (https://www.w3.org/TR/trace-context/#traceparent-header).
func TraceParent(header string) Option { return func(d *draft) { d.traceParent = header } }

// NewTask prepares the envelope and makes an asynq task of it that carries its
// queue, id, retry limit and time of processing, so that any asynq.Client can
// enqueue it. The error is a *[ValidationError].
func NewTask(e Envelope) (*asynq.Task, error) {
	d := draft{Envelope: e}
	return d.build(time.Now())
}

func (d *draft) build(now time.Time) (*asynq.Task, error) {
	if d.traceParent != "" && !validTraceParent(d.traceParent) {
		return nil, &ValidationError{Fields: []FieldError{{
			Path:    HeaderTraceParent,
			Problem: "not a W3C trace context: 00-<32 hex>-<16 hex>-<2 hex> is expected",
		}}}
	}
	var digest *string
	if d.marked {
		digest = &d.digest
	}
	if err := d.prepare(now, digest); err != nil {
		return nil, err
	}
	return d.buildPrepared(now), nil
}

// buildPrepared is the asynq task of an envelope that Prepare has passed.
func (d *draft) buildPrepared(now time.Time) *asynq.Task {
	headers, retries := make(map[string]string, 1), MarkedRetry
	if !d.marked {
		headers[HeaderEnqueuedAt], retries = now.Format(time.RFC3339Nano), MaxRetry
	}
	if d.traceParent != "" {
		headers[HeaderTraceParent] = d.traceParent
	}
	opts := []asynq.Option{
		asynq.Queue(d.Queue()),
		asynq.TaskID(d.TaskID()),
		asynq.MaxRetry(retries),
		asynq.Timeout(handlerTimeout),
	}
	if !d.ProcessAt.IsZero() {
		opts = append(opts, asynq.ProcessAt(ceilSecond(d.ProcessAt, now)))
	}
	return asynq.NewTaskWithHeaders(d.Type, d.payload(), headers, opts...)
}

// ceilSecond rounds a time that is to come up to the next second: asynq keeps whole seconds
// of it and cuts the rest off, which would send the task early.
func ceilSecond(at, now time.Time) time.Time {
	if whole := at.Truncate(time.Second); at.After(now) && whole.Before(at) {
		return whole.Add(time.Second)
	}
	return at
}

// EnqueuedAt reads the time of enqueuing from a task's headers. It is zero for a task that
// a [Client] marked, of which the ledger knows it, and for one of somebody who does not set
// the header.
func EnqueuedAt(headers map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, headers[HeaderEnqueuedAt])
	if err != nil {
		return time.Time{}
	}
	return at.Local()
}

// validTraceParent: version, trace id, parent id and flags, in small hex digits.
func validTraceParent(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 4 {
		return false
	}
	for i, size := range [...]int{2, 32, 16, 2} {
		if len(parts[i]) != size || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return false
		}
	}
	return true
}

// newTyped makes a task of a typed payload.
func newTyped(typ, app string, payload any, opts []Option) (*asynq.Task, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("tasks: encode the body of %s: %w", typ, err)
	}
	if hasReplacementEscape(body) {
		return nil, &ValidationError{Fields: []FieldError{{
			Path: "body", Problem: "text that is not UTF-8: send text as UTF-8",
		}}}
	}
	d := draft{Envelope: Envelope{Type: typ, App: app, Body: body}}
	for _, opt := range opts {
		opt(&d)
	}
	return d.build(time.Now())
}

// hasReplacementEscape finds the escape that encoding/json writes in place of bytes that are
// not UTF-8. A backslash in front of it belongs to the text.
func hasReplacementEscape(body []byte) bool {
	const escape = `\ufffd`
	for rest := body; ; {
		i := bytes.Index(rest, []byte(escape))
		if i < 0 {
			return false
		}
		slashes := 0
		for at := i - 1; at >= 0 && rest[at] == '\\'; at-- {
			slashes++
		}
		if slashes%2 == 0 {
			return true
		}
		rest = rest[i+len(escape):]
	}
}
