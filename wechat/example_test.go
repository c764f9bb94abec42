package wechat_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/wechat"
)

// exampleWeChat starts a fake WeChat for the examples.
func exampleWeChat() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch wechat.Endpoint(r.URL.Path) {
		case wechat.EndpointStableToken:
			_, _ = w.Write([]byte(`{"access_token":"ACCESS_TOKEN","expires_in":7200}`))
		case wechat.EndpointScheme:
			_, _ = w.Write([]byte(`{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=abc"}`))
		default:
			_, _ = w.Write([]byte(`{"errcode":43101,"errmsg":"user refuse to accept the msg rid: 60a1b2c3-4d5e6f70-11223344"}`))
		}
	}))
}

func Example() {
	server := exampleWeChat()
	defer server.Close()
	store := miniredis.NewMiniRedis()
	if err := store.Start(); err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	rdb := redis.NewClient(&redis.Options{Addr: store.Addr()})
	defer func() { _ = rdb.Close() }()

	cfg := wechat.DefaultConfig()
	cfg.BaseURL = server.URL
	tokens := wechat.NewTokens(cfg, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: "APPSECRET"}, true
	})
	defer tokens.Close()
	client := wechat.NewClient(cfg, tokens)
	defer client.CloseIdle()

	answer, err := client.Call(context.Background(), "wx0123456789abcdef", wechat.Request{
		Path: wechat.EndpointScheme,
		Body: []byte(`{"jump_wxa":{"path":"pages/index/index"}}`),
	})
	fmt.Println(answer.OpenLink, err)

	_, err = client.Call(context.Background(), "wx0123456789abcdef", wechat.Request{
		Path: wechat.EndpointSubscribe,
		Body: []byte(`{"touser":"oAbc","template_id":"T1","data":{}}`),
	})
	var apiErr *wechat.APIError
	if errors.As(err, &apiErr) {
		fmt.Println(apiErr.Code, apiErr.Class(), apiErr.RID)
	}
	// Output:
	// weixin://dl/business/?t=abc <nil>
	// 43101 refused 60a1b2c3-4d5e6f70-11223344
}

// The meaning of a code may depend on the endpoint.
func ExampleClassify() {
	fmt.Println(wechat.Classify(wechat.EndpointSubscribe, 45009))
	fmt.Println(wechat.Classify(wechat.EndpointUnlimitedCode, 45009))
	fmt.Println(wechat.Classify(wechat.EndpointSubscribe, 40001))
	fmt.Println(wechat.Classify(wechat.EndpointToken, 40001))
	// Output:
	// quota_day
	// rate_minute
	// token
	// config
}

// A send that was certainly not written may be repeated. Repeating one that may have been
// written could deliver the message twice.
func ExampleWritten() {
	refused := &wechat.TransportError{Endpoint: wechat.EndpointCustom, Op: "connect", Err: errors.New("connection refused")}
	lost := &wechat.TransportError{Endpoint: wechat.EndpointCustom, Op: "receive", Written: true, Err: errors.New("EOF")}
	fmt.Println(wechat.Written(refused), wechat.Written(lost))
	// Output: false true
}

func ExampleSecret() {
	secret := wechat.Secret("0123456789abcdef0123456789abcdef")
	fmt.Println(secret)
	fmt.Println(len(secret.Reveal()))
	// Output:
	// [redacted]
	// 32
}

func ExampleWriteCodeTable() {
	var table strings.Builder
	if err := wechat.WriteCodeTable(&table); err != nil {
		fmt.Println(err)
		return
	}
	for line := range strings.Lines(table.String()) {
		if strings.HasPrefix(line, "| 45009 ") && strings.Contains(line, "getwxacodeunlimit") {
			_, _ = os.Stdout.WriteString(line)
		}
	}
	// Output: | 45009 | `/wxa/getwxacodeunlimit` | too many calls in a minute (5000) | `rate_minute` |
}
