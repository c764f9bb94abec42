package wechat

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/wechat/internal/httpconn"
)

// fixedTokens is a token source with one token and one renewed token.
type fixedTokens struct {
	token   string
	renewed string
	err     error
	renews  atomic.Int64
}

func (f *fixedTokens) Token(context.Context, string) (Token, error) {
	return Token{Value: Secret(f.token)}, f.err
}

func (f *fixedTokens) Renew(context.Context, string, Token) (Token, error) {
	f.renews.Add(1)
	return Token{Value: Secret(f.renewed)}, f.err
}

const (
	testApp    = "wx0123456789abcdef"
	testToken  = "TOKEN-that-nobody-may-see" //nolint:gosec // a test's own
	testSecret = "SECRET-that-nobody-may-see"
	testOpenID = "oPENID-that-nobody-may-see"
	testText   = "words-that-nobody-may-see"
)

const testBody = `{"touser":"` + testOpenID + `","data":{"thing1":{"value":"` + testText + `"}}}`

func testClient(t *testing.T, url string, timeout time.Duration) *Client {
	t.Helper()
	c := NewClient(Config{BaseURL: url, Timeout: timeout, AttemptTimeout: 2 * timeout}, &fixedTokens{token: testToken})
	t.Cleanup(c.CloseIdle)
	return c
}

// wantNoSecrets fails the test if text contains a secret of the test.
func wantNoSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{testToken, testSecret, testOpenID, testText} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in: %s", secret, text)
		}
	}
}

// rawServer accepts connections and calls serve with each.
func rawServer(t *testing.T, serve func(net.Conn)) (url string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String()
}

// readRequest reads one whole request.
func readRequest(r *bufio.Reader) (*http.Request, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, req.Body)
	return req, err
}

const okAnswer = `{"errcode":0,"errmsg":"ok"}`

func writeOK(w io.Writer) {
	_, _ = fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(okAnswer), okAnswer)
}

func TestNoAnswerIsNeverResent(t *testing.T) {
	tests := []struct {
		name string
		url  func(t *testing.T, requests *atomic.Int64) string
		want int64 // requests that the server read completely
	}{
		{"closes instead of answering", func(t *testing.T, requests *atomic.Int64) string {
			return rawServer(t, func(c net.Conn) {
				if _, err := readRequest(bufio.NewReader(c)); err == nil {
					requests.Add(1)
				}
			})
		}, 1},
		{"resets instead of answering", func(t *testing.T, requests *atomic.Int64) string {
			return rawServer(t, func(c net.Conn) {
				if _, err := readRequest(bufio.NewReader(c)); err == nil {
					requests.Add(1)
				}
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0)
				}
			})
		}, 1},
		{"closes a kept connection at the second request", func(t *testing.T, requests *atomic.Int64) string {
			url := rawServer(t, func(c net.Conn) {
				r := bufio.NewReader(c)
				for i := range 2 {
					if _, err := readRequest(r); err != nil {
						return
					}
					requests.Add(1)
					if i == 0 {
						writeOK(c)
					}
				}
			})
			return url
		}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int64
			c := testClient(t, tt.url(t, &requests), 5*time.Second)
			var err error
			for range tt.want {
				_, err = c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
			}
			var transportErr *TransportError
			if !errors.As(err, &transportErr) || !transportErr.Written || !Written(err) || transportErr.Op != "receive" {
				t.Errorf("got %#v, want a written TransportError", err)
			}
			if got := requests.Load(); got != tt.want {
				t.Errorf("the server read %d requests, want %d", got, tt.want)
			}
			wantNoSecrets(t, err.Error())
		})
	}
}

