package wechat

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// maxAnswerBytes bounds an answer. The largest that WeChat gives, the picture of a
// QR code, stays under 1 MB.
const maxAnswerBytes = 4 << 20

// newTransport is the one pool of connections of a Client.
func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	protocols := new(http.Protocols)
	// HTTP/1 alone: one request has the connection to itself, so that the bytes
	// written on it tell whether that request got out. HTTP/2 would also let a
	// server's GOAWAY resend a request behind our back.
	protocols.SetHTTP1(true)
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialPlain(ctx, dialer, network, addr)
		},
		Protocols:           protocols,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: handshakeTimeout,
		// All connections of a busy client are to one host: the default of 2 idle
		// ones would close and open nearly all of them all the time.
		MaxIdleConns:        2048,
		MaxIdleConnsPerHost: 1024,
		// Shorter than what servers commonly keep (60 to 75 s): the side that closes
		// an idle connection never loses a request to the close.
		IdleConnTimeout: 45 * time.Second,
	}
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dialTLS(ctx, dialer, network, addr, t.TLSClientConfig)
	}
	return t
}

// countingConn counts the bytes that the kernel has taken over.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// watch learns from httptrace how far one request came.
type watch struct {
	conn   atomic.Pointer[countingConn]
	before atomic.Int64 // bytes on conn before this request
	got    atomic.Bool  // there was a connection
	reused atomic.Bool  // it had served other requests
	began  atomic.Bool  // the first header was handed to the connection's buffer
	wrote  atomic.Bool  // the whole request was written without an error
	// earlier: bytes went out on a connection before this one. net/http may repeat a
	// GET on another connection, of itself; it never does that to a POST.
	earlier atomic.Bool
}

func (w *watch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			if w.written() {
				w.earlier.Store(true)
			}
			if conn, ok := info.Conn.(*answerConn); ok {
				conn.expect()
			}
			if conn := innermost(info.Conn); conn != nil {
				w.before.Store(conn.written.Load())
				w.conn.Store(conn)
			}
			w.reused.Store(info.Reused)
			w.got.Store(true)
		},
		WroteHeaderField: func(string, []string) { w.began.Store(true) },
		WroteHeaders:     func() { w.began.Store(true) },
		WroteRequest:     func(info httptrace.WroteRequestInfo) { w.wrote.Store(info.Err == nil) },
	}
}

// innermost finds the counted connection under TLS and proxies' TLS, nil when there
// is none (a transport of the caller's own).
func innermost(conn net.Conn) *countingConn {
	for {
		if counted, ok := conn.(*countingConn); ok {
			return counted
		}
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = outer.NetConn()
	}
}

// written tells whether any of the request may have reached the peer. It is called
// when the exchange has failed: net/http has then ended the connection's writer.
// Sure of "no" are a request without a connection, one whose first header was never
// handed over, and one of which the kernel took no byte.
func (w *watch) written() bool {
	if w.earlier.Load() {
		return true
	}
	if !w.got.Load() || !w.began.Load() {
		return false
	}
	conn := w.conn.Load()
	return conn == nil || conn.written.Load() > w.before.Load()
}

// op names how far the request came, for people.
func (w *watch) op() string {
	switch {
	case w.wrote.Load():
		return "receive"
	case w.got.Load():
		return "send"
	}
	return "connect"
}

// base is where WeChat's endpoints are.
type base struct {
	url *url.URL
	bad error // why there is no url
}

func newBase(cfg Config) base {
	u, err := url.Parse(strings.TrimRight(cfg.BaseURL, "/"))
	return base{u, err}
}

// endpoint is the URL of a plain path.
func (b base) endpoint(path Endpoint, query string) *url.URL {
	u := *b.url
	u.Path += string(path)
	u.RawQuery = query
	return &u
}

// outgoing is one HTTP request. Its url and body hold secrets; hidden knows them.
type outgoing struct {
	endpoint    Endpoint
	method      string
	url         *url.URL
	until       time.Time // when to give up, if that is before the exchanger's timeout; zero: never
	contentType string
	body        []byte
	hidden      hidden
}

