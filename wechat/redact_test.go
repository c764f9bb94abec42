package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestRedactText(t *testing.T) {
	sensitive := sensitiveValues{
		secrets: []Secret{"tok/en+1"},
		body:    []byte(`{"touser":"o-1","template_id":"TEMPLATE-1","page":"pages/index/index","data":{"thing1":{"value":"订单已发货"},"name2":{"value":"Bob"}}}`),
	}
	tests := []struct{ name, in, want string }{
		{"token", "got tok/en+1 here", "got [redacted] here"},
		{"token as in a query", "GET /x?a=tok%2Fen%2B1", "GET /x?a=[redacted]"},
		{"any token parameter", "/x?access_token=abc&b=1", "/x?access_token=[redacted]&b=1"},
		{"any secret parameter", `"/x?appid=a&secret=abc"`, `"/x?appid=a&secret=[redacted]"`},
		{"the receiver", "invalid openid o-1", "invalid openid [redacted]"},
		{"any openid", "user oABCDEFGHIJKLMNOPQRSTUVWXY12, sorry", "user [redacted], sorry"},
		{"any long token", strings.Repeat("A1_", 40), "[redacted]"},
		{"any app secret", "bad 0123456789abcdef0123456789abcdef", "bad [redacted]"},
		{"message text", "value 订单已发货 invalid", "value [redacted] invalid"},
		{"a password in a URL", "proxy http://me:pw@proxy:3128", "proxy http://[redacted]@proxy:3128"},
		{"public fields", "TEMPLATE-1 pages/index/index", "TEMPLATE-1 pages/index/index"},
		{"WeChat's own words", "argument invalid! data.thing1.value invalid", "argument invalid! data.thing1.value invalid"},
		{"the caller's address", "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist", "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist"},
		{"an app id and a rid", "wx0123456789abcdef 60a1b2c3-4d5e6f70-11223344", "wx0123456789abcdef 60a1b2c3-4d5e6f70-11223344"},
	}
	for _, tt := range tests {
		if got := sensitive.redact(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Values of the request are redacted whatever their type and length; WeChat's own words are
// not.
func TestRedactRequestValues(t *testing.T) {
	tests := []struct{ name, value, in, want string }{
		{"a phone number", `13800138000`, "invalid phone 13800138000", "invalid phone [redacted]"},
		{"a phone number with an exponent", `1.3800138e10`, "phone 13800138000 or 1.3800138e+10", "phone [redacted] or [redacted]"},
		{"a phone number in an echo", `13800138000`, `bad json {"value":13800138000}`, `bad json {"value":[redacted]}`},
		{"a negative number", `-4711`, "value -4711 invalid", "value [redacted] invalid"},
		{"a code", `"8341"`, "value 8341 is invalid", "value [redacted] is invalid"},
		{"a code as a number", `8341`, "value:8341", "value:[redacted]"},
		{"a code of letters", `"xQ7z"`, "'xQ7z' invalid", "'[redacted]' invalid"},
		{"a short code", `42`, "value 42 invalid", "value [redacted] invalid"},
		{"a code that is part of a longer number", `"8341"`, "call 183415 refused", "call 183415 refused"},
		{"a code that is part of a field's name", `"g1"`, "data.thing1.value invalid", "data.thing1.value invalid"},
		{"a name", `"Bob"`, "Bob's value", "[redacted]'s value"},
		{"a name that begins a word", `"Bob"`, "Bobby", "Bobby"},
		{"one Chinese character", `"张"`, "姓名张不合法", "姓名[redacted]不合法"},
		{"blanks around", `" 8341 "`, "value 8341 invalid", "value [redacted] invalid"},
		{"text with a quote", `"a\"b\"c"`, `echo "a\"b\"c"`, `echo "[redacted]"`},
		{"text with a line end", `"1 Some St\nTown"`, `echo 1 Some St\nTown`, `echo [redacted]`},
		{"in a list", `["8341",9352]`, "8341 9352", "[redacted] [redacted]"},
		{"deep inside", `{"x":{"y":[{"z":"8341"}]}}`, "8341", "[redacted]"},
		{"WeChat's own word", `"data"`, "data format error", "data format error"},
		{"ok", `"ok"`, "not ok", "not ok"},
		{"a single digit", `1`, "argument 1 invalid", "argument 1 invalid"},
		{"true", `true`, "true is not allowed", "true is not allowed"},
		{"nothing", `""`, "data.thing1.value is emtpy", "data.thing1.value is emtpy"},
	}
	for _, tt := range tests {
		sensitive := sensitiveValues{body: []byte(`{"touser":"o-1","template_id":"T1","data":{"thing1":{"value":` + tt.value + `}}}`)}
		if got := sensitive.redact(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	sensitive := sensitiveValues{body: []byte(`{"content":"secret words","version":2,"scene":"2024","expire_time":1760000000}`)}
	if got := sensitive.redact("expire_time 1760000000 or version 2 invalid, scene 2024"); got != "expire_time 1760000000 or version 2 invalid, scene [redacted]" {
		t.Errorf("numbers in public fields: %q", got)
	}
}

func TestRedactErr(t *testing.T) {
	sensitive := sensitiveValues{secrets: []Secret{"s3cret"}}
	inner := &url.Error{Op: "Post", URL: "https://h/?access_token=s3cret", Err: fmt.Errorf("s3cret: %w", context.Canceled)}
	err := sensitive.redactErr(fmt.Errorf("outer: %w", &url.Error{Op: "Get", URL: "x?secret=s3cret", Err: inner}))
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err.Error()), "s3cret") {
		t.Errorf("the secret is in %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not match its cause", err)
	}
	plain := errors.New("connection refused")
	if got := sensitive.redactErr(&url.Error{URL: "x", Err: plain}); got != plain { //nolint:errorlint // the very same
		t.Errorf("got %v", got)
	}
}
