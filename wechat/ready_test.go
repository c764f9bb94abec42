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
)

// slowDials is a transport whose connections each take a while to open, and then lead to
// serve.
func slowDials(took time.Duration, serve func(net.Conn)) *http.Transport {
	transport := newTransport()
	transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
		time.Sleep(took) // of a bubble's clock
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			serve(server)
		}()
		return &countingConn{Conn: client}, nil
	}
	return transport
}

// bubbleClient is a client for a bubble of synctest.
func bubbleClient(transport http.RoundTripper, tokens TokenSource) *Client {
	return NewClient(Config{BaseURL: "http://wechat.invalid", Timeout: 10 * time.Second, AttemptTimeout: 15 * time.Second}, tokens, WithTransport(transport))
}

// A new connection takes 100 ms. Ready is asked when it is there, and the request leaves
// when Ready says so; on the kept connection there is nothing to wait for.
func TestReadyIsCalledOnceConnected(t *testing.T) {
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
		var readyCalls []time.Duration
		for range 2 {
			_, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody), Ready: func(context.Context) error {
				readyCalls = append(readyCalls, time.Since(start))
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
		if len(readyCalls) != 2 || len(reads) != 2 || [4]time.Duration{readyCalls[0], reads[0], readyCalls[1], reads[1]} != want {
			t.Errorf("Ready was asked at %v, the server read at %v", readyCalls, reads)
		}
	})
}

// What Ready takes is not taken from the answer's time, and the attempt's timeout bounds
// it.
func TestReadyDoesNotUseExchangeTimeout(t *testing.T) {
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
		call := func(ready func(context.Context) error) error {
			_, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody), Ready: ready})
			return err
		}
		if err := call(func(context.Context) error { time.Sleep(5 * time.Second); return nil }); err != nil {
			t.Errorf("5 s before the write and 8 s after it: %v", err)
		}
		began := time.Now()
		err := call(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		if took := time.Since(began); took != 15*time.Second || Written(err) {
			t.Errorf("Ready ended after %v: %v", took, err)
		}
		err = call(func(context.Context) error { time.Sleep(time.Minute); return nil }) // does not look at ctx
		if Written(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ready outlasted the attempt: %v", err)
		}
		c.CloseIdle()
		synctest.Wait()
		if n := served.Load(); n != 1 {
			t.Errorf("%d requests were written, want 1", n)
		}
	})
}

var errNotReady = errors.New("not ready")

// What Ready refuses is not written: not on a new connection, not on a kept one, not over
// TLS, not through a foreign transport, and not on another connection either.
func TestReadyErrorPreventsWrite(t *testing.T) {
	var requests atomic.Int64
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		requests.Add(1)
		_, _ = io.WriteString(w, okAnswer)
	})
	for _, tt := range []struct {
		name         string
		secure, kept bool
		foreign      bool
	}{
		{name: "new"},
		{name: "kept", kept: true},
		{name: "new, TLS", secure: true},
		{name: "kept, TLS", secure: true, kept: true},
		{name: "foreign", foreign: true},
		{name: "foreign, kept", foreign: true, kept: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(handler)
			transport := newTransport()
			var rt http.RoundTripper = transport
			if !tt.secure {
				server.Start()
			} else {
				server.StartTLS()
				transport.TLSClientConfig.RootCAs = x509.NewCertPool()
				transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
			}
			defer server.Close()
			if tt.foreign {
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
			before, readyCalls := requests.Load(), 0
			request.Ready = func(context.Context) error { readyCalls++; return errNotReady }
			// Its hook comes after ours, right before net/http goes on to write.
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				if _, err := info.Conn.Write([]byte("x")); err == nil {
					t.Error("the connection can be written to")
				}
			}})
			_, err := c.Call(ctx, testApp, request)
			var transportErr *TransportError
			if !errors.As(err, &transportErr) || Written(err) || transportErr.Op != "wait" || !errors.Is(err, errNotReady) || readyCalls != 1 {
				t.Errorf("asked %d times: %#v", readyCalls, err)
			}
			request.Ready = func(context.Context) error { return nil }
			if _, err := c.Call(t.Context(), testApp, request); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if n := requests.Load() - before; n != 1 {
				t.Errorf("the server read %d requests, want that of the next call alone", n)
			}
		})
	}
}

// Each write has an asking of its own: the repetition with a renewed token, and the one
// on another connection when the first was dead.
func TestReadyIsCalledForEachWrite(t *testing.T) {
	readyCalls := 0
	request := Request{Path: EndpointSubscribe, Body: []byte(testBody), Ready: func(context.Context) error { readyCalls++; return nil }}
	f := newFakeWeChat(t, `{"errcode":42001,"errmsg":"access_token expired"}`, okAnswer)
	if _, err := f.client(t, &fixedTokens{token: testToken, renewed: "new-token"}).Call(t.Context(), testApp, request); err != nil || readyCalls != 2 {
		t.Errorf("a renewed token: asked %d times, %v", readyCalls, err)
	}

	transport, dials := newTransport(), 0
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if dials++; dials == 1 {
			conn = &deadWriter{Conn: conn, writes: new(atomic.Int64)}
		}
		return &countingConn{Conn: conn}, err
	}
	f = newFakeWeChat(t, okAnswer)
	c := NewClient(Config{BaseURL: f.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, &fixedTokens{token: testToken}, WithTransport(transport))
	defer c.CloseIdle()
	for i, want := range []int{1, 2} {
		readyCalls = 0
		if _, err := c.Call(t.Context(), testApp, request); err != nil || readyCalls != want {
			t.Errorf("call %d of two, the second on a dead connection: asked %d times, %v", i+1, readyCalls, err)
		}
	}
}
