package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/wxcourier/wxcourier/wechat/internal/httpconn"
)

// Client calls WeChat's API. It is safe for concurrent use and keeps connections open
// between calls; one Client is enough for a process.
type Client struct {
	base           base
	attemptTimeout time.Duration
	tokens         TokenSource
	exchanger      *exchanger
	security       security
}

// ClientOption overrides a default of a Client.
type ClientOption func(*clientOptions)

type clientOptions struct {
	transport http.RoundTripper
	security  security
}

// WithTransport makes the Client use rt instead of its own connection pool. With a custom
// transport a failure counts as written once a connection exists and the first header field
// was passed to it. Unless rt is an [http.Transport] whose Protocols allow only HTTP/1,
// Request.BeforeWrite is called before rt gets a connection.
func WithTransport(rt http.RoundTripper) ClientOption {
	return func(o *clientOptions) { o.transport = rt }
}

// NewClient returns a Client for a valid cfg. It does no I/O. Proxies come from the
// environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
func NewClient(cfg Config, tokens TokenSource, opts ...ClientOption) *Client {
	var o clientOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.transport == nil {
		o.transport = httpconn.NewTransport()
	}
	return &Client{
		base:           newBase(cfg),
		attemptTimeout: cfg.AttemptTimeout,
		tokens:         tokens,
		exchanger:      newExchanger(o.transport, cfg.Timeout),
		security:       o.security,
	}
}

// CloseIdle closes the idle connections.
func (c *Client) CloseIdle() { c.exchanger.closeIdle() }

// Request is one business request.
type Request struct {
	Path Endpoint
	// Body is the JSON to send; it is sent unchanged.
	Body []byte
	// Media, when set, is sent instead of Body: as the file of the multipart field "media".
	Media     []byte
	MediaType string // of Media, such as "image/png"; "" detects it from the first bytes
	// BeforeWrite, when set, is called immediately before the request is written, once there
	// is a connection; it waits until the rate limit allows the call. It is called again for
	// the resend with a renewed token, and when the connection turns out to be dead before
	// anything was written. ctx ends with the attempt's timeout; the timeout of the
	// exchange starts when BeforeWrite returns.
	//
	// An error ends the attempt: nothing more is written, the connection is closed, and
	// Call returns a *TransportError that wraps the error, with Op "wait".
	BeforeWrite func(ctx context.Context) error
}

// FetchToken gets the app's token, so that the Call that follows does not wait for it. It takes
// at most the attempt timeout. Its error is a *TokenError.
func (c *Client) FetchToken(ctx context.Context, app string) error {
	_, err := c.token(ctx, app, time.Now().Add(c.attemptTimeout))
	return err
}

