package wechat

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/wechat/internal/httpconn"
)

// maxAnswerBytes bounds the body of an answer. WeChat's largest, the image of a QR code,
// stays under 1 MB.
const maxAnswerBytes = 4 << 20

// base is the base URL of WeChat's endpoints.
type base struct {
	url *url.URL
	err error // why url could not be parsed
}

func newBase(cfg Config) base {
	u, err := url.Parse(strings.TrimRight(cfg.BaseURL, "/"))
	return base{u, err}
}

// endpoint returns the URL of a path.
func (b base) endpoint(path Endpoint, query string) *url.URL {
	u := *b.url
	u.Path += string(path)
	u.RawQuery = query
	return &u
}

// outgoingRequest is one HTTP request. Its url and body contain the secrets listed in sensitive.
type outgoingRequest struct {
	endpoint    Endpoint
	method      string
	url         *url.URL
	deadline    time.Time // of the attempt; zero: only the exchanger's timeout applies
	contentType string
	header      http.Header // further header fields
	body        []byte
	sensitive   sensitiveValues
	beforeWrite func(context.Context) error // see [Request]; nil: no wait
}

// contentJSON is the content type of nearly every request.
const contentJSON = "application/json"

// prepareError returns the error for a request that could not be built.
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

// reply is one complete HTTP response.
type reply struct {
	endpoint    Endpoint
	status      int
	contentType string
	header      http.Header
	body        []byte
}

// exchanger performs HTTP exchanges, each within its timeout.
//
// It uses the transport directly: an http.Client would follow redirects, which sends the
// request twice and the token to another host, and would put the URL into its errors.
type exchanger struct {
	transport         http.RoundTripper
	timeout           time.Duration
	jsonHeader        http.Header // shared by all JSON requests; nil: each request has its own
	beforeWriteOnConn bool        // Request.BeforeWrite can be called once there is a connection
}

func newExchanger(rt http.RoundTripper, timeout time.Duration) *exchanger {
	x := &exchanger{transport: rt, timeout: timeout}
	if t, ok := rt.(*http.Transport); ok {
		x.jsonHeader = headerOf(contentJSON) // http.Transport only reads it; another transport may write to it
		// RequestTrace may close the connection, which an HTTP/2 connection shares
		// with other requests.
		x.beforeWriteOnConn = t.Protocols != nil && !t.Protocols.HTTP2() && !t.Protocols.UnencryptedHTTP2()
	}
	return x
}

// closeIdle closes the idle connections, if the transport keeps any.
func (x *exchanger) closeIdle() {
	if closer, ok := x.transport.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// exchange sends the request and reads the whole answer. Its error is a *TransportError or an
// *AnswerError.
//
// The server may close a kept-alive connection just when it is taken from the pool. If
// certainly nothing was written, exchange retries on another connection. Each retry removes a
// dead connection from the pool, so the loop ends.
func (x *exchanger) exchange(ctx context.Context, out outgoingRequest) (reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(out.stepTimeout(x.timeout), func() { cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	var beforeWrite func() error
	if out.beforeWrite != nil {
		beforeWrite = func() error {
			timer.Reset(out.stepTimeout(math.MaxInt64))
			err := out.beforeWrite(ctx)
			if timer.Reset(out.stepTimeout(x.timeout)); err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				cancel(err) // keeps net/http from trying another connection
			}
			return err
		}
	}
	for {
		w := httpconn.RequestTrace{BeforeWrite: beforeWrite}
		rep, err := x.roundTrip(ctx, out, &w)
		if err != nil && w.Reused() && !w.Written() && ctx.Err() == nil {
			continue
		}
		return rep, err
	}
}

// stepTimeout returns the timeout of a step, limited by the time left until the deadline.
func (o *outgoingRequest) stepTimeout(timeout time.Duration) time.Duration {
	if o.deadline.IsZero() {
		return timeout
	}
	return min(timeout, time.Until(o.deadline))
}

func (x *exchanger) roundTrip(ctx context.Context, out outgoingRequest, w *httpconn.RequestTrace) (reply, error) {
	if !x.beforeWriteOnConn && w.BeforeWrite != nil {
		if err := w.BeforeWrite(); err != nil {
			return reply{}, &TransportError{Endpoint: out.endpoint, Op: "wait", Err: err}
		}
		w.BeforeWrite = nil
	}
	// The URL is set here to avoid parsing it again, and the body to leave out GetBody,
	// with which net/http could repeat the request.
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, w.ClientTrace()), out.method, "", nil)
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
	if len(out.header) > 0 {
		req.Header = req.Header.Clone() // it may be shared
		maps.Copy(req.Header, out.header)
	}
	if user := out.url.User; user != nil { // of a token service: a http.Client would do this
		password, _ := user.Password()
		req.Header = req.Header.Clone() // it may be shared
		req.SetBasicAuth(user.Username(), password)
	}
	resp, err := x.transport.RoundTrip(req)
	if w.BeforeWriteErr != nil {
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: w.Written(), Op: "wait", Err: w.BeforeWriteErr}
	}
	if err != nil {
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: w.Written(), Op: w.Op(), Err: out.sensitive.redactErr(err)}
	}
	defer func() { _ = resp.Body.Close() }() // the body was read; its error does not matter
	rep := reply{endpoint: out.endpoint, status: resp.StatusCode, contentType: resp.Header.Get("Content-Type"), header: resp.Header}
	rep.body, err = readAnswer(resp)
	switch {
	case err != nil && ctx.Err() != nil:
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: context.Cause(ctx)}
	case err != nil && isTimeout(err):
		return reply{}, &TransportError{Endpoint: out.endpoint, Written: true, Op: "receive", Err: out.sensitive.redactErr(err)}
	case err != nil:
		return reply{}, &AnswerError{Endpoint: out.endpoint, Status: rep.status, Reason: "the answer was truncated"}
	case len(rep.body) > maxAnswerBytes:
		return reply{}, &AnswerError{Endpoint: out.endpoint, Status: rep.status, Reason: "the answer is larger than 4 MB"}
	}
	return rep, nil
}

// readAnswer reads the body, up to one byte more than maxAnswerBytes.
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
