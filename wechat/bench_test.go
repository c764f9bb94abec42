package wechat

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"
)

// BenchmarkCall measures one call on a kept connection with a cached token. The server only
// reads the request and writes the answer. On a busy machine a call may open a second connection,
// since a kept one returns to the pool shortly after its answer was read.
func BenchmarkCall(b *testing.B) {
	const answer = `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`
	whole := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(answer)) + "\r\n\r\n" + answer)
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerEach(conn, whole)
		}
	}()
	cfg := Config{BaseURL: "http://" + listener.Addr().String(), Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}
	tokens := NewTokens(cfg, nil, nil)
	tokens.cache[testApp] = cachedToken{
		sharedToken: sharedToken{Token: Token{Value: testToken, ExpiresAt: time.Now().Add(time.Hour)}}, recheckAt: time.Now().Add(time.Hour),
	}
	c := NewClient(cfg, tokens)
	defer c.CloseIdle()
	request := Request{Path: EndpointSubscribe, Body: []byte(testBody), BeforeWrite: func(context.Context) error { return nil }}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.FetchToken(b.Context(), testApp); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Call(b.Context(), testApp, request); err != nil {
			b.Fatal(err)
		}
	}
}

// answerEach answers each request on a connection. One read must return the whole request.
func answerEach(conn net.Conn, answer []byte) {
	defer func() { _ = conn.Close() }()
	request := make([]byte, 4096)
	for {
		if _, err := conn.Read(request); err != nil {
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// BenchmarkDecodeAnswer measures decoding an answer that was read.
func BenchmarkDecodeAnswer(b *testing.B) {
	secrets := sensitiveValues{secrets: []Secret{testToken, testSecret}, body: []byte(testBody)}
	for _, bb := range []struct {
		name     string
		endpoint Endpoint
		body     string
		fails    bool
	}{
		{"message", EndpointSubscribe, `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`, false},
		{"link", EndpointScheme, `{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=XTSkBZlzqmn"}`, false},
		{"check", EndpointTextCheck, `{"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100},"detail":[{"strategy":"content_model","errcode":0,"suggest":"pass","label":100,"prob":90}],"trace_id":"60ae120f-371d5872-7941a05b"}`, false},
		{"refused", EndpointSubscribe, `{"errcode":43101,"errmsg":"user refuse to accept the msg rid: 66a1b2c3-1234abcd-5678ef90"}`, true},
		{"not JSON", EndpointSubscribe, `<html><body>502 Bad Gateway</body></html>`, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			rep := reply{endpoint: bb.endpoint, status: 200, contentType: "application/json; encoding=utf-8", body: []byte(bb.body)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAnswer(rep, secrets); (err != nil) != bb.fails {
					b.Fatal(err)
				}
			}
		})
	}
}
