package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"
	"unicode/utf8"
)

// wantValidationError fails the test unless err is a *ValidationError with faults in UTF-8.
func wantValidationError(t *testing.T, err error) {
	t.Helper()
	var v *ValidationError
	if !errors.As(err, &v) || len(v.Fields) == 0 || !utf8.ValidString(v.Error()) {
		t.Fatalf("%T: %q", err, err)
	}
}

func addSeeds(f *testing.F) {
	f.Helper()
	f.Add([]byte(goodLine))
	for _, tt := range goodBodies {
		if len(tt.body) < 4096 {
			f.Add([]byte(`{"type":"` + tt.typ + `","app":"` + testApp + `","body":` + tt.body + `}`))
		}
	}
	for _, tt := range badBodies {
		if len(tt.body) < 4096 {
			f.Add([]byte(`{"type":"` + tt.typ + `","app":"` + testApp + `","body":` + tt.body + `}`))
		}
	}
}

// FuzzParseEnvelope: an envelope that is encoded and parsed again is the same, also when
// encoding/json decodes it.
func FuzzParseEnvelope(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseEnvelope(line)
		if err != nil {
			wantValidationError(t, err)
			return
		}
		if !json.Valid(bytes.TrimPrefix(line, []byte("\uFEFF"))) {
			t.Fatalf("accepted, but not JSON: %q", line)
		}
		if len(e.Body) == 0 {
			return
		}
		text, err := e.Encode()
		if err != nil {
			wantValidationError(t, err)
			return
		}
		again, err := ParseEnvelope(text)
		if err != nil {
			t.Fatalf("parse the encoded envelope: %v: %q", err, text)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, text) {
			t.Fatalf("once  %q\ntwice %q %v", text, twice, err)
		}
		var std Envelope
		if err := json.Unmarshal(text, &std); err != nil || std.ID != e.ID || std.App != e.App || !std.ProcessAt.Equal(e.ProcessAt) {
			t.Fatalf("encoding/json: %+v %v", std, err)
		}
	})
}

// FuzzPrepare: a prepared body has the same value, can be decoded, and does not change when it
// is prepared again.
func FuzzPrepare(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := ParseEnvelope(line)
		if err != nil {
			return
		}
		given := e.Body
		if err := e.Prepare(testNow); err != nil {
			wantValidationError(t, err)
			return
		}
		if e.Type != TypeTemplate && !sameJSON(t, given, e.Body) {
			t.Fatalf("given    %q\nprepared %q", given, e.Body)
		}
		payload, err := e.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodePayload(payload)
		if err != nil {
			t.Fatalf("%v in %q", err, payload)
		}
		if err := again.Prepare(testNow); err != nil {
			t.Fatalf("prepared again: %v in %q", err, payload)
		}
		if twice, _ := again.Encode(); !bytes.Equal(twice, payload) {
			t.Fatalf("once  %q\ntwice %q", payload, twice)
		}
		if again.Receiver() != e.Receiver() || again.TemplateID() != e.TemplateID() {
			t.Fatal("the receiver or the template has changed")
		}
	})
}
