package tasks

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func digestFor(t *testing.T, typ, body string) string {
	t.Helper()
	e := Envelope{Type: typ, App: testApp, ID: "order-1", Body: json.RawMessage(body)}
	var m marking
	if err := e.prepare(checker{from: testNow}, &m); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	digest := m.digest
	if len(digest) != digestSize || strings.ContainsAny(digest, " #") {
		t.Errorf("the digest is %q", digest)
	}
	return digest
}

// TestDigest: bodies that WeChat treats alike have the same digest, others have different ones.
func TestDigest(t *testing.T) {
	const news = `{"touser":"o","msgtype":"news","news":{"articles":[{"title":"a","url":"u"}]}}`
	for _, tt := range []struct {
		name, typ string
		bodies    []string // all the same
	}{
		{"white space, escapes and order", TypeSubscribe, []string{
			`{"touser":"o","template_id":"T","data":{"thing1":{"value":"好"},"thing2":{"value":"b"}}}`,
			`{"data":{"thing2":{"value":"b"}, "thing1":{"value":"\u597d"}},` + "\n" + `"template_id":"T","touser":"o"}`,
		}},
		{"the client_msg_id that Prepare makes", TypeTemplate, []string{
			`{"touser":"o","template_id":"T","data":{}}`,
			`{"touser":"o","template_id":"T","data":{},"client_msg_id":null}`,
			`{"client_msg_id":"","touser":"o","template_id":"T","data":{}}`,
			`{"touser":"o","template_id":"T","data":{},"client_msg_id":"order-1"}`,
		}},
		{"order in arrays of objects", TypeCustom, []string{news, `{"msgtype":"news","touser":"o","news":{"articles":[{"url":"u","title":"a"}]}}`}},
	} {
		first := digestFor(t, tt.typ, tt.bodies[0])
		for _, body := range tt.bodies[1:] {
			if got := digestFor(t, tt.typ, body); got != first {
				t.Errorf("%s: %s and %s\n%s\n%s", tt.name, first, got, tt.bodies[0], body)
			}
		}
	}

	seen := make(map[string]string)
	different := func(typ, body string) {
		digest := digestFor(t, typ, body)
		if other, found := seen[digest]; found {
			t.Errorf("%s has the digest of %s", typ+body, other)
		}
		seen[digest] = typ + body
	}
	for i := range 2000 {
		different(TypeSubscribe, fmt.Sprintf(`{"touser":"o%d","template_id":"T","data":{"thing1":{"value":"a"}}}`, i))
	}
	for _, data := range []string{
		`{"thing1":{"value":"b"},"thing2":{"value":"a"}}`, `{"thing1":{"value":"a"},"thing2":{"value":"b"}}`,
		`{"thing1":{"value":"a","color":"b"},"thing2":{"value":"b"}}`, `{"thing1":{"value":"a"}}`, `{"thing2":{"value":"a"}}`,
		`{"number1":{"value":3}}`, `{"number1":{"value":"3"}}`,
	} {
		different(TypeSubscribe, `{"touser":"o","template_id":"T","data":`+data+`}`)
		different(TypeBizSubscribe, `{"touser":"o","template_id":"T","data":`+data+`}`)
	}
	for _, list := range []string{`[{"id":"1"},{"id":"2"}]`, `[{"id":"2"},{"id":"1"}]`, `[{"id":"1","x":{"id":"2"}}]`, `[{"id":"1"}]`, `[{"id":"1"},{}]`} {
		different(TypeCustom, `{"touser":"o","msgtype":"msgmenu","msgmenu":{"list":`+list+`}}`)
	}
	different(TypeTemplate, `{"touser":"o","template_id":"T","data":{},"client_msg_id":"mine"}`)
	different(TypeTemplate, `{"touser":"o","template_id":"T","data":{},"client_msg_id":"yours"}`)
	different(TypeTemplate, `{"touser":"o","template_id":"T","data":{}}`)
}

// TestDigestIsStable: Redis holds digests of earlier versions.
func TestDigestIsStable(t *testing.T) {
	const body = `{"jump_wxa":{"path":"p","query":"a=1"},"list":[1,{"x":null},[],{}],"is_expire":false,"s":"订单\n"}`
	if got := digestFor(t, TypeScheme, body); got != "ymIYGx" {
		t.Errorf("the digest is %s", got)
	}
}
