package wechat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// fakeWeChat answers the calls with answers in turn, and repeats the last one.
type fakeWeChat struct {
	*httptest.Server
	mu      sync.Mutex
	answers []string
	bodies  []string
	tokens  []string
	heads   []http.Header
}

func newFakeWeChat(t *testing.T, answers ...string) *fakeWeChat {
	t.Helper()
	f := &fakeWeChat{answers: answers}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.bodies = append(f.bodies, string(body))
		f.tokens = append(f.tokens, r.URL.Query().Get("access_token"))
		f.heads = append(f.heads, r.Header)
		_, _ = io.WriteString(w, f.answers[min(len(f.bodies), len(f.answers))-1])
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeWeChat) client(t *testing.T, tokens TokenSource) *Client {
	t.Helper()
	c := NewClient(Config{BaseURL: f.URL + "/", Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, tokens)
	t.Cleanup(c.CloseIdle)
	return c
}

func TestCallResendsOnceForTheToken(t *testing.T) {
	for _, code := range []int{40001, 40014, 42001} {
		refusal := fmt.Sprintf(`{"errcode":%d,"errmsg":"token %s of %s rid: 1-2-3"}`, code, testToken, testOpenID)
		tests := []struct {
			name    string
			answers []string
			tokens  *fixedTokens
			calls   int
			want    func(error) bool
		}{
			{"new token accepted", []string{refusal, okAnswer}, &fixedTokens{token: testToken, renewed: "new+/=token"}, 2, func(err error) bool { return err == nil }},
			{"new token refused", []string{refusal}, &fixedTokens{token: testToken, renewed: "new-token"}, 2, func(err error) bool {
				var apiErr *APIError
				return errors.Is(err, ErrTokenRejected) && errors.As(err, &apiErr) && apiErr.RID == "1-2-3"
			}},
			{"same token again", []string{refusal}, &fixedTokens{token: testToken, renewed: testToken}, 1, func(err error) bool { return errors.Is(err, ErrTokenRejected) }},
			{"another error after the resend", []string{refusal, `{"errcode":43101}`}, &fixedTokens{token: testToken, renewed: "new-token"}, 2, func(err error) bool {
				var apiErr *APIError
				var tokenErr *TokenError
				return errors.As(err, &apiErr) && apiErr.Code == 43101 && !errors.As(err, &tokenErr)
			}},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%d %s", code, tt.name), func(t *testing.T) {
				f := newFakeWeChat(t, tt.answers...)
				_, err := f.client(t, tt.tokens).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
				if !tt.want(err) {
					t.Errorf("got %v", err)
				}
				wantNoSecrets(t, fmt.Sprint(err))
				if len(f.bodies) != tt.calls || tt.tokens.renews.Load() != 1 {
					t.Errorf("%d calls and %d renewals, want %d and 1", len(f.bodies), tt.tokens.renews.Load(), tt.calls)
				}
				for i, body := range f.bodies {
					if body != testBody {
						t.Errorf("call %d had the body %s", i, body)
					}
				}
				if tt.calls == 2 && f.tokens[1] != tt.tokens.renewed {
					t.Errorf("resent with the token %q", f.tokens[1])
				}
				var tokenErr *TokenError
				if errors.As(err, &tokenErr) && Written(err) {
					t.Error("Written is true although WeChat refused the token")
				}
			})
		}
	}
}

func TestCallSendsOnce(t *testing.T) {
	for _, answer := range []string{
		`{"errcode":43101,"errmsg":"user refuse to accept the msg"}`, `{"errcode":-1,"errmsg":"system error"}`,
		`{"errcode":45009,"errmsg":"reach max api daily quota limit"}`, `{"errcode":48001,"errmsg":"api unauthorized"}`, `<html>`, ``,
	} {
		f := newFakeWeChat(t, answer)
		tokens := &fixedTokens{token: testToken}
		if _, err := f.client(t, tokens).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err == nil || !Written(err) {
			t.Errorf("%s: %v", answer, err)
		}
		if len(f.bodies) != 1 || tokens.renews.Load() != 0 {
			t.Errorf("%s: %d calls, %d renewals", answer, len(f.bodies), tokens.renews.Load())
		}
	}
}

func TestCallWithoutToken(t *testing.T) {
	f := newFakeWeChat(t, okAnswer)
	cause := &APIError{Endpoint: EndpointStableToken, Code: 40164, Msg: "invalid ip"}
	_, err := f.client(t, &fixedTokens{err: cause}).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
	var tokenErr *TokenError
	var apiErr *APIError
	if !errors.As(err, &tokenErr) || tokenErr.App != testApp || !errors.As(err, &apiErr) || apiErr.Class() != ClassConfig || Written(err) {
		t.Errorf("got %v", err)
	}
	if len(f.bodies) != 0 {
		t.Error("the request was sent without a token")
	}
}

func TestCallSendsBodyUnchanged(t *testing.T) {
	body := "{ \"content\" : \"<a href='x?a=1&b=2'>订单</a>\", \"n\":12345678901234567890 }"
	f := newFakeWeChat(t, okAnswer)
	answer, err := f.client(t, &fixedTokens{token: "a+b/c="}).Call(t.Context(), testApp, Request{Path: EndpointCustom, Body: []byte(body)})
	if err != nil || answer.Msg != "ok" || answer.Endpoint != EndpointCustom {
		t.Fatal(answer, err)
	}
	if f.bodies[0] != body || f.tokens[0] != "a+b/c=" || f.heads[0].Get("Content-Type") != "application/json" {
		t.Errorf("received %s with token %q, header %v", f.bodies[0], f.tokens[0], f.heads[0])
	}
}