// contentJSON is the content type of nearly every request.
const contentJSON = "application/json"

// unfit says that the request could not be made.
func (o *outgoing) unfit(err error) error {
	return &TransportError{Endpoint: o.endpoint, Op: "prepare", Err: o.hidden.err(err)}
}

func headerOf(contentType string) http.Header {
	h := http.Header{"User-Agent": {"wxcourier"}}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	return h
}

// reply is one whole answer.
type reply struct {
	endpoint    Endpoint
	status      int
	contentType string
	body        []byte
}

// exchanger does HTTP exchanges, each within its timeout.
//
// It asks the transport itself: an http.Client would follow redirects, which carries the
// token elsewhere and sends the request twice, and write the URL into its errors.
type exchanger struct {
	transport  http.RoundTripper
	timeout    time.Duration
	jsonHeader http.Header // of all requests in JSON; nil when each has its own
}

func newExchanger(rt http.RoundTripper, timeout time.Duration) *exchanger {
	x := &exchanger{transport: rt, timeout: timeout}
	if _, ok := rt.(*http.Transport); ok { // which only reads it; another one may write
		x.jsonHeader = headerOf(contentJSON)
	}
	return x
}

// closeIdle closes the connections that no request is using, where the transport keeps any.
func (x *exchanger) closeIdle() {
	if keeps, ok := x.transport.(interface{ CloseIdleConnections() }); ok {
		keeps.CloseIdleConnections()
	}
}

// exchange sends the request and reads the answer to its end. A failure is a
// *TransportError or an *AnswerError.
//
// A kept-alive connection may have been closed by the server just when it was taken
// from the pool. When surely nothing was written the request goes to another one;
// each time round uses up one dead connection, so that this ends.
func (x *exchanger) exchange(ctx context.Context, out outgoing) (reply, error) {
	until := time.Now().Add(x.timeout)
	if !out.until.IsZero() && out.until.Before(until) {
		until = out.until
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		var w watch
		rep, err := x.once(ctx, out, &w)
		if err != nil && w.reused.Load() && !w.written() && ctx.Err() == nil {
			continue
		}
		return rep, err
	}
}

func (x *exchanger) once(ctx context.Context, out outgoing, w *watch) (reply, error) {
	// The URL is set by hand, where it would be parsed each time. So is the body: with
	// GetBody net/http could repeat the request.
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, w.trace()), out.method, "", nil)
	if err != nil {
		return reply{}, out.unfit(err)
	}
	req.URL, req.Host = out.url, out.url.Host
	if len(out.body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(out.body)), int64(len(out.body))
	}
	if req.Header = x.jsonHeader; req.Header == nil || out.contentType != contentJSON {
		req.Header = headerOf(out.contentType)
	}
	resp, err := x.transport.RoundTrip(req)
	if err != nil {
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: w.written(), Op: w.op(), Err: out.hidden.err(err)}
	}
	defer func() { _ = resp.Body.Close() }() // it was read: nothing is left to go wrong
	rep := reply{endpoint: out.endpoint, status: resp.StatusCode, contentType: resp.Header.Get("Content-Type")}
	rep.body, err = readAnswer(resp)
	switch {
	case err != nil && ctx.Err() != nil:
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: context.Cause(ctx)}
	case err != nil && isTimeout(err):
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: out.hidden.err(err)}
	case err != nil:
		return reply{}, &AnswerError{Endpoint: out.endpoint, Status: rep.status, Reason: "the answer was cut"}
	case len(rep.body) > maxAnswerBytes:
		return reply{}, &AnswerError{Endpoint: out.endpoint, Status: rep.status, Reason: "the answer is larger than 4 MB"}
	}
	return rep, nil
}

// readAnswer reads an answer to its end, or some bytes more than it may have.
func readAnswer(resp *http.Response) ([]byte, error) {
	if n := resp.ContentLength; n > 0 && n <= maxAnswerBytes {
		body := make([]byte, n)
		_, err := io.ReadFull(resp.Body, body)
		return body, err
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.As(err, &timeout) && timeout.Timeout()
}
