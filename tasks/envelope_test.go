package tasks

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

const goodLine = `{"type":"send:subscribe","app":"wx0123456789abcdef","id":"order-42-shipped",` +
	`"body":{"touser":"oAbc","template_id":"T1","page":"pages/index/index","data":{"thing1":{"value":"订单已发货"}}},` +
	`"priority":"urgent","process_at":"2026-12-01T08:00:00+08:00","not_after":"2026-12-01T20:00:00+08:00","batch":"spring-sale"}`

func TestEnvelopeRoundTrip(t *testing.T) {
	e, err := ParseEnvelope([]byte(" \uFEFF"[1:] + goodLine + "\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Prepare(testNow); err != nil {
		t.Fatal(err)
	}
	payload, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != goodLine {
		t.Errorf("encoded as\n%s\nwant\n%s", payload, goodLine)
	}
	var std Envelope
	if err := json.Unmarshal(payload, &std); err != nil {
		t.Fatalf("encoding/json cannot read it: %v", err)
	}
	if std.ID != "order-42-shipped" || std.Batch != "spring-sale" || !std.ProcessAt.Equal(e.ProcessAt) || std.Priority != Urgent {
		t.Errorf("encoding/json read %+v", std)
	}
	if e.Receiver() != "oAbc" || e.TemplateID() != "T1" || e.TaskID() != "wx0123456789abcdef:order-42-shipped" || e.Queue() != "wx0123456789abcdef:send:subscribe" {
		t.Errorf("receiver %q, template %q, task %q, queue %q", e.Receiver(), e.TemplateID(), e.TaskID(), e.Queue())
	}
}

func TestParseEnvelopeRefuses(t *testing.T) {
	tests := []struct{ line, path, says string }{
		{``, "", "not valid JSON at byte 1: it ends where a value is expected"},
		{"\x00\x01\x02", "", "not valid JSON at byte 1: a value is expected"},
		{`[]`, "", `must be a JSON object such as {"type":…,"app":…,"body":{…}}, not an array`},
		{`{"type":"send:subscribe"`, "", `"," or "}" is expected`},
		{`{"type":"send:subscribe"} x`, "", "not valid JSON at byte 27: data after the end"},
		{`{"type":"send:subscribe"}{}`, "", "data after the end"},
		{`{"type":"send:subscribe",}`, "", "a member's name in double quotes"},
		{`{'type':1}`, "", "a member's name in double quotes"},
		{`{"type" 1}`, "", `":" is expected`},
		{`{"type":"a","type":"b"}`, "type", "given twice"},
		{`{"type":"a","\u0074ype":"b"}`, "type", "given twice"},
		{`{"body":{"data":{"thing1":{"value":"a","value":"b"}}}}`, "body.data.thing1.value", "given twice"},
		{`{"body":{"x":[1,{"y":"` + "\xff" + `"}]}}`, "body.x[1].y", "a byte that is not UTF-8"},
		{`{"body":{"x":"` + "\x00" + `"}}`, "body.x", `write it as \u0000`},
		{`{"body":{"x":"` + "a\nb" + `"}}`, "body.x", `write it as \u000a`},
		{`{"body":{"x":"\ud83d"}}`, "body.x", "half of a surrogate pair"},
		{`{"body":{"x":"\ude00\ud83d"}}`, "body.x", "half of a surrogate pair"},
		{`{"body":{"x":"\ud83d\u0041"}}`, "body.x", "half of a surrogate pair"},
		{`{"body":{"x":"\u00g0"}}`, "body.x", "four hexadecimal digits"},
		{`{"body":{"x":"\u00`, "body.x", "four hexadecimal digits"},
		{`{"body":{"x":"\`, "body.x", "it ends inside a string"},
		{`{"body":{"x":"\x41"}}`, "body.x", "an unknown escape"},
		{`{"body":{"x":01}}`, "body.x", "a malformed number"},
		{`{"body":{"x":1.}}`, "body.x", "a malformed number"},
		{`{"body":{"x":-}}`, "body.x", "a malformed number"},
		{`{"body":{"x":1e+}}`, "body.x", "a malformed number"},
		{`{"body":{"x":.5}}`, "body.x", "a value is expected"},
		{`{"body":{"x":[1 2]}}`, "body.x", `"," or "]" is expected`},
		{`{"body":{"x":nul}}`, "body.x", "a value is expected"},
		{strings.Repeat(`[`, 100_000), strings.Repeat("[0]", 33), "nested deeper than 33"},
		{`{"type":"` + strings.Repeat("x", MaxLine) + `"}`, "", "bytes; a task has at most 2097152"},

		{`{"type":7}`, "type", "must be a string, not a number"},
		{`{"app":{}}`, "app", "must be a string, not an object"},
		{`{"id":12345678}`, "id", "must be a string, not a number"},
		{`{"priority":true}`, "priority", "must be a string, not true or false"},
		{`{"batch":[]}`, "batch", "must be a string, not an array"},
		{`{"ignore_hours":"yes"}`, "ignore_hours", "must be true or false, not a string: without quotes"},
		{`{"process_at":1764547200}`, "process_at", "must be a string, not a number: an RFC 3339 time such as"},
		{`{"process_at":"2026-12-01 08:00:00"}`, "process_at", "must be an RFC 3339 time such as 2026-12-01T08:00:00+08:00"},
		{`{"not_after":"2026-02-30T08:00:00Z"}`, "not_after", "must be an RFC 3339 time"},
		{`{"not_after":"0001-01-01T00:00:00Z"}`, "not_after", "the year 1 is out of range: leave the field out"},
		{`{"not_after":"0001-01-01T08:05:43+08:05:43"}`, "not_after", "must be an RFC 3339 time"},
		{`{"process_at":"0001-01-01T08:00:00+08:00"}`, "process_at", "the year 1 is out of range"},

		{`{"typ":"x"}`, "typ", `unknown field; did you mean "type"?`},
		{`{"appid":"x"}`, "appid", `did you mean "app"?`},
		{`{"bodi":{}}`, "bodi", `did you mean "body"?`},
		{`{"notAfter":"x"}`, "notAfter", `did you mean "not_after"?`},
		{`{"Process-At":"x"}`, "Process-At", `did you mean "process_at"?`},
		{`{"prioritty":"x"}`, "prioritty", `did you mean "priority"?`},
		{`{"batches":"x"}`, "batches", `did you mean "batch"?`},
		{`{"ignore_hour":true}`, "ignore_hour", `did you mean "ignore_hours"?`},
		{`{"touser":"o"}`, "touser", "unknown field; an envelope has type, app, id, body, priority, process_at, not_after, batch, ignore_hours, plaintext, and WeChat's own fields go inside body"},
		{`{"` + strings.Repeat("z", 10_000) + `":1}`, `["` + strings.Repeat("z", 32) + `…"]`, "unknown field"},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			_, err := ParseEnvelope([]byte(tt.line))
			wantFault(t, err, tt.path, tt.says)
			if strings.ContainsAny(err.Error(), "\n\x00") || !utf8.ValidString(err.Error()) {
				t.Errorf("the message is not one readable line: %q", err)
			}
		})
	}
}

func TestParseEnvelopeNull(t *testing.T) {
	e, err := ParseEnvelope([]byte(`{"type":"scheme:generate","app":"wx0123456789abcdef","body":{},"id":null,"batch":null,"process_at":null,"ignore_hours":null}`))
	if err != nil || e.ID != "" || !e.ProcessAt.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestEnvelopeFields: every field of the type is encoded and decoded.
func TestEnvelopeFields(t *testing.T) {
	full := Envelope{
		Type: TypeScheme, App: testApp, ID: "i", Body: json.RawMessage(`{}`), Priority: Bulk,
		ProcessAt: testNow, NotAfter: testNow.Add(1500 * time.Millisecond), Batch: "b", IgnoreHours: true, Plaintext: true,
	}
	payload, err := full.Encode()
	if err != nil {
		t.Fatal(err)
	}
	std, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != string(std) {
		t.Errorf("Encode  %s\njson    %s", payload, std)
	}
	again, err := ParseEnvelope(payload)
	if err != nil {
		t.Fatal(err)
	}
	if twice, _ := again.Encode(); string(twice) != string(payload) {
		t.Errorf("again   %s\nencoded %s", twice, payload)
	}
	if got := len(decoded(t, payload).(map[string]any)); got != len(envelopeFields) {
		t.Errorf("%d fields encoded, %d are read", got, len(envelopeFields))
	}
}

func TestPrepareEnvelope(t *testing.T) {
	tests := []struct {
		name       string
		change     func(*Envelope)
		path, says string
	}{
		{"no type", func(e *Envelope) { e.Type = "" }, "type", "required"},
		{"unknown type", func(e *Envelope) { e.Type = "send:subscribed" }, "type", `"send:subscribed" is not a task type; did you mean "send:subscribe"?`},
		{"foreign type", func(e *Envelope) { e.Type = "email" }, "type", `"email" is not a task type`},
		{"no app", func(e *Envelope) { e.App = "" }, "app", "required"},
		{"capital app", func(e *Envelope) { e.App = "wx0123456789ABCDEF" }, "app", "not an app id"},
		{"short app", func(e *Envelope) { e.App = "wx0123" }, "app", "not an app id"},
		{"id", func(e *Envelope) { e.ID = "a:b" }, "id", "':' not allowed; 1 to 128 of A-Z a-z 0-9 . _ ~ - are allowed"},
		{"id with several characters", func(e *Envelope) { e.ID = "订单 a:b:\n/" + strings.Repeat("x", 112) }, "id", `' ', ':', '\n', '/', characters outside ASCII not allowed; 1 to 128 of`},
		{"long id", func(e *Envelope) { e.ID = strings.Repeat("x", 129) }, "id", "129 bytes; 1 to 128 of"},
		{"long id with a space", func(e *Envelope) { e.ID = strings.Repeat("x ", 65) }, "id", "130 bytes; ' ' not allowed; 1 to 128 of"},
		{"batch", func(e *Envelope) { e.Batch = strings.Repeat("x", 65) }, "batch", "65 bytes; 1 to 64"},
		{"batch with a slash", func(e *Envelope) { e.Batch = "2026/12" }, "batch", "'/' not allowed; 1 to 64"},
		{"priority", func(e *Envelope) { e.Priority = "low" }, "priority", `"low" is neither "urgent" nor "bulk"`},
		{"times", func(e *Envelope) { e.ProcessAt, e.NotAfter = testNow.Add(time.Second), testNow }, "not_after", "before process_at"},
		{"the zero of other languages", func(e *Envelope) { e.NotAfter = time.Unix(0, 0) }, "not_after", "the year 1970 is out of range"},
		{"nearly no time", func(e *Envelope) { e.NotAfter = time.Time{}.Add(1) }, "not_after", "the year 1 is out of range"},
		{"process_at of another epoch", func(e *Envelope) { e.ProcessAt = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC) }, "process_at", "the year 1900 is out of range"},
		{"year", func(e *Envelope) { e.ProcessAt = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC) }, "process_at", "the year 10000 is out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := Envelope{Type: TypeScheme, App: testApp, Body: json.RawMessage(`{}`)}
			tt.change(&e)
			wantFault(t, e.Prepare(testNow), tt.path, tt.says)
		})
	}
	past := Envelope{Type: TypeScheme, App: testApp, Body: json.RawMessage(`{}`), NotAfter: testNow.Add(-time.Hour)}
	if err := past.Prepare(testNow); err != nil {
		t.Errorf("a not_after that has passed is an outcome, not a fault: %v", err)
	}
	if !strings.HasPrefix(past.ID, "t") || !ValidID(past.ID) {
		t.Errorf("made the id %q", past.ID)
	}
}

// TestPrepareExpiryCountsFromProcessAt: the expiry of a link is compared with the time at which
// the task can be sent.
func TestPrepareExpiryCountsFromProcessAt(t *testing.T) {
	end := testNow.Add(time.Hour)
	e := Envelope{
		Type: TypeScheme, App: testApp, ProcessAt: testNow.Add(2 * time.Hour),
		Body: json.RawMessage(fmt.Sprintf(`{"expire_time":%d}`, end.Unix())),
	}
	wantFault(t, e.Prepare(testNow), "body.expire_time", "1h0m0s before the time of sending")
}

func TestDecodePayload(t *testing.T) {
	e, err := DecodePayload([]byte(`{"type":"a:new","app":"wx0123456789abcdef","id":"x","body":{"a":1},"a_field_of_tomorrow":{"x":[]}}`))
	if err != nil || e.Type != "a:new" || string(e.Body) != `{"a":1}` {
		t.Errorf("%+v, %v", e, err)
	}
	blob := `{"type":"seccheck:image","app":"wx0123456789abcdef","id":"x","body":{"media_blob":"` + strings.Repeat("a", 64) + `"}}`
	if _, err := DecodePayload([]byte(blob)); err != nil {
		t.Errorf("media_blob: %v", err)
	}
	_, err = DecodePayload([]byte(`{"type":"a:b"}`))
	if want := "app: required; id: required; body: required"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	// A payload of an older version is still accepted.
	if e, err := DecodePayload([]byte(`{"type":"a:b","app":"wx0123456789abcdef","id":"x","body":{},"not_after":"0001-01-01T00:00:00Z"}`)); err != nil || !e.NotAfter.IsZero() {
		t.Errorf("%+v, %v", e, err)
	}
	_, err = DecodePayload([]byte(`{"type":"a:b","app":7}`))
	wantFault(t, err, "app", "must be a string")
}

func TestEncodeRefuses(t *testing.T) {
	e := Envelope{Type: TypeScheme, App: testApp, ID: "i", Body: json.RawMessage(`{"a":`)}
	_, err := e.Encode()
	wantFault(t, err, "body", "not valid JSON")
	e = Envelope{Body: json.RawMessage(`{}`), NotAfter: time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)}
	_, err = e.Encode()
	wantFault(t, err, "not_after", "out of range")
}

// TestEncodeOddZone: RFC 3339 cannot represent an offset of 8:05:43 (Shanghai before 1901).
func TestEncodeOddZone(t *testing.T) {
	at := testNow.In(time.FixedZone("LMT", 8*3600+5*60+43))
	e := Envelope{Type: TypeScheme, App: testApp, ID: "i", Body: json.RawMessage(`{}`), ProcessAt: at}
	payload, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodePayload(payload)
	if err != nil || !again.ProcessAt.Equal(at) {
		t.Errorf("%v became %v (%v)", at, again.ProcessAt, err)
	}
}

func TestEscapesAreRewritten(t *testing.T) {
	tests := []struct{ body, want string }{
		{` { "a" : [ 1 , 2.50 , 1E5 , -0 , 12345678901234567890 ] } `, `{"a":[1,2.50,1E5,-0,12345678901234567890]}`},
		{`{"z":1,"a":2,"m":{"b":0,"a":0}}`, `{"z":1,"a":2,"m":{"b":0,"a":0}}`},
		{`{"a":"\u8ba2\u5355\u0026\u003c\u003e\u003d"}`, `{"a":"订单&<>="}`},
		{`{"a":"\ud83d\ude00\uD83D\uDE00 \ufffd\u2028"}`, "{\"a\":\"😀😀 \ufffd\u2028\"}"},
		{`{"a":"\u0022\u005c\u002f\/"}`, `{"a":"\"\\//"}`},
		{`{"a":"\u0000\u001F\u000a\u0009\n\t\b\f\r"}`, `{"a":"\u0000\u001f\n\t\n\t\b\f\r"}`},
		{`{"\u0061\u0022":true,"b":null}`, `{"a\"":true,"b":null}`},
		{`{"a":"\\u0041"}`, `{"a":"\\u0041"}`},
	}
	for _, tt := range tests {
		e := Envelope{Type: TypeScheme, App: testApp, Body: json.RawMessage(tt.body)}
		if err := e.Prepare(testNow); err != nil {
			t.Errorf("%s: %v", tt.body, err)
			continue
		}
		if string(e.Body) != tt.want {
			t.Errorf("%s became\n%s, want\n%s", tt.body, e.Body, tt.want)
		}
		if !sameJSON(t, e.Body, []byte(tt.body)) {
			t.Errorf("the value of %s has changed", tt.body)
		}
	}
}

func TestEscapedValuesAreRead(t *testing.T) {
	e := Envelope{Type: TypeSubscribe, App: testApp, Body: json.RawMessage(`{"touser":"o\"\\\/\u0041","template_id":"\u8ba2","data":{"const1":{"value":"a\nb"}}}`)}
	if err := e.Prepare(testNow); err != nil {
		t.Fatal(err)
	}
	if e.Receiver() != `o"\/A` || e.TemplateID() != "订" {
		t.Errorf("receiver %q, template %q", e.Receiver(), e.TemplateID())
	}
}

func TestClientMsgID(t *testing.T) {
	const body = `{"touser":"o","template_id":"T","data":{}%s}`
	tests := []struct{ name, id, given, want string }{
		{"the id itself", "order-42_A", ``, `,"client_msg_id":"order-42_A"`},
		{"null", "order-42", `,"client_msg_id":null,"url":""`, `,"client_msg_id":"order-42","url":""`},
		{"empty", "order-42", `,"client_msg_id":""`, `,"client_msg_id":"order-42"`},
		{"the producer's", "order-42", `,"client_msg_id":"mine"`, `,"client_msg_id":"mine"`},
		{"too long an id", strings.Repeat("x", 33), ``, `,"client_msg_id":"a4dd69d4d9fcf4ce7847f399b73c3230"`},
		{"other characters", "a.b", ``, `,"client_msg_id":"` + clientMsgID(testApp, "a.b") + `"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := Envelope{Type: TypeTemplate, App: testApp, ID: tt.id, Body: json.RawMessage(fmt.Sprintf(body, tt.given))}
			if err := e.Prepare(testNow); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintf(body, tt.want); string(e.Body) != want {
				t.Errorf("got  %s\nwant %s", e.Body, want)
			}
		})
	}
	if clientMsgID("a", "x.y") == clientMsgID("b", "x.y") {
		t.Error("two apps share a client_msg_id")
	}
}

// TestPrepareLimitsTheFinishedBody: a body that exceeds the limit only with its client_msg_id
// is refused by the first Prepare, not by the second.
func TestPrepareLimitsTheFinishedBody(t *testing.T) {
	filler := strings.Repeat("x", maxBody-100)
	body := func(n int) json.RawMessage {
		return json.RawMessage(`{"touser":"o","template_id":"T","data":{},"url":"` + filler + strings.Repeat("x", n) + `"}`)
	}
	for n := range 100 {
		e := Envelope{Type: TypeTemplate, App: testApp, ID: "order-42", Body: body(n)}
		if e.Prepare(testNow) == nil {
			if err := e.Prepare(testNow); err != nil {
				t.Fatalf("%d: accepted once, then %v", n, err)
			}
		}
	}
}
