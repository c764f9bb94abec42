package tasks

import (
	"bytes"
	"encoding/json"
	"time"
)

// MaxLine is the most bytes that a task's envelope may have as JSON. Nothing but an
// image check comes near it.
const MaxLine = 2 << 20

const (
	maxBody      = 64 << 10
	maxImageBody = 1500 << 10 // 1 MB of image is 1.34 MB of base64
	// An envelope nests its body one level deeper and has values of its own, so that
	// whatever passes as a body can be decoded again inside its payload.
	maxDepth  = 32
	maxValues = 40_000 // more than 64 KB of JSON can hold
)

// Envelope is what a producer hands over: one task. As JSON it is a line of a task
// file, the body of an HTTP request and the payload of the asynq task:
//
//	{"type":"send:subscribe","app":"wx0123456789abcdef","id":"order-42-shipped",
//	 "body":{"touser":"oAbc","template_id":"T1","data":{"thing1":{"value":"订单已发货"}}},
//	 "priority":"urgent","process_at":"2026-12-01T08:00:00+08:00",
//	 "not_after":"2026-12-01T20:00:00+08:00","batch":"spring-sale"}
//
// Type, App and Body are required. The zero value of any other field means that it
// was left out.
type Envelope struct {
	// Type is one of the catalog's: "send:subscribe".
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
	// ProcessAt is the earliest time at which it may be sent. It is due when the second is
	// over that this time is in. Its year is 2000 to 9998, as that of NotAfter.
	ProcessAt time.Time `json:"process_at,omitzero"`
	// NotAfter is the latest time at which it may be sent; later its outcome is
	// OutcomeExpired.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Batch groups tasks for counting, listing and cancelling:
	// ^[A-Za-z0-9._~-]{1,64}$.
	Batch string `json:"batch,omitempty"`
	// IgnoreHours sends it outside the app's hours (`hours` in the configuration) too.
	IgnoreHours bool `json:"ignore_hours,omitempty"`
}

// Queue is the asynq queue that the task belongs into.
func (e Envelope) Queue() string { return QueueName(e.App, e.Type, e.Priority) }

// TaskID is the task's id in asynq: "<app>:<id>".
func (e Envelope) TaskID() string { return e.App + ":" + e.ID }

// Receiver is the openid in the body, or "" for types without one.
func (e Envelope) Receiver() string {
	receiver, _ := e.Addressee()
	return receiver
}

// TemplateID is the template id in the body, or "" for types without one.
func (e Envelope) TemplateID() string {
	_, template := e.Addressee()
	return template
}

// Addressee is [Envelope.Receiver] and [Envelope.TemplateID] at the price of one.
func (e Envelope) Addressee() (receiver, template string) {
	row := lookup(e.Type)
	if row == nil || row.Receiver == "" && row.Template == "" {
		return "", ""
	}
	doc, fault := parse(e.Body, "body", bounds{maxDepth, maxValues})
	if fault != nil {
		return "", ""
	}
	defer doc.release()
	text := func(name string) string {
		if name == "" {
			return ""
		}
		if v := doc.root().member(name); v.kind() == kindString {
			return string(v.unquoted())
		}
		return ""
	}
	return text(row.Receiver), text(row.Template)
}

// Prepare is the door: it checks the envelope and, by the catalog's rules, its body,
// and makes the envelope ready to be enqueued at the time now. It makes an id where
// there is none, sets the priority, compacts the body, rewrites its \uXXXX escapes
// to raw UTF-8 (WeChat shows them to people, or answers 40033) with numbers and the
// order of keys untouched, and gives a template message without a client_msg_id one
// that is derived from the task's id.
//
// Fields of the body that the rules do not name pass through, and so does what only
// WeChat can judge. A not_after that has passed is no fault: the task will end as
// OutcomeExpired.
//
// The error is a *[ValidationError] with all faults at once; the envelope is then
// unchanged. Preparing twice changes nothing more.
func (e *Envelope) Prepare(now time.Time) error {
	return e.prepare(now, nil)
}

// prepare is Prepare, which also writes the task's digest where one is wanted.
func (e *Envelope) prepare(now time.Time, digest *string) error {
	c := checker{spec: lookup(e.Type), from: now}
	c.checkEnvelope(e)
	body := c.checkBody(e.Body)
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
	ready.Body = body.text
	if c.spec.Repeat == Deduped {
		ready.Body = withClientMsgID(body, clientMsgID(ready.App, ready.ID))
	}
	if limit := c.spec.maxBody(); len(ready.Body) > limit {
		c.faultAt("body", "%d bytes; at most %d are taken", len(ready.Body), limit)
		return validationError(c.faults)
	}
	if digest != nil {
		*digest = ready.digestOf(c.spec, body.root())
	}
	if bytes.Equal(ready.Body, e.Body) { // as it came; often it has been through here
		ready.Body = e.Body
	} else {
		body.text = nil // it may be ready.Body
	}
	body.release()
	*e = ready
	return nil
}

func (s *Spec) maxBody() int {
	if s.Multipart {
		return maxImageBody
	}
	return maxBody
}

// clientMsgIDField is what WeChat drops repeated template messages by:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
const clientMsgIDField = "client_msg_id"

// withClientMsgID sets the body's client_msg_id where the producer set none.
func withClientMsgID(body *document, id string) []byte {
	member := body.root().member(clientMsgIDField)
	switch {
	case member.kind() == kindAbsent:
		last := len(body.text) - 1 // the closing brace
		out := append(make([]byte, 0, last+len(clientMsgIDField)+len(id)+8), body.text[:last]...)
		if len(body.nodes) > 1 {
			out = append(out, ',')
		}
		out = append(out, `"`+clientMsgIDField+`":`...)
		return append(appendString(out, id), '}')
	case member.kind() == kindNull, len(member.raw()) == len(`""`):
		n := member.node()
		out := append([]byte(nil), body.text[:n.start]...)
		return append(appendString(out, id), body.text[n.end:]...)
	default:
		return body.text
	}
}

// Encode is the payload of the asynq task: the envelope as JSON, with nothing
// escaped that need not be. It fails for a body that is not JSON and for a time
// that RFC 3339 cannot hold; [Envelope.Prepare] has seen to both.
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
			dst = appendString(append(dst, name...), s)
		}
	}
	instant := func(name string, t time.Time) {
		if !t.IsZero() {
			dst = append(append(dst, name...), '"')
			dst = append(rfc3339Zone(t).AppendFormat(dst, time.RFC3339Nano), '"')
		}
	}
	dst = appendString(append(dst, `{"type":`...), e.Type)
	dst = appendString(append(dst, `,"app":`...), e.App)
	text(`,"id":`, e.ID)
	dst = append(append(dst, `,"body":`...), e.Body...)
	text(`,"priority":`, string(e.Priority))
	instant(`,"process_at":`, e.ProcessAt)
	instant(`,"not_after":`, e.NotAfter)
	text(`,"batch":`, e.Batch)
	if e.IgnoreHours {
		dst = append(dst, `,"ignore_hours":true`...)
	}
	return append(dst, '}')
}

// rfc3339Zone: RFC 3339 holds no zone offset with seconds in it.
func rfc3339Zone(t time.Time) time.Time {
	if _, offset := t.Zone(); offset%60 != 0 {
		return t.UTC()
	}
	return t
}
