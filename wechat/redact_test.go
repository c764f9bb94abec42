package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestHiddenText(t *testing.T) {
	h := hidden{
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
		{"the service's own", "TEMPLATE-1 pages/index/index", "TEMPLATE-1 pages/index/index"},
		{"WeChat's own words", "argument invalid! data.thing1.value invalid", "argument invalid! data.thing1.value invalid"},
		{"the caller's address", "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist", "invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist"},
		{"an app id and a rid", "wx0123456789abcdef 60a1b2c3-4d5e6f70-11223344", "wx0123456789abcdef 60a1b2c3-4d5e6f70-11223344"},
	}
	for _, tt := range tests {
		if got := h.text(tt.in); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestHiddenErr(t *testing.T) {
	h := hidden{secrets: []Secret{"s3cret"}}
	inner := &url.Error{Op: "Post", URL: "https://h/?access_token=s3cret", Err: fmt.Errorf("s3cret: %w", context.Canceled)}
	err := h.err(fmt.Errorf("outer: %w", &url.Error{Op: "Get", URL: "x?secret=s3cret", Err: inner}))
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err.Error()), "s3cret") {
		t.Errorf("the secret is in %v", err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v has lost its cause", err)
	}
	plain := errors.New("connection refused")
	if got := h.err(&url.Error{URL: "x", Err: plain}); got != plain { //nolint:errorlint // the very same
		t.Errorf("got %v", got)
	}
}
