package tasks

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
)

// ParseEnvelope reads one task from the JSON that a producer wrote: a line of a file or the
// body of a request. It is strict about the envelope. Errors are: an unknown field (the
// error suggests the nearest name), a value of the wrong JSON type, a duplicate key, data
// after the object, bytes that are not UTF-8, and a time in the year 1, which is the zero
// time of Go and other languages. A null counts as an absent field. [Envelope.Prepare]
// checks the values and the body.
//
// The error is a *[ValidationError].
func ParseEnvelope(line []byte) (Envelope, error) {
	return decode(line, true)
}

// DecodePayload reads the envelope from the payload of an asynq task. It ignores unknown
// fields, so that a worker can read the tasks of a newer producer. The fields type, app, id
// and body must be present. The error is a *[ValidationError].
func DecodePayload(payload []byte) (Envelope, error) {
	e, err := decode(payload, false)
	if err != nil {
		return e, err
	}
	var c checker
	for _, field := range [...]struct{ name, value string }{
		{"type", e.Type}, {"app", e.App}, {"id", e.ID}, {"body", string(e.Body)},
	} {
		if field.value == "" {
			c.faultAt(field.name, "required")
		}
	}
	return e, validationError(c.faults)
}

// envelopeFields lists the members of an envelope, each with the function that reads it.
var envelopeFields = [...]struct {
	name string
	read func(*checker, *Envelope, strictjson.Value)
}{
	{"type", func(c *checker, e *Envelope, v strictjson.Value) { e.Type = c.stringField(v) }},
	{"app", func(c *checker, e *Envelope, v strictjson.Value) { e.App = c.stringField(v) }},
	{"id", func(c *checker, e *Envelope, v strictjson.Value) { e.ID = c.stringField(v) }},
	{"body", func(_ *checker, e *Envelope, v strictjson.Value) { e.Body = bytes.Clone(v.Raw()) }},
	{"priority", func(c *checker, e *Envelope, v strictjson.Value) { e.Priority = Priority(c.stringField(v)) }},
	{"process_at", func(c *checker, e *Envelope, v strictjson.Value) { e.ProcessAt = c.timeField(v) }},
	{"not_after", func(c *checker, e *Envelope, v strictjson.Value) { e.NotAfter = c.timeField(v) }},
	{"batch", func(c *checker, e *Envelope, v strictjson.Value) { e.Batch = c.stringField(v) }},
	{"ignore_hours", func(c *checker, e *Envelope, v strictjson.Value) { e.IgnoreHours = c.boolField(v) }},
	{"plaintext", func(c *checker, e *Envelope, v strictjson.Value) { e.Plaintext = c.boolField(v) }},
}

func decode(line []byte, strict bool) (Envelope, error) {
	c := checker{strict: strict}
	var e Envelope
	if len(line) > MaxLine {
		c.faultAt("", "%d bytes; a task has at most %d", len(line), MaxLine)
		return e, validationError(c.faults)
	}
	line = bytes.TrimPrefix(line, []byte("\uFEFF")) // the byte order mark that editors on Windows write
	doc, fault := strictjson.Parse(line, "", strictjson.Limits{Depth: maxDepth + 1, Values: maxValues + 100})
	if fault != nil {
		return e, validationError([]FieldError{FieldError(*fault)})
	}
	defer doc.Release() // the envelope holds copies
	if got := doc.Root().Kind(); got != strictjson.Object {
		c.faultAt("", `must be a JSON object such as {"type":…,"app":…,"body":{…}}, not %s`, got)
		return e, validationError(c.faults)
	}
	for v := range doc.Root().Elements() {
		c.decodeField(&e, v)
	}
	return e, validationError(c.faults)
}

// decodeField reads one member of an envelope.
func (c *checker) decodeField(e *Envelope, v strictjson.Value) {
	for i := range envelopeFields {
		if f := &envelopeFields[i]; string(v.Key()) == f.name {
			if v.Present() {
				f.read(c, e, v)
			}
			return
		}
	}
	switch {
	case c.strict:
		c.fault(v, "%s", unknownField(string(v.Key())))
	case string(v.Key()) == "fixed" && v.Kind() == strictjson.Array: // a client wrote it, see Envelope.Fixed
		for fixed := range v.Elements() {
			e.Fixed = append(e.Fixed, c.stringField(fixed))
		}
	}
}

// unknownField describes the fault of an unknown field, with the nearest known name.
func unknownField(name string) string {
	known := make([]string, 0, len(envelopeFields))
	for _, f := range envelopeFields {
		known = append(known, f.name)
	}
	if meant, ok := suggest.Name(name, known); ok {
		return fmt.Sprintf("unknown field; did you mean %q?", meant)
	}
	return "unknown field; an envelope has " + strings.Join(known, ", ") + ", and WeChat's own fields go inside body"
}

// stringField, boolField and timeField read a field of the envelope.

func (c *checker) stringField(v strictjson.Value) string {
	if !c.want(v, strictjson.String, "") {
		return ""
	}
	return string(v.Unquoted())
}

func (c *checker) boolField(v strictjson.Value) bool {
	return c.want(v, strictjson.Bool, "without quotes") && v.Raw()[0] == 't'
}

func (c *checker) timeField(v strictjson.Value) (t time.Time) {
	const form = "an RFC 3339 time such as 2026-12-01T08:00:00+08:00"
	switch {
	case !c.want(v, strictjson.String, form):
	case t.UnmarshalText(v.Unquoted()) != nil:
		c.fault(v, "must be %s", form)
	case c.strict && t.IsZero(): // otherwise the field would count as absent
		c.fault(v, yearFault, t.Year())
	}
	return t
}
