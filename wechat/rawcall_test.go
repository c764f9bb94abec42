package wechat_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	rawApp    = "wx0123456789abcdef"
	rawSecret = "raw-app-secret-0123456789" //nolint:gosec // of a stand-in
)

// newRaw returns a client of a WeChat whose token is "token-N" and whose other answers come from answer.
func newRaw(t *testing.T, answer http.HandlerFunc) *wechat.Client {
	t.Helper()
	issued := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == string(wechat.EndpointStableToken) {
			issued++
			_, _ = io.WriteString(w, `{"access_token":"token-`+strings.Repeat("x", issued)+`","expires_in":7200}`)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(server.Close)
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = server.URL
	_, rdb := redistest.Mini(t)
	tokens := wechat.NewTokens(cfg, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: rawSecret}, app == rawApp
	}, wechat.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(tokens.Close)
	client := wechat.NewClient(cfg, tokens)
	t.Cleanup(client.CloseIdle)
	return client
}

// TestCallRaw: the request reaches WeChat as it is, with the token, and the answer comes as it is,
// together with what it means.
func TestCallRaw(t *testing.T) {
	for _, tt := range []struct {
		name, path, answer string
		status, code       int // code: of the *APIError; -2: an *AnswerError
		body               string
	}{
		{"a list", "/datacube/x", `{"list":[]}`, 200, 0, `{"list":[]}`},
		{"a code", "/wxa/x", `{"errcode":40029,"errmsg":"invalid code rid: 1-2"}`, 200, 40029, `{"errcode":40029,"errmsg":"invalid code rid: 1-2"}`},
		{"a file", "/cgi-bin/media/get", "\x00\x01binary", 200, 0, "\x00\x01binary"},
		{"HTML", "/wxa/x", "<html>", 200, -2, "<html>"},
		{"a proxy", "/wxa/x", "<html>", 502, -2, "<html>"},
		{"an empty answer", "/wxa/x", "", 200, -2, ""},
		{"a link without a link", "/wxa/generatescheme", `{"errcode":0}`, 200, -2, `{"errcode":0}`},
		{"a token in the answer", "/cgi-bin/openapi/rid/get", `{"errcode":0,"u":"?access_token=token-x&b"}`, 200, 0, `{"errcode":0,"u":"?access_token=***&b"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got *http.Request
			var body []byte
			client := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ = io.ReadAll(r.Body)
				got = r
				w.Header().Set("Content-Type", "application/x-test")
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.answer)
			})
			answer, err := client.CallRaw(t.Context(), rawApp, wechat.RawRequest{
				Path: wechat.Endpoint(tt.path), Method: http.MethodPost, Query: url.Values{"a": {"b c"}}, ContentType: "text/x", Body: []byte("\xffbody"),
			})
			var api *wechat.APIError
			var bad *wechat.AnswerError
			switch {
			case tt.code == 0 && err != nil, tt.code == -2 && !errors.As(err, &bad), tt.code > 0 && (!errors.As(err, &api) || api.Code != tt.code):
				t.Errorf("%v", err)
			}
			if string(answer.Body) != tt.body || answer.Status != tt.status || answer.Header.Get("Content-Type") != "application/x-test" {
				t.Errorf("%d %q", answer.Status, answer.Body)
			}
			if q := got.URL.Query(); string(body) != "\xffbody" || got.Header.Get("Content-Type") != "text/x" || q.Get("access_token") != "token-x" || q.Get("a") != "b c" {
				t.Errorf("%s %q", got.URL, body)
			}
		})
	}
}

// TestCallRawRenewsTheToken: a refused token is renewed, and the request sent once more, each time
// with leave.
func TestCallRawRenewsTheToken(t *testing.T) {
	client := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("access_token") == "token-x" {
			_, _ = io.WriteString(w, `{"errcode":42001,"errmsg":"access_token expired"}`)
			return
		}
		_, _ = io.WriteString(w, `{"errcode":0}`)
	})
	asked := 0
	answer, err := client.CallRaw(t.Context(), rawApp, wechat.RawRequest{
		Path: "/wxa/x", Method: http.MethodGet, BeforeWrite: func(context.Context) error { asked++; return nil },
	})
	if err != nil || string(answer.Body) != `{"errcode":0}` || asked != 2 {
		t.Errorf("%v %q, asked %d times", err, answer.Body, asked)
	}
}

// TestCallRawWithSecret: the app's secret stands in the query, and in nothing that comes back.
func TestCallRawWithSecret(t *testing.T) {
	client := newRaw(t, func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("secret") != rawSecret || q.Get("appid") != rawApp || q.Has("access_token") {
			t.Errorf("%v", q)
		}
		_, _ = io.WriteString(w, `{"errcode":40029,"errmsg":"code `+r.URL.Query().Get("js_code")+` of `+rawSecret+`"}`) //nolint:gosec // JSON
	})
	request := wechat.RawRequest{Path: "/sns/jscode2session", Method: http.MethodGet, Query: url.Values{"js_code": {"0aLoginCode"}}, Secret: true}
	answer, err := client.CallRaw(t.Context(), rawApp, request)
	if err == nil || strings.Contains(err.Error(), rawSecret) || strings.Contains(err.Error(), "0aLoginCode") || strings.Contains(string(answer.Body), rawSecret) {
		t.Errorf("%v %q", err, answer.Body)
	}
	if _, err := client.CallRaw(t.Context(), "wx00000000000000ff", request); !errors.Is(err, wechat.ErrNoCredentials) {
		t.Errorf("an app without a secret: %v", err)
	}
}

// TestCallRawRefuses: a request that could carry another identity, or reach another path, is not sent.
func TestCallRawRefuses(t *testing.T) {
	client := newRaw(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	for _, r := range []wechat.RawRequest{
		{Path: "wxa/x", Method: http.MethodGet},
		{Path: "/wxa/x?access_token=1", Method: http.MethodGet},
		{Path: "/wxa/%2e%2e/x", Method: http.MethodGet},
		{Path: "/wxa/x", Method: http.MethodDelete},
		{Path: "/wxa/x", Method: http.MethodGet, Query: url.Values{"access_token": {"x"}}},
		{Path: "/sns/x", Method: http.MethodGet, Query: url.Values{"secret": {"x"}}, Secret: true},
		{Path: "/sns/x", Method: http.MethodGet, Query: url.Values{"appid": {"x"}}, Secret: true},
	} {
		var transport *wechat.TransportError
		if _, err := client.CallRaw(t.Context(), rawApp, r); !errors.As(err, &transport) || transport.Written {
			t.Errorf("%+v: %v", r, err)
		}
	}
}
