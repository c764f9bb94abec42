package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
)

// Class is what became of a call.
type Class string

// The classes. All but ClassOK, ClassGone and ClassRefused are repeated.
const (
	ClassOK       Class = "ok"                // 2xx
	ClassGone     Class = "gone"              // 410: the endpoint is disabled
	ClassRefused  Class = "refused"           // 4xx that concerns the content
	ClassEndpoint Class = "endpoint"          // 401, 403, 404, 405, 407, 421: concerns the endpoint, not the content
	ClassLimited  Class = "rate_limited"      // 429
	ClassServer   Class = "server_error"      // 5xx, 408, 425
	ClassRedirect Class = "redirect"          // 3xx: redirects are not followed
	ClassTimeout  Class = "timeout"           // no answer in time
	ClassNetwork  Class = "network"           // no connection, or it broke
	ClassAddress  Class = "forbidden_address" // the name leads to an address that is not public
	ClassProtocol Class = "protocol"          // a status that means nothing here
)

// classOf returns the class of an HTTP status.
func classOf(status int) Class {
	switch status {
	case http.StatusGone:
		return ClassGone
	case http.StatusTooManyRequests:
		return ClassLimited
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return ClassServer
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
		http.StatusProxyAuthRequired, http.StatusMisdirectedRequest:
		return ClassEndpoint
	}
	switch status / 100 {
	case 2:
		return ClassOK
	case 3:
		return ClassRedirect
	case 4:
		return ClassRefused
	case 5:
		return ClassServer
	}
	return ClassProtocol
}

// answer is the end of a call.
type answer struct {
	class      Class
	status     int           // 0: there was no answer
	retryAfter time.Duration // as asked for; 0: not asked for
	detail     string        // of a call without an answer; without the URL
}

const (
	maxAnswerBody   = 64 << 10 // that is read, so that the connection can be used again
	maxAnswerHeader = 64 << 10
	maxRetryAfter   = 24 * time.Hour
	connsPerTarget  = 8 // calls to an endpoint at a time
)

// client calls one endpoint.
type client struct {
	url    string
	signer *standardwebhooks.Webhook
	http   *http.Client
	header map[string]string // further headers
	now    func() time.Time
}

func newClient(e Endpoint, timeout time.Duration) (*client, error) {
	key, err := e.key()
	if err != nil {
		return nil, fmt.Errorf("webhook %s: secret: %w", e.Name, err)
	}
	signer, err := standardwebhooks.NewWebhookRaw(key)
	if err != nil {
		return nil, fmt.Errorf("webhook %s: %w", e.Name, err)
	}
	dialer := net.Dialer{Timeout: timeout, Control: e.guard().control}
	return &client{url: e.URL, signer: signer, now: time.Now, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy: nil, DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: timeout,
			MaxConnsPerHost: connsPerTarget, MaxIdleConnsPerHost: connsPerTarget, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: maxAnswerHeader, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// send makes one call. The answer's body is not kept.
func (c *client) send(ctx context.Context, id string, body []byte) answer {
	now := c.now()
	response, failed := c.call(ctx, id, "application/json", body, now)
	if response == nil {
		return failed
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswerBody))
	return answer{class: classOf(response.StatusCode), status: response.StatusCode, retryAfter: retryAfter(response.Header.Get("Retry-After"), now)}
}

// call makes one call, signed. Without a response it returns the reason.
func (c *client) call(ctx context.Context, id, contentType string, body []byte, now time.Time) (*http.Response, answer) {
	signature, err := c.signer.Sign(id, now, body)
	if err != nil {
		return nil, answer{class: ClassProtocol, detail: "cannot be signed"}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, answer{class: ClassProtocol, detail: "the URL is invalid"}
	}
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("User-Agent", "wxcourier/"+buildinfo.Version())
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	for name, value := range c.header {
		r.Header.Set(name, value)
	}
	response, err := c.http.Do(r)
	if err != nil {
		return nil, unanswered(err)
	}
	return response, answer{}
}

// unanswered returns the answer of a call that has none. It leaves out the URL, which a url.Error
// quotes.
func unanswered(err error) answer {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	a := answer{class: ClassNetwork, detail: err.Error()}
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, errForbiddenAddress):
		a.class = ClassAddress
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		a.class = ClassTimeout
	}
	return a
}

// retryAfter parses the header Retry-After: seconds or a date. It returns 0 for none.
func retryAfter(text string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = max(at.Sub(now), time.Second)
	}
	return min(max(wait, 0), maxRetryAfter)
}
