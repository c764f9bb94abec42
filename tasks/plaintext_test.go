package tasks

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// TestPlaintextScheme: the link of WeChat's guide, and values that have to be escaped.
func TestPlaintextScheme(t *testing.T) {
	const app, all = "wx4e1ba651bbe36d01", "!#$&'()*+,/:;=?@-._~%aZ9"
	for body, want := range map[string]string{
		`{"jump_wxa":{"path":"mall/order/list","query":"index=2"}}`:                                                   "weixin://dl/business/?appid=" + app + "&path=mall/order/list&query=index%3D2",
		`{"jump_wxa":{"path":"p","env_version":"trial"},"is_expire":false}`:                                           "weixin://dl/business/?appid=" + app + "&path=p&env_version=trial",
		`{"jump_wxa":{"path":"页 1/a+b&c","query":""}}`:                                                                "weixin://dl/business/?appid=" + app + "&path=%E9%A1%B5%201/a%2Bb%26c",
		`{"jump_wxa":{"path":"p","query":"` + all + `","env_version":"release"},"expire_type":0,"expire_interval":0}`: "weixin://dl/business/?appid=" + app + "&path=p&query=" + url.QueryEscape(all) + "&env_version=release",
	} {
		e := Envelope{Type: TypeScheme, App: app, Body: json.RawMessage(body), Plaintext: true}
		if err := e.Prepare(testNow); err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		got := e.PlaintextScheme()
		if got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
		_, query, _ := strings.Cut(got, "?")
		values, err := url.ParseQuery(query)
		var p SchemePayload
		if json.Unmarshal([]byte(body), &p) != nil || err != nil || values.Get("path") != p.Path || values.Get("query") != p.Query {
			t.Errorf("%s: %v, %v", got, values, err)
		}
	}
}

// TestPlaintextIsRefused: a body that a plaintext scheme cannot have, and the field at another type.
func TestPlaintextIsRefused(t *testing.T) {
	for _, tt := range []struct{ typ, body, path, want string }{
		{TypeURLLink, `{"path":"p"}`, "plaintext", "only for scheme:generate"},
		{TypeScheme, `{}`, "body.jump_wxa", "required"},
		{TypeScheme, `{"jump_wxa":{"query":"a=1"}}`, "body.jump_wxa.path", "required"},
		{TypeScheme, `{"jump_wxa":{"path":""}}`, "body.jump_wxa.path", "empty"},
		{TypeScheme, `{"jump_wxa":{"path":"/p"}}`, "body.jump_wxa.path", `starts with "/"`},
		{TypeScheme, `{"jump_wxa":{"path":"p?a=1"}}`, "body.jump_wxa.path", `holds a "?"`},
		{TypeScheme, `{"jump_wxa":{"path":"p","query":"` + strings.Repeat("q", 513) + `"}}`, "body.jump_wxa.query", "513 characters; at most 512"},
		{TypeScheme, `{"jump_wxa":{"path":"p","query":"页"}}`, "body.jump_wxa.query", "encode it"},
		{TypeScheme, `{"jump_wxa":{"path":"p","env_version":"formal"}}`, "body.jump_wxa.env_version", "none of release"},
		{TypeScheme, `{"jump_wxa":{"path":"p"},"is_expire":true}`, "body.is_expire", "never expires"},
		{TypeScheme, `{"jump_wxa":{"path":"p"},"expire_type":1}`, "body.expire_type", "never expires"},
		{TypeScheme, `{"jump_wxa":{"path":"p"},"expire_time":1606737600}`, "body.expire_time", "never expires"},
		{TypeScheme, `{"jump_wxa":{"path":"p"},"expire_interval":30}`, "body.expire_interval", "never expires"},
	} {
		e := Envelope{Type: tt.typ, App: testApp, Body: json.RawMessage(tt.body), Plaintext: true}
		err := e.Prepare(testNow)
		if err == nil || !strings.Contains(err.Error(), tt.path) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: %v, want %s: %s", tt.typ, tt.body, err, tt.path, tt.want)
		}
	}
}

// TestPlaintextEnvelope: the field is strict JSON, survives the payload, and selects the queue; with
// it an id is another task.
func TestPlaintextEnvelope(t *testing.T) {
	line := `{"type":"scheme:generate","app":"` + testApp + `","id":"a","body":{"jump_wxa":{"path":"p"}},"plaintext":true}`
	e, err := ParseEnvelope([]byte(line))
	if err != nil || !e.Plaintext {
		t.Fatalf("%+v, %v", e, err)
	}
	plain, err := e.PrepareWithDigest(testNow)
	if err != nil {
		t.Fatal(err)
	}
	e.Priority = Bulk
	payload, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := DecodePayload(payload); err != nil || !again.Plaintext || again.Queue() != testApp+":scheme:plaintext:bulk" {
		t.Errorf("%+v, %v", again, err)
	}
	if app, typ, p, ok := ParseQueue(e.Queue()); !ok || app != testApp || typ != TypeScheme || p != Bulk {
		t.Errorf("%s %s %s %v", app, typ, p, ok)
	}
	if app, lane, p, ok := ParseLane(e.Queue()); !ok || QueueName(app, lane, p) != e.Queue() {
		t.Errorf("%s %s %s %v", app, lane, p, ok)
	}
	e.Plaintext = false
	if digest, err := e.PrepareWithDigest(testNow); err != nil || digest == plain {
		t.Errorf("the digest does not depend on plaintext: %s, %v", digest, err)
	}
	if _, err := ParseEnvelope([]byte(strings.Replace(line, "true", `"true"`, 1))); err == nil || !strings.Contains(err.Error(), "plaintext") {
		t.Errorf("a string as plaintext: %v", err)
	}
}
