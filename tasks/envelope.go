package tasks

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// MaxLine is the maximum size of a task's envelope as JSON, in bytes. Only image checks come
// near it.
const MaxLine = 2 << 20

const (
	maxBody      = 64 << 10
	maxImageBody = 1500 << 10 // an image of 1 MB is 1.34 MB of base64
	// The limits of a body. Those of an envelope are higher by one level and a few values,
	// so that every valid body can be decoded inside its payload.
	maxDepth  = 32
	maxValues = 40_000 // more than fit into 64 KB of JSON
)

// Envelope is one task as a producer writes it. Its JSON is a line of a task file, the body
// of an HTTP request and the payload of the asynq task:
//
//	{"type":"send:subscribe","app":"wx0123456789abcdef","id":"order-42-shipped",
//	 "body":{"touser":"oAbc","template_id":"T1","data":{"thing1":{"value":"订单已发货"}}},
//	 "priority":"urgent","process_at":"2026-12-01T08:00:00+08:00",
//	 "not_after":"2026-12-01T20:00:00+08:00","batch":"spring-sale"}
//
// Type, App and Body are required. Any other field may have its zero value, which means that
// it is absent.
type Envelope struct {
	// Type is a task type of the catalog: "send:subscribe".
	Type string `json:"type"`
	// App is the app id of the mini program or official account: ^wx[0-9a-f]{16}$.
	App string `json:"app"`
	// ID is the producer's idempotency key, unique within its app:
	// ^[A-Za-z0-9._~-]{1,128}$. Prepare makes one where it is empty.
	ID string `json:"id,omitempty"`
	// Body is WeChat's own request body, a JSON object of at most 64 KB (an image
	// check's: 1,500 KB).
	Body json.RawMessage `json:"body"`
	// Priority is Urgent (the default) or Bulk.
	Priority Priority `json:"priority,omitempty"`
	// ProcessAt is the earliest time at which the task may be sent, rounded up to a whole
	// second. The years 2000 to 9998 are allowed, as for NotAfter.
	ProcessAt time.Time `json:"process_at,omitzero"`
	// NotAfter is the latest time at which the task may be sent; after it the outcome is
	// OutcomeExpired.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Batch groups tasks for counting, listing and canceling:
	// ^[A-Za-z0-9._~-]{1,64}$.
	Batch string `json:"batch,omitempty"`
	// IgnoreHours allows sending outside the app's hours (`hours` in the configuration).
	IgnoreHours bool `json:"ignore_hours,omitempty"`
	// Plaintext makes the link of a scheme:generate task without a call (明文 URL Scheme): see
	// [Envelope.PlaintextScheme].
	Plaintext bool `json:"plaintext,omitempty"`
	// TraceParent is the W3C trace context of the producer; see [TraceParent]. It is no field of
	// the JSON: asynq carries it as a header.
	TraceParent string `json:"-"`
	// Fixed is what a [Client] changed in the body, because the app's configuration allows it; see
	// [Result.Fixed]. A producer leaves it empty: only the payload of the asynq task carries it.
	Fixed []string `json:"-"`
}

// Queue returns the name of the task's asynq queue.
func (e Envelope) Queue() string { return QueueName(e.App, e.Lane(), e.Priority) }

// Lane returns the lane of the task: its type or, with Plaintext, [PlaintextLane].
func (e Envelope) Lane() string {
	if e.Plaintext {
		return PlaintextLane
	}
	return e.Type
}

// TaskID returns the task's id in asynq: "<app>:<id>".
func (e Envelope) TaskID() string { return e.App + ":" + e.ID }

// Receiver returns the openid in the body, or "" for types without one.
func (e Envelope) Receiver() string {
	receiver, _ := e.ReceiverAndTemplate()
	return receiver
}

// TemplateID returns the template id in the body, or "" for types without one.
func (e Envelope) TemplateID() string {
	_, template := e.ReceiverAndTemplate()
	return template
}

// ReceiverAndTemplate returns [Envelope.Receiver] and [Envelope.TemplateID]. It parses the body once.
func (e Envelope) ReceiverAndTemplate() (receiver, template string) {
	row := lookup(e.Type)
	if row == nil || row.Receiver == "" && row.Template == "" {
		return "", ""
	}
	doc, fault := parseBody(e.Body)
	if fault != nil {
		return "", ""
	}
	defer doc.Release()
	return memberText(doc.Root(), row.Receiver), memberText(doc.Root(), row.Template)
}

// memberText returns the text of a member of a body, or "" without one; a name of "" is none.
func memberText(body strictjson.Value, name string) string {
	if name == "" {
		return ""
	}
	if v := body.Member(name); v.Kind() == strictjson.String {
		return string(v.Unquoted())
	}
	return ""
}

func parseBody(body []byte) (*strictjson.Document, *strictjson.Fault) {
	return strictjson.Parse(body, "body", strictjson.Limits{Depth: maxDepth, Values: maxValues})
}

// Prepare checks the envelope and, by the catalog's rules, its body, and completes the
// envelope so that it can be enqueued at the time now. It makes an id if there is none, sets
// the priority, compacts the body and rewrites its \uXXXX escapes to raw UTF-8 (WeChat shows
// them to people, or answers 40033); numbers and the order of keys stay. A template message
// without a client_msg_id gets one that is derived from the task's id.
//
// Fields of the body without a rule are not checked, nor are rules that only WeChat can
// check. A not_after in the past is no fault: the task will end as OutcomeExpired.
//
// The error is a *[ValidationError] with all faults; the envelope is then unchanged.
// Preparing an envelope again does not change it.
//
// Prepare does not know the app's configuration: where `templates.fix` is true, a [Client] cuts a
// thing that is too long, which Prepare reports as a fault.
func (e *Envelope) Prepare(now time.Time) error {
	return e.prepare(checker{from: now}, nil)
}

