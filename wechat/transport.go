package wechat

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
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

// base is where WeChat's endpoints are.
type base struct {
	url *url.URL
	err error // why there is no url
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

// outgoingRequest is one HTTP request. Its url and body hold secrets; hidden knows them.
type outgoingRequest struct {
	endpoint    Endpoint
	method      string
	url         *url.URL
	deadline    time.Time // when to give up, if that is before the exchanger's timeout; zero: never
	contentType string
	body        []byte
	sensitive   sensitiveValues
	ready       func(context.Context) error // see [Request]; nil: it may be written at once
}

// contentJSON is the content type of nearly every request.
const contentJSON = "application/json"

// prepareError says that the request could not be made.
func (o *outgoingRequest) prepareError(err error) error {
	return &TransportError{Endpoint: o.endpoint, Op: "prepare", Err: o.sensitive.redactErr(err)}
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
	transport   http.RoundTripper
	timeout     time.Duration
	jsonHeader  http.Header // of all requests in JSON; nil when each has its own
	readyOnConn bool        // a request can be admitted when it has its connection
}

func newExchanger(rt http.RoundTripper, timeout time.Duration) *exchanger {
	x := &exchanger{transport: rt, timeout: timeout}
	if t, ok := rt.(*http.Transport); ok {
		x.jsonHeader = headerOf(contentJSON) // it only reads it; another one may write
		// An HTTP/2 connection has other requests on it, and is not ours to close.
		x.readyOnConn = t.Protocols != nil && !t.Protocols.HTTP2() && !t.Protocols.UnencryptedHTTP2()
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
func (x *exchanger) exchange(ctx context.Context, out outgoingRequest) (reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(out.stepTimeout(x.timeout), func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	var ready func() error
	if out.ready != nil {
		ready = func() error {
			timer.Reset(out.stepTimeout(math.MaxInt64))
			err := out.ready(ctx)
			if timer.Reset(out.stepTimeout(x.timeout)); err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				cancel(err) // net/http looks for no other connection
			}
			return err
		}
	}
	for {
		w := requestTrace{ready: ready}
		rep, err := x.roundTrip(ctx, out, &w)
		if err != nil && w.reused.Load() && !w.written() && ctx.Err() == nil {
			continue
		}
		return rep, err
	}
}

// stepTimeout is how long a step may last that has so much time for itself.
func (o *outgoingRequest) stepTimeout(timeout time.Duration) time.Duration {
	if o.deadline.IsZero() {
		return timeout
	}
	return min(timeout, time.Until(o.deadline))
}

func (x *exchanger) roundTrip(ctx context.Context, out outgoingRequest, w *requestTrace) (reply, error) {
	if !x.readyOnConn && w.ready != nil {
		if err := w.ready(); err != nil {
			return reply{}, &TransportError{Endpoint: out.endpoint, Op: "wait", Err: err}
		}
		w.ready = nil
	}
	// The URL is set by hand, where it would be parsed each time. So is the body: with
	// GetBody net/http could repeat the request.
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, w.clientTrace()), out.method, "", nil)
	if err != nil {
		return reply{}, out.prepareError(err)
	}
	req.URL, req.Host = out.url, out.url.Host
	if len(out.body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(out.body)), int64(len(out.body))
	}
	if req.Header = x.jsonHeader; req.Header == nil || out.contentType != contentJSON {
		req.Header = headerOf(out.contentType)
	}
	resp, err := x.transport.RoundTrip(req)
	if w.readyErr != nil {
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: w.written(), Op: "wait", Err: w.readyErr}
	}
	if err != nil {
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: w.written(), Op: w.op(), Err: out.sensitive.redactErr(err)}
	}
	defer func() { _ = resp.Body.Close() }() // it was read: nothing is left to go wrong
	rep := reply{endpoint: out.endpoint, status: resp.StatusCode, contentType: resp.Header.Get("Content-Type")}
	rep.body, err = readAnswer(resp)
	switch {
	case err != nil && ctx.Err() != nil:
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: context.Cause(ctx)}
	case err != nil && isTimeout(err):
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: out.sensitive.redactErr(err)}
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