// token returns the app's token before the deadline. Its error is a *TokenError.
func (c *Client) token(ctx context.Context, app string, deadline time.Time) (Token, error) {
	// Fast path: a cached token needs no context with a deadline, which would be a large
	// part of the cost.
	if source, ok := c.tokens.(interface {
		fromCache(app string) (Token, bool)
	}); ok {
		if token, ok := source.fromCache(app); ok {
			return token, nil
		}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	token, err := c.tokens.Token(ctx, app)
	if err != nil {
		return Token{}, tokenError(app, err)
	}
	return token, nil
}

// Call makes one attempt: it gets a token and sends the request. When WeChat refuses the
// token, Call renews it and sends the request once more (WeChat does not carry out a request
// whose token it refuses). No other request is sent twice. A request that waits in BeforeWrite
// when WeChat refuses its token to another call is not written with that token.
//
// An error is an *APIError, *AnswerError, *TransportError or *TokenError; [Written] reports
// whether the request may have been carried out despite it. A risky image is an *APIError of
// ClassRisky.
func (c *Client) Call(ctx context.Context, app string, r Request) (Answer, error) {
	var answer Answer
	first := true
	err := c.withToken(ctx, app, r.Path, func(ctx context.Context, deadline time.Time, tokens ...Token) error {
		request := r
		if first { // a repetition has the newest token there is
			request.BeforeWrite, first = c.waitUnlessRefused(app, r.BeforeWrite, tokens[0]), false
		}
		rep, sensitive, err := c.send(ctx, deadline, app, request, tokens)
		if err != nil {
			return err
		}
		answer, err = decodeAnswer(rep, sensitive)
		return err
	})
	return answer, err
}

// withToken calls fn with a token, and once more with a renewed token if WeChat refused the
// first. The attempt's timeout bounds both calls; deadline is its end. fn must use the last
// of tokens; an earlier one is passed only to be redacted.
func (c *Client) withToken(ctx context.Context, app string, ep Endpoint, fn func(ctx context.Context, deadline time.Time, tokens ...Token) error) error {
	if err := ctx.Err(); err != nil {
		return &TransportError{Endpoint: ep, Op: "prepare", Err: err}
	}
	deadline := time.Now().Add(c.attemptTimeout)
	token, err := c.token(ctx, app, deadline)
	if err != nil {
		return err
	}
	if err = fn(ctx, deadline, token); errors.Is(err, errKnownRefused) { // nothing was written
		if token, err = c.replaceRefused(ctx, app, deadline, token); err != nil {
			return err
		}
		err = fn(ctx, deadline, token)
	}
	if !tokenRefused(err) {
		return err
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	renewed, renewErr := c.tokens.Renew(ctx, app, token)
	switch {
	case errors.Is(renewErr, ErrTokenRejected):
		return tokenError(app, fmt.Errorf("%w (%w)", ErrTokenRejected, err))
	case renewErr != nil:
		return tokenError(app, renewErr)
	case renewed.Value == token.Value:
		return tokenError(app, fmt.Errorf("%w (%w)", ErrTokenRejected, err))
	}
	err = fn(ctx, deadline, token, renewed)
	if tokenRefused(err) {
		return tokenError(app, fmt.Errorf("%w (%w)", ErrTokenRejected, err))
	}
	return err
}

func tokenRefused(err error) bool {
	var apiErr *APIError
	return errors.As(err, &apiErr) && apiErr.Class() == ClassToken
}

// tokenError wraps err in a *TokenError, unless it is one already.
func tokenError(app string, err error) error {
	var already *TokenError
	if errors.As(err, &already) {
		return err
	}
	return &TokenError{App: app, Err: err}
}

// send writes the request with the last of tokens and reads the reply, without decoding it.
func (c *Client) send(ctx context.Context, deadline time.Time, app string, r Request, tokens []Token) (reply, sensitiveValues, error) {
	sensitive := sensitiveValues{body: r.Body}
	for _, token := range tokens {
		sensitive.secrets = append(sensitive.secrets, token.Value)
	}
	token := tokens[len(tokens)-1].Value.Reveal()
	if !plainPath(r.Path) {
		return reply{}, sensitive, &TransportError{Endpoint: r.Path, Op: "prepare", Err: errors.New("the endpoint is not a plain path")}
	}
	if c.base.err != nil {
		return reply{}, sensitive, &TransportError{Endpoint: r.Path, Op: "prepare", Err: sensitive.redactErr(c.base.err)}
	}
	out := outgoingRequest{
		endpoint:    r.Path,
		method:      http.MethodPost,
		url:         c.base.endpoint(r.Path, "access_token="+url.QueryEscape(token)),
		deadline:    deadline,
		contentType: contentJSON,
		body:        r.Body,
		sensitive:   sensitive,
		beforeWrite: r.BeforeWrite,
	}
	if r.Media != nil {
		var err error
		if out.body, out.contentType, err = multipartMedia(r.Media, r.MediaType); err != nil {
			return reply{}, sensitive, &TransportError{Endpoint: r.Path, Op: "prepare", Err: err}
		}
	}
	rep, err := c.exchangeSecured(ctx, app, out, nil, r.Media == nil)
	return rep, sensitive, err
}