// The server closes kept connections without notice: a call may fail, but the server never
// reads one twice.
func TestStaleConnectionsNeverRepeatARequest(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string]int)
	url := rawServer(t, func(c net.Conn) {
		req, err := readRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		mu.Lock()
		seen[req.URL.Path]++
		mu.Unlock()
		writeOK(c) // announces a kept connection, and closes it
	})
	c := testClient(t, url, 5*time.Second)
	failed := 0
	for i := range 300 {
		_, err := c.Call(t.Context(), testApp, Request{Path: Endpoint(fmt.Sprintf("/call/%d", i)), Body: []byte(`{}`)})
		if err != nil {
			failed++
			if !Written(err) {
				t.Errorf("call %d: %v: not retried although nothing was written", i, err)
			}
		}
	}
	t.Logf("%d of 300 calls failed", failed)
	mu.Lock()
	defer mu.Unlock()
	for path, n := range seen {
		if n != 1 {
			t.Errorf("%s was read %d times", path, n)
		}
	}
}

// Over TLS the bytes of the handshake do not count as written bytes of the request.
func TestNoAnswerOverTLS(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if requests.Add(1) == 1 {
			_, _ = io.WriteString(w, okAnswer)
			return
		}
		panic(http.ErrAbortHandler) // closes the connection
	}))
	defer server.Close()
	transport := httpconn.NewTransport()
	transport.TLSClientConfig.RootCAs = x509.NewCertPool()
	transport.TLSClientConfig.RootCAs.AddCert(server.Certificate())
	c := NewClient(Config{BaseURL: server.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, &fixedTokens{token: testToken}, WithTransport(transport))
	defer c.CloseIdle()
	if _, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
		t.Fatal(err)
	}
	_, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
	if !Written(err) || requests.Load() != 2 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}

// deadWriter is a connection on which only the first write succeeds.
type deadWriter struct {
	net.Conn
	writes *atomic.Int64
}

func (d *deadWriter) Write(p []byte) (int, error) {
	if d.writes.Add(1) > 1 {
		return 0, syscall.EPIPE
	}
	return d.Conn.Write(p)
}

func TestDeadConnectionIsReplaced(t *testing.T) {
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		_, _ = io.WriteString(w, okAnswer)
	}))
	defer server.Close()
	dials := 0
	transport := httpconn.NewTransport()
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if dials++; dials == 1 {
			conn = &deadWriter{Conn: conn, writes: new(atomic.Int64)}
		}
		return httpconn.Wrap(conn), err
	}
	c := NewClient(Config{BaseURL: server.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}, &fixedTokens{token: testToken}, WithTransport(transport))
	defer c.CloseIdle()
	for i := range 2 {
		if _, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if served.Load() != 2 || dials != 2 {
		t.Errorf("%d served over %d connections, want 2 over 2", served.Load(), dials)
	}
}

// headerWriter is a transport that modifies the requests it gets, which [http.RoundTripper]
// forbids.
type headerWriter struct {
	next    http.RoundTripper
	earlier []string
}

func (s *headerWriter) RoundTrip(r *http.Request) (*http.Response, error) {
	s.earlier = append(s.earlier, r.Header.Get("X-Modified"))
	r.Header.Set("X-Modified", "was here")
	return s.next.RoundTrip(r)
}

// With a custom transport requests do not share a header.
func TestCustomTransportsGetTheirOwnHeaders(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type") + " " + r.Header.Get("User-Agent"); got != "application/json wxcourier" {
			t.Errorf("the server got %q", got)
		}
		_, _ = io.WriteString(w, okAnswer)
	}))
	defer server.Close()
	s := &headerWriter{next: httpconn.NewTransport()}
	cfg := Config{BaseURL: server.URL, Timeout: 5 * time.Second, AttemptTimeout: 5 * time.Second}
	for _, c := range []*Client{
		NewClient(cfg, &fixedTokens{token: testToken}, WithTransport(s)), NewClient(cfg, &fixedTokens{token: testToken}),
	} {
		for range 2 {
			if _, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
				t.Fatal(err)
			}
		}
		c.CloseIdle()
	}
	s.next.(*http.Transport).CloseIdleConnections()
	if len(s.earlier) != 2 || s.earlier[0] != "" || s.earlier[1] != "" {
		t.Errorf("requests have the header of an earlier request: %q", s.earlier)
	}
}