// prepare implements Prepare. c has the time, and may say what is not checked. If m is not nil, prepare
// also sets the task's marking.
func (e *Envelope) prepare(c checker, m *marking) error {
	c.spec = lookup(e.Type)
	c.checkEnvelope(e)
	text := e.Body
	if m != nil {
		text = m.fix(e, c.spec)
	}
	body := c.checkBody(text)
	if m != nil && len(c.faults) == 0 {
		m.compare(&c, body.Root())
	}
	if len(c.faults) > 0 {
		return validationError(c.faults)
	}

	ready := *e
	if ready.ID == "" {
		ready.ID = newID()
	}
	if ready.Priority == "" {
		ready.Priority = Urgent
	}
	ready.Body = body.Text()
	if c.spec.Repeat == Deduped {
		ready.Body = withClientMsgID(body, clientMsgID(ready.App, ready.ID))
	}
	if limit := c.spec.maxBody(); len(ready.Body) > limit {
		c.faultAt("body", "%d bytes; at most %d are allowed", len(ready.Body), limit)
		return validationError(c.faults)
	}
	if m != nil {
		m.receiver = memberText(body.Root(), c.spec.Receiver)
		if len(m.fixed) == 0 { // else it is that of the original
			m.digest = ready.digestOf(c.spec, body.Root())
		}
		ready.Fixed = append(ready.Fixed, m.fixed...)
	}
	if bytes.Equal(ready.Body, e.Body) { // often, since envelopes are prepared more than once
		ready.Body = e.Body
	} else {
		body.KeepText() // ready.Body may be this slice
	}
	body.Release()
	*e = ready
	return nil
}

func (s *Spec) maxBody() int {
	if s.Multipart {
		return maxImageBody
	}
	return maxBody
}

// clientMsgIDField is the member by which WeChat recognizes repeated template messages:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
const clientMsgIDField = "client_msg_id"

// withClientMsgID returns the body with client_msg_id set to id, unless the producer set one.
func withClientMsgID(body *strictjson.Document, id string) []byte {
	text, member := body.Text(), body.Root().Member(clientMsgIDField)
	switch {
	case member.Kind() == strictjson.Absent:
		last := len(text) - 1 // the closing brace
		out := append(make([]byte, 0, last+len(clientMsgIDField)+len(id)+8), text[:last]...)
		if !body.Root().IsEmpty() {
			out = append(out, ',')
		}
		out = append(out, `"`+clientMsgIDField+`":`...)
		return append(strictjson.AppendQuote(out, id), '}')
	case member.Kind() == strictjson.Null, len(member.Raw()) == len(`""`):
		start, end := member.Span()
		out := append([]byte(nil), text[:start]...)
		return append(strictjson.AppendQuote(out, id), text[end:]...)
	default:
		return text
	}
}

// Encode returns the payload of the asynq task: the envelope as JSON with the necessary
// escapes only. It returns an error for a body that is not JSON and for a time that RFC 3339
// cannot represent; an envelope that passed [Envelope.Prepare] has neither.
func (e Envelope) Encode() ([]byte, error) {
	if !json.Valid(e.Body) {
		return nil, &ValidationError{Fields: []FieldError{{Path: "body", Problem: "not valid JSON"}}}
	}
	var c checker
	c.checkTimes(&e)
	if err := validationError(c.faults); err != nil {
		return nil, err
	}
	return e.payload(), nil
}

// payload encodes a prepared envelope.
func (e *Envelope) payload() []byte {
	dst := make([]byte, 0, 256+len(e.Body))
	text := func(name, s string) {
		if s != "" {
			dst = strictjson.AppendQuote(append(dst, name...), s)
		}
	}
	instant := func(name string, t time.Time) {
		if !t.IsZero() {
			dst = append(append(dst, name...), '"')
			dst = append(rfc3339Zone(t).AppendFormat(dst, time.RFC3339Nano), '"')
		}
	}
	dst = strictjson.AppendQuote(append(dst, `{"type":`...), e.Type)
	dst = strictjson.AppendQuote(append(dst, `,"app":`...), e.App)
	text(`,"id":`, e.ID)
	dst = append(append(dst, `,"body":`...), e.Body...)
	text(`,"priority":`, string(e.Priority))
	instant(`,"process_at":`, e.ProcessAt)
	instant(`,"not_after":`, e.NotAfter)
	text(`,"batch":`, e.Batch)
	if e.IgnoreHours {
		dst = append(dst, `,"ignore_hours":true`...)
	}
	if e.Plaintext {
		dst = append(dst, `,"plaintext":true`...)
	}
	for i, fixed := range e.Fixed {
		text([...]string{`,"fixed":[`, `,`}[min(i, 1)], fixed)
	}
	if len(e.Fixed) > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// rfc3339Zone returns t, in UTC if its zone offset has seconds: RFC 3339 cannot represent
// such an offset.
func rfc3339Zone(t time.Time) time.Time {
	if _, offset := t.Zone(); offset%60 != 0 {
		return t.UTC()
	}
	return t
}
