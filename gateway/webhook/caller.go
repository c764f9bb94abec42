package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// Target is a URL that gets signed calls apart from the list `webhooks`. Its fields are as those of
// [Endpoint].
type Target struct {
	URL          string
	Secret       wechat.Secret
	AllowPrivate []string
}

func (t Target) endpoint() Endpoint {
	return Endpoint{URL: t.URL, Secret: t.Secret, AllowPrivate: t.AllowPrivate}
}

// Validate reports all problems at once, each of the form "url: problem"; the keys are url, secret and
// allow_private[0].
func (t Target) Validate() error {
	var faults []error
	t.endpoint().validateTarget(func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key[1:], fmt.Sprintf(format, args...)))
	})
	return errors.Join(faults...)
}

// Reply is what became of a call.
type Reply struct {
	Class  Class
	Body   []byte // of an answer of ClassOK
	Detail string // of a call without an answer; without the URL
}

const (
	callerConns  = 64       // calls of a Caller at a time
	maxReplyBody = 64 << 10 // of the body of an answer that is kept
)

// Caller makes calls to a Target: signed, to addresses that are allowed, without redirects or a proxy.
type Caller struct{ client *client }

// NewCaller returns a Caller, whose calls have some further headers. It does no I/O. The error is that of
// Target.Validate.
func NewCaller(t Target, timeout time.Duration, header map[string]string) (*Caller, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	c, err := newClient(t.endpoint(), timeout)
	if err != nil {
		return nil, err
	}
	c.header = header
	if transport, ok := c.http.Transport.(*http.Transport); ok {
		transport.MaxConnsPerHost, transport.MaxIdleConnsPerHost = callerConns, callerConns
	}
	return &Caller{client: c}, nil
}

// Close closes idle connections.
func (c *Caller) Close() { c.client.close() }

// Call makes one call. The id is the header webhook-id.
func (c *Caller) Call(ctx context.Context, id, contentType string, body []byte) Reply {
	response, failed := c.client.call(ctx, id, contentType, body, c.client.now())
	if response == nil {
		return Reply{Class: failed.class, Detail: failed.detail}
	}
	defer func() { _ = response.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReplyBody+1))
	switch class := classOf(response.StatusCode); {
	case class != ClassOK:
		return Reply{Class: class}
	case err != nil:
		failed := unanswered(err)
		return Reply{Class: failed.class, Detail: failed.detail}
	case len(reply) > maxReplyBody:
		return Reply{Class: ClassProtocol, Detail: fmt.Sprintf("the answer has more than %d bytes", maxReplyBody)}
	}
	return Reply{Class: ClassOK, Body: reply}
}