func TestCallUploadsMedia(t *testing.T) {
	for _, mediaType := range []string{"image/png", ""} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			file, head, err := r.FormFile("media")
			if err != nil {
				t.Error(err)
				return
			}
			media, err := io.ReadAll(file)
			if err != nil || string(media) != pngBytes || head.Filename != "media.png" || head.Header.Get("Content-Type") != "image/png" || r.ContentLength <= 0 {
				t.Errorf("received %q, %v, %v", media, head, err)
			}
			_, _ = io.WriteString(w, `{"errcode":87014,"errmsg":"risky content rid: 1-2-3"}`)
		}))
		c := testClient(t, server.URL, 5*time.Second)
		_, err := c.Call(t.Context(), testApp, Request{Path: EndpointImageCheck, Media: []byte(pngBytes), MediaType: mediaType})
		var apiErr *APIError
		if !errors.As(err, &apiErr) || apiErr.Class() != ClassRisky {
			t.Errorf("got %v", err)
		}
		server.Close()
	}
	_, err := testClient(t, "http://127.0.0.1:1", time.Second).Call(t.Context(), testApp, Request{Path: EndpointImageCheck, Media: []byte("text")})
	if err == nil || Written(err) {
		t.Errorf("media that is not an image: %v", err)
	}
}

func TestWritten(t *testing.T) {
	written := &TransportError{Written: true, Err: io.ErrUnexpectedEOF}
	tests := []struct {
		err  error
		want bool
	}{
		{nil, false},
		{written, true},
		{&TransportError{Err: io.EOF}, false},
		{fmt.Errorf("wrapped: %w", &TransportError{Err: io.EOF}), false},
		{&APIError{Code: 43101}, true},
		{&AnswerError{Status: 502}, true},
		{&TokenError{Err: written}, false},
		{&TokenError{Err: &APIError{Code: 40164}}, false},
		{&TokenError{Err: ErrTokenRejected}, false},
		{errors.New("something else"), true},
		{context.Canceled, true},
	}
	for _, tt := range tests {
		if got := Written(tt.err); got != tt.want {
			t.Errorf("Written(%v) = %v", tt.err, got)
		}
	}
}

func TestQuota(t *testing.T) {
	tests := []struct {
		name, answer string
		want         Quota
	}{
		{
			"rates next to quota",
			`{"errcode":0,"errmsg":"ok","quota":{"daily_limit":500000,"used":12,"remain":499988},"rate_limit":{"call_count":100,"refresh_second":1},"component_rate_limit":{"call_count":5000,"refresh_second":60}}`,
			Quota{500000, 12, 499988, RateLimit{100, time.Second}, RateLimit{5000, time.Minute}},
		},
		{
			"rates inside quota, numbers as strings",
			`{"errcode":"0","quota":{"daily_limit":"500000","used":"12","remain":"499988","rate_limit":{"call_count":"100","refresh_second":"1"}}}`,
			Quota{500000, 12, 499988, RateLimit{100, time.Second}, RateLimit{}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFakeWeChat(t, `{"errcode":42001,"errmsg":"access_token expired"}`, tt.answer)
			got, err := f.client(t, &fixedTokens{token: testToken, renewed: "new-token"}).Quota(t.Context(), testApp, EndpointSubscribe)
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
			if f.bodies[1] != `{"cgi_path":"/cgi-bin/message/subscribe/send"}` {
				t.Errorf("the request has the body %s", f.bodies[1])
			}
		})
	}
	for _, answer := range []string{`{"errcode":76021,"errmsg":"cgi_path not found"}`, `{"errcode":0}`} {
		if _, err := newFakeWeChat(t, answer).client(t, &fixedTokens{token: testToken}).Quota(t.Context(), testApp, "/x"); err == nil {
			t.Errorf("%s: no error", answer)
		}
	}
}

func TestClearQuota(t *testing.T) {
	f := newFakeWeChat(t, okAnswer, `{"errcode":48006,"errmsg":"forbid to clear quota because of reaching the limit"}`)
	c := f.client(t, &fixedTokens{token: testToken})
	if err := c.ClearQuota(t.Context(), testApp); err != nil {
		t.Error(err)
	}
	var apiErr *APIError
	if err := c.ClearQuota(t.Context(), testApp); !errors.As(err, &apiErr) || apiErr.Code != 48006 {
		t.Errorf("got %v", err)
	}
	if f.bodies[0] != `{"appid":"`+testApp+`"}` {
		t.Errorf("the request has the body %s", f.bodies[0])
	}
}

// sameToken is a token source that has only the refused token.
type sameToken struct{ *fixedTokens }

func (sameToken) Renew(context.Context, string, Token) (Token, error) {
	return Token{}, &TokenError{App: testApp, Err: ErrTokenRejected}
}

// TestRejectedTokenErrorKeepsAPIError checks that the error wraps WeChat's answer to the call
// when no other token is available.
func TestRejectedTokenErrorKeepsAPIError(t *testing.T) {
	f := newFakeWeChat(t, `{"errcode":40001,"errmsg":"invalid credential rid: 1-2-3"}`)
	_, err := f.client(t, sameToken{&fixedTokens{token: testToken}}).Call(t.Context(), testApp, Request{Path: "/cgi-bin/message/custom/send", Body: []byte(`{}`)})
	var apiErr *APIError
	if !errors.Is(err, ErrTokenRejected) || !errors.As(err, &apiErr) || apiErr.Code != 40001 || apiErr.RID != "1-2-3" || Written(err) {
		t.Errorf("got %v", err)
	}
}
