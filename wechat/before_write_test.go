package wechat

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxcourier/wxcourier/wechat/internal/httpconn"
)

// slowDials returns a transport whose dials take a while; serve runs on the server's end.
func slowDials(took time.Duration, serve func(net.Conn)) *http.Transport {
	transport := httpconn.NewTransport()
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		time.Sleep(took) // synctest's clock
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			serve(server)
		}()
		return httpconn.Wrap(client), nil
	}
	return transport
}

// bubbleClient returns a client for a synctest bubble.
func bubbleClient(transport http.RoundTripper, tokens TokenSource) *Client {
	return NewClient(Config{BaseURL: "http://wechat.invalid", Timeout: 10 * time.Second, AttemptTimeout: 15 * time.Second}, tokens, WithTransport(transport))
}

// A new connection takes 100 ms. BeforeWrite is called when it is open, and the request is written
// when BeforeWrite returns; on the kept connection BeforeWrite is called at once.
func TestBeforeWriteIsCalledOnceConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var reads []time.Duration
		transport := slowDials(100*time.Millisecond, func(conn net.Conn) {
			r := bufio.NewReader(conn)
			for {
				if _, err := readRequest(r); err != nil {
					return
				}
				reads = append(reads, time.Since(start))
				writeOK(conn)
			}
		})
		c := bubbleClient(transport, &fixedTokens{token: testToken})
		var calls []time.Duration
		for range 2 {
			_, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody), BeforeWrite: func(context.Context) error {
				calls = append(calls, time.Since(start))
				time.Sleep(50 * time.Millisecond)
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
		}
		c.CloseIdle()
		synctest.Wait()
		want := [4]time.Duration{100 * time.Millisecond, 150 * time.Millisecond, 150 * time.Millisecond, 200 * time.Millisecond}
		if len(calls) != 2 || len(reads) != 2 || [4]time.Duration{calls[0], reads[0], calls[1], reads[1]} != want {
			t.Errorf("BeforeWrite was called at %v, the server read at %v", calls, reads)
		}
	})
}

// The time that BeforeWrite takes does not count towards the exchange's timeout; the attempt's
// timeout bounds it.
func TestBeforeWriteDoesNotUseExchangeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served atomic.Int64
		c := bubbleClient(slowDials(0, func(conn net.Conn) {
			r := bufio.NewReader(conn)
			if _, err := readRequest(r); err != nil {
				return
			}
			served.Add(1)
			time.Sleep(8 * time.Second) // of 10
			writeOK(conn)
		}), &fixedTokens{token: testToken})
		call := func(beforeWrite func(context.Context) error) error {
			_, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody), BeforeWrite: beforeWrite})
			return err
		}
		if err := call(func(context.Context) error { time.Sleep(5 * time.Second); return nil }); err != nil {
			t.Errorf("5 s before the write and 8 s after it: %v", err)
		}
		began := time.Now()
		err := call(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if took := time.Since(began); took != 15*time.Second || Written(err) {
			t.Errorf("BeforeWrite ended after %v: %v", took, err)
		}
		err = call(func(context.Context) error { time.Sleep(time.Minute); return nil }) // ignores ctx
		if Written(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("BeforeWrite returned after the end of the attempt: %v", err)
		}
		c.CloseIdle()
		synctest.Wait()
		if n := served.Load(); n != 1 {
			t.Errorf("%d requests were written, want 1", n)
		}
	})
}

var errNoPermit = errors.New("no permit")

// After an error from BeforeWrite the request is not written: on a new connection, a kept one, over
// TLS, through a custom transport, or on a second connection.
func TestBeforeWriteErrorPreventsWrite(t *testing.T) {
	var requests atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		requests.Add(1)
		_, _ = io.WriteString(w, okAnswer)
	})
	for _, tt := range []struct {
		name         string
		secure, kept bool
		custom       bool
	}{
		{name: "new"},
		{name: "kept", kept: true},
		{name: "new, TLS", secure: true},
		{name: "kept, TLS", secure: true, kept: true},
		{name: "custom transport", custom: true},
		{name: "custom transport, kept", custom: true, kept: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			transport := httpconn.NewTransport()
			var rt http.RoundTripper = transport
			if !tt.secure {
				server.Start()
			} else {
				server.StartTLS()
				transport.TLSClientConfig.RootCAs = x509.NewCertPool()
				transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			}
			defer server.Close()
			if tt.custom {
				rt = &headerWriter{next: transport}
			}
			c := NewClient(Config{BaseURL: server.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, &fixedTokens{token: testToken}, WithTransport(rt))
			defer transport.CloseIdleConnections()
			request := Request{Path: EndpointSubscribe, Body: []byte(testBody)}
			if tt.kept {
				if _, err := c.Call(t.Context(), testApp, request); err != nil {
					t.Fatal(err)
				}
			}
			before, calls := requests.Load(), 0
			request.BeforeWrite = func(context.Context) error { calls++; return errNoPermit }
			// This hook runs after the client's own, right before net/http writes.
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				if _, err := info.Conn.Write([]byte("x")); err == nil {
					t.Error("the connection can be written to")
				}
			}})
			_, err := c.Call(ctx, testApp, request)
			var transportErr *TransportError
			if !errors.As(err, &transportErr) || Written(err) || transportErr.Op != "wait" || !errors.Is(err, errNoPermit) || calls != 1 {
				t.Errorf("BeforeWrite was called %d times: %#v", calls, err)
			}
			request.BeforeWrite = func(context.Context) error { return nil }
			if _, err := c.Call(t.Context(), testApp, request); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if n := requests.Load() - before; n != 1 {
				t.Errorf("the server read %d requests, want only the next call's", n)
			}
		})
	}
}

// BeforeWrite is called before each write: also before the resend with a renewed token, and before
// the retry on another connection when the first was dead.
func TestBeforeWriteIsCalledForEachWrite(t *testing.T) {
	calls := 0
	request := Request{Path: EndpointSubscribe, Body: []byte(testBody), BeforeWrite: func(context.Context) error { calls++; return nil }}
	f := newFakeWeChat(t, `{"errcode":42001,"errmsg":"access_token expired"}`, okAnswer)
	if _, err := f.client(t, &fixedTokens{token: testToken, renewed: "new-token"}).Call(t.Context(), testApp, request); err != nil || calls != 2 {
		t.Errorf("a renewed token: BeforeWrite was called %d times, %v", calls, err)
	}

	transport, dials := httpconn.NewTransport(), 0
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if dials++; dials == 1 {
			conn = &deadWriter{Conn: conn, writes: new(atomic.Int64)}
		}
		return httpconn.Wrap(conn), err
	}
	f = newFakeWeChat(t, okAnswer)
	c := NewClient(Config{BaseURL: f.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, &fixedTokens{token: testToken}, WithTransport(transport))
	defer c.CloseIdle()
	for i, want := range []int{1, 2} {
		calls = 0
		if _, err := c.Call(t.Context(), testApp, request); err != nil || calls != want {
			t.Errorf("call %d of two, the second on a dead connection: BeforeWrite was called %d times, %v", i+1, calls, err)
		}
	}
}