func TestNothingWritten(t *testing.T) {
	var requests atomic.Int64
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	silent := rawServer(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }) // never answers the TLS handshake
	refusing := func() string {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return "http://" + l.Addr().String()
	}()
	tests := []struct{ name, url string }{
		{"refused", refusing},
		{"no such host", "http://nothing.invalid"},
		{"untrusted certificate", secure.URL},
		{"no TLS handshake", strings.Replace(silent, "http:", "https:", 1)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testClient(t, tt.url, 300*time.Millisecond).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
			var transportErr *TransportError
			if !errors.As(err, &transportErr) || transportErr.Written || Written(err) || transportErr.Op != "connect" {
				t.Errorf("got %#v, want an unwritten TransportError", err)
			}
			wantNoSecrets(t, err.Error())
		})
	}
	t.Run("canceled before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := testClient(t, secure.URL, time.Second).Call(ctx, testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
		if Written(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no path", func(t *testing.T) {
		_, err := testClient(t, secure.URL, time.Second).Call(t.Context(), testApp, Request{Path: "/x?y=1", Body: []byte(testBody)})
		if err == nil || Written(err) {
			t.Errorf("got %v", err)
		}
	})
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestTimeouts(t *testing.T) {
	read := make(chan struct{}, 1)
	hang := rawServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := readRequest(r); err == nil {
			read <- struct{}{}
		}
		_, _ = r.ReadByte() // until the client gives up
	})
	midway := rawServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		if _, err := readRequest(r); err == nil {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
		}
		_, _ = r.ReadByte()
	})
	deaf := rawServer(t, func(c net.Conn) { // never reads the body
		r := bufio.NewReader(c)
		_, _ = r.Peek(1)
		<-t.Context().Done()
	})
	tests := []struct {
		name, url string
		op        string
		body      []byte
	}{
		{"no answer", hang, "receive", []byte(testBody)},
		{"half an answer", midway, "receive", []byte(testBody)},
		{"half a request", deaf, "send", []byte(`{"x":"` + strings.Repeat("y", 32<<20) + `"}`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := testClient(t, tt.url, 300*time.Millisecond).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: tt.body})
			var transportErr *TransportError
			if !errors.As(err, &transportErr) || !transportErr.Written || transportErr.Op != tt.op || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v (%T), want a written TransportError in %s", err, err, tt.op)
			}
			wantNoSecrets(t, err.Error())
		})
	}
	t.Run("canceled while waiting", func(t *testing.T) {
		for len(read) > 0 {
			<-read
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-read
			cancel()
		}()
		_, err := testClient(t, hang, 10*time.Second).Call(ctx, testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
		if !Written(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStrangeAnswers(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		status  int
	}{
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect) //nolint:gosec // the test checks that it is not followed
		}, 307},
		{"bad gateway", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>"+r.URL.RequestURI()) //nolint:gosec // a test's own answer
		}, 502},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"errcode":0,`)
		}, 200},
		{"too large", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"errcode":0,"errmsg":"`+strings.Repeat("x", maxAnswerBytes)+`"}`)
		}, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			_, err := testClient(t, server.URL, 5*time.Second).Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
			var answerErr *AnswerError
			if !errors.As(err, &answerErr) || answerErr.Status != tt.status {
				t.Errorf("got %v, want an AnswerError of status %d", err, tt.status)
			}
			wantNoSecrets(t, fmt.Sprint(err))
		})
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int64
	const atOnce = 100
	var arrived sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		arrived.Wait() // concurrent, so each needs its own connection
		_, _ = io.WriteString(w, okAnswer)
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := testClient(t, server.URL, 10*time.Second)
	for range 3 {
		arrived.Add(atOnce)
		var calls sync.WaitGroup
		for range atOnce {
			calls.Go(func() {
				if _, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(`{}`)}); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
	}
	// A connection returns to the pool shortly after its answer was read, so a few new ones
	// may be opened.
	if n := opened.Load(); n > atOnce*3/2 {
		t.Errorf("%d connections for three rounds of %d concurrent calls", n, atOnce)
	}
}
