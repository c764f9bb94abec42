package pushwire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// The vectors of WeChat's page on message-push, and one with a key other than zero, made with OpenSSL.
const (
	vectorToken = "AAAAA"
	vectorApp   = "wxba5fad812f8e6fb9"
	vectorPush  = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="
	vectorReply = "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="
)

func TestSign(t *testing.T) {
	tests := []struct {
		name  string
		parts []string
		want  string
	}{
		{"verification of the URL", []string{vectorToken, "1714036504", "1514711492"}, "f464b24fc39322e44b38aa78f5edd27bd1441696"},
		{"plain push", []string{vectorToken, "1714037059", "486452656"}, "899cf89e464efb63f54ddac96b0a0a235f53aa78"},
		{"safe push, signature", []string{vectorToken, "1714112445", "415670741"}, "6c5c811b55cc85e0e1b54100749188c20beb3f5d"},
		{"safe push, msg_signature", []string{vectorToken, "1714112445", "415670741", vectorPush}, "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3"},
		{"reply", []string{vectorToken, "1713424427", "415670741", vectorReply}, "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1"},
	}
	for _, tt := range tests {
		if got := Sign(tt.parts...); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestEncrypt(t *testing.T) {
	tests := []struct {
		name, key, random, message, app, want string
	}{
		{
			"push", strings.Repeat("A", 43), "a8eedb185eb2fecf",
			`{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`,
			vectorApp, vectorPush,
		},
		{"reply, padded by 1", strings.Repeat("A", 43), "707722b803182950", `{"demo_resp":"good luck"}`, vectorApp, vectorReply},
		{
			"a key other than zero", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "0123456789abcdef", "<xml>其他</xml>", "wx0123456789abcdef",
			"Q3stYC6hdFzMh9T8HCvyDKYoeVdfJZtmJdywyB3kNOGLYOSmddHXTE84ZtsLq6bsAYdHqrEYZqBmouIBMiRepA==",
		},
	}
	for _, tt := range tests {
		key, err := DecodeKey(tt.key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Encrypt(key, [randomBytes]byte([]byte(tt.random)), []byte(tt.message), tt.app)
		if err != nil || got != tt.want {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
}

func TestDecodeKey(t *testing.T) {
	for _, bad := range []string{"", "short", strings.Repeat("A", 44), strings.Repeat("!", 43)} {
		if _, err := DecodeKey(bad); !errors.Is(err, ErrAESKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	// The last character has two bits that are not part of the key.
	if key, err := DecodeKey(strings.Repeat("A", 42) + "B"); err != nil || !bytes.Equal(key, make([]byte, 32)) {
		t.Errorf("%x, %v", key, err)
	}
}

func TestFormats(t *testing.T) {
	one := Object{{"TemplateId", Text("T<1>&")}, {"MsgID", Digits("3395159288267931652")}}
	tests := []struct {
		name, xml, json string
		push            []Element
	}{
		{
			"a list of one", `<xml><Event><![CDATA[e]]></Event><E><List><TemplateId><![CDATA[T<1>&]]></TemplateId><MsgID>3395159288267931652</MsgID></List></E></xml>`,
			`{"Event":"e","List":{"TemplateId":"T<1>&","MsgID":"3395159288267931652"}}`,
			[]Element{{"Event", Text("e")}, {"E", Flat{{"List", List{one}}}}},
		},
		{
			"a list of two", `<xml><E><List><A>1</A></List><List><A>2</A></List></E></xml>`, `{"List":[{"A":"1"},{"A":"2"}]}`,
			[]Element{{"E", Flat{{"List", List{{{"A", Digits("1")}}, {{"A", Digits("2")}}}}}}},
		},
		{
			"an array of one, and an object", `<xml><detail><prob>90</prob></detail><result><label>100</label></result></xml>`,
			`{"detail":[{"prob":90}],"result":{"label":100}}`,
			[]Element{{"detail", Array{{{"prob", Int(90)}}}}, {"result", Object{{"label", Int(100)}}}},
		},
		{
			"the end of a CDATA section", `<xml><A><![CDATA[a]]]]><![CDATA[>b]]></A></xml>`, `{"A":"a]]>b"}`,
			[]Element{{"A", Text("a]]>b")}},
		},
	}
	for _, tt := range tests {
		if got := string(XML(tt.push)); got != tt.xml {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.xml)
		}
		if got, err := JSON(tt.push); string(got) != tt.json || err != nil {
			t.Errorf("%s: %s, %v, want %s", tt.name, got, err, tt.json)
		}
	}
}

func TestRequest(t *testing.T) {
	key, err := DecodeKey(strings.Repeat("A", 43))
	if err != nil {
		t.Fatal(err)
	}
	push := Push{
		Envelope: Element{"ToUserName", Text("gh_97417a04a28d")}, OpenID: "oOne", Nonce: "415670741", At: time.Unix(1714112445, 0),
		Random: [randomBytes]byte([]byte("a8eedb185eb2fecf")),
		Body: []Element{
			{"ToUserName", Text("gh_97417a04a28d")},
			{"FromUserName", Text("o9AgO5Kd5ggOC-bXrbNODIiE3bGY")},
			{"CreateTime", Int(1714112445)},
			{"MsgType", Text("event")},
			{"Event", Text("debug_demo")},
			{"debug_str", Text("hello world")},
		},
	}
	safe := Target{URL: "http://127.0.0.1:1/callback/a?x=y", Token: vectorToken, Key: key, AppID: vectorApp, JSON: true}
	r, err := safe.Request(t.Context(), push)
	if err != nil {
		t.Fatal(err)
	}
	q := r.URL.Query()
	if q.Get("x") != "y" || q.Get("openid") != "oOne" || q.Get("encrypt_type") != "aes" || q.Get("timestamp") != "1714112445" ||
		q.Get("signature") != "6c5c811b55cc85e0e1b54100749188c20beb3f5d" || q.Get("msg_signature") != "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3" {
		t.Errorf("the query %s", r.URL.RawQuery)
	}
	if body, _ := io.ReadAll(r.Body); string(body) != `{"ToUserName":"gh_97417a04a28d","Encrypt":"`+vectorPush+`"}` {
		t.Errorf("the body %s", body)
	}
	plain := Target{URL: "http://127.0.0.1:1/", Token: vectorToken}
	push.Forged = true
	if r, err = plain.Request(t.Context(), push); err != nil {
		t.Fatal(err)
	}
	if q = r.URL.Query(); q.Has("msg_signature") || q.Has("encrypt_type") || len(q.Get("signature")) != 40 || q.Get("signature") == "6c5c811b55cc85e0e1b54100749188c20beb3f5d" {
		t.Errorf("the query of a forged plain push: %s", r.URL.RawQuery)
	}
	if body, _ := io.ReadAll(r.Body); !bytes.HasPrefix(body, []byte("<xml><ToUserName><![CDATA[gh_97417a04a28d]]></ToUserName>")) {
		t.Errorf("the plain body %s", body)
	}
}
