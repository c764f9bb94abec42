package tasks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

// The headers of our asynq tasks.
const (
	// HeaderEnqueuedAt is the time of enqueuing, in RFC 3339 with nanoseconds. Only tasks
	// for a plain asynq.Client have it: for tasks of a [Client] the ledger has the time.
	HeaderEnqueuedAt = "wxcourier-enqueued-at"
	// HeaderTraceParent is a W3C trace context, if the producer gave one that is sampled.
	HeaderTraceParent = "traceparent"
)

const (
	// MaxRetry is asynq's retry limit for our tasks. It is too high to be reached, because
	// asynq archives a task at its limit even if the task only waited; the worker counts
	// attempts itself.
	MaxRetry = 1_000_000
	// MarkedRetry replaces MaxRetry if a [Client] marked the task's id, with the time of
	// enqueuing, before it enqueued the task. If the ledger does not know such a task, its
	// record has expired. The number needs no additional byte; a header would move one
	// waiting task in ten to Redis' next larger allocation size.
	MarkedRetry = MaxRetry + 1
	// handlerTimeout is asynq's timeout of a handler. It is too long to be reached, because
	// asynq runs a task again while a handler past its timeout still runs.
	handlerTimeout = 24 * time.Hour
)

// An Option sets a field of the envelope other than type, app and body.
type Option func(*draft)

// draft is a task that is being built.
type draft struct {
	Envelope
	marked bool // the client marks the id in the ledger
	marking
}

// marking is what the client tells the ledger about a task besides its envelope.
type marking struct {
	digest   string // of type and body; see digestOf
	receiver string // the openid in the body, or ""
	comparison
}

// ID sets the producer's idempotency key; without it a random one is made.
func ID(id string) Option { return func(d *draft) { d.ID = id } }

// WithPriority sets the priority; without it a task is Urgent.
func WithPriority(p Priority) Option { return func(d *draft) { d.Priority = p } }

// ProcessAt sets the earliest time of sending; see [Envelope.ProcessAt].
func ProcessAt(t time.Time) Option { return func(d *draft) { d.ProcessAt = t } }

// NotAfter sets the latest time of sending; after it the outcome is OutcomeExpired.
func NotAfter(t time.Time) Option { return func(d *draft) { d.NotAfter = t } }

// InBatch adds the task to a batch.
func InBatch(name string) Option { return func(d *draft) { d.Batch = name } }

// IgnoreHours lets the task be sent outside the app's sending hours; see
// [Envelope.IgnoreHours].
func IgnoreHours() Option { return func(d *draft) { d.IgnoreHours = true } }

// Plaintext makes the link of a scheme:generate task without a call; see [Envelope.PlaintextScheme].
func Plaintext() Option { return func(d *draft) { d.Plaintext = true } }

// TraceParent sends the W3C trace context of the producer to the worker, in the form of the HTTP
// header of that name (https://www.w3.org/TR/trace-context/#traceparent-header), so that the spans
// of the delivery belong to the producer's trace. A context that is not sampled is checked but not
// sent; "" is none.
func TraceParent(header string) Option { return func(d *draft) { d.TraceParent = header } }

// NewTask prepares the envelope and returns its asynq task, which has its queue, id, retry
// limit and time of processing as options, so that any asynq.Client can enqueue it. The error
// is a *[ValidationError].
//
// Whether a thing of a subscribe message may be longer than 20 characters is for the app's
// configuration to say (`templates.fix` cuts it), which NewTask and the other constructors do not know:
// they leave that check to [Client.Enqueue]. Of a plain asynq.Client WeChat gets it as it is, and
// refuses it (47003).
func NewTask(e Envelope) (*asynq.Task, error) {
	d := draft{Envelope: e}
	return d.build(time.Now())
}

// build prepares the envelope and returns its asynq task.
func (d *draft) build(now time.Time) (*asynq.Task, error) {
	if d.TraceParent != "" && !validTraceParent(d.TraceParent) {
		return nil, &ValidationError{Fields: []FieldError{{
			Path:    HeaderTraceParent,
			Problem: "not a W3C trace context: 00-<32 hex>-<16 hex>-<2 hex> is expected",
		}}}
	}
	var m *marking
	if d.marked {
		m = &d.marking
	}
	if err := d.prepare(checker{from: now, anyLength: !d.marked}, m); err != nil {
		return nil, err
	}
	return d.buildPrepared(now), nil
}

// buildPrepared returns the asynq task of a prepared envelope.
func (d *draft) buildPrepared(now time.Time) *asynq.Task {
	headers, retries := make(map[string]string, 1), MarkedRetry
	if !d.marked {
		headers[HeaderEnqueuedAt], retries = now.Format(time.RFC3339Nano), MaxRetry
	}
	if sampled(d.TraceParent) {
		headers[HeaderTraceParent] = d.TraceParent
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

// ceilSecond rounds a future time up to a whole second. asynq truncates times to seconds,
// which would send the task early.
func ceilSecond(at, now time.Time) time.Time {
	if whole := at.Truncate(time.Second); at.After(now) && whole.Before(at) {
		return whole.Add(time.Second)
	}
	return at
}

// EnqueuedAt returns the time of enqueuing in a task's headers, or the zero time if there is
// none: a [Client] writes the time to the ledger instead.
func EnqueuedAt(headers map[string]string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, headers[HeaderEnqueuedAt])
	if err != nil {
		return time.Time{}
	}
	return at.Local()
}

// validTraceParent reports whether s has a version, a trace id, a parent id and flags, in
// lower-case hexadecimal digits.
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

// sampled reports whether a valid trace context has the flag "sampled". Others are not carried: they
// would take 66 bytes of Redis' memory a task, and lead to no span.
func sampled(traceParent string) bool {
	return traceParent != "" && strings.IndexByte("13579bdf", traceParent[len(traceParent)-1]) >= 0
}

// newTyped returns the task of a typed payload.
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

// hasReplacementEscape reports whether the JSON contains the escape that encoding/json writes
// for bytes that are not UTF-8. An escaped backslash before ufffd is not that escape.
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
