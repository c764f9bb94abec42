package wechat

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client calls WeChat. It is safe for any number of goroutines and keeps its
// connections open between calls; one serves a whole process.
type Client struct {
	base           base
	attemptTimeout time.Duration
	tokens         TokenSource
	exchanger      *exchanger
}

// ClientOption changes a Client from its defaults.
type ClientOption func(*clientOptions)

type clientOptions struct{ transport http.RoundTripper }

// WithTransport makes the Client use rt in place of its own pool of connections. With
// a foreign transport every failure after a connection was had and the first header
// handed over counts as written. Unless rt is an [http.Transport] whose Protocols allow
// HTTP/1 alone, Request.Ready is called before rt looks for a connection.
func WithTransport(rt http.RoundTripper) ClientOption {
	return func(o *clientOptions) { o.transport = rt }
}

// NewClient makes a Client of a valid cfg. It does no I/O. Proxies are taken from the
// environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY).
func NewClient(cfg Config, tokens TokenSource, opts ...ClientOption) *Client {
	var o clientOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.transport == nil {
		o.transport = newTransport()
	}
	return &Client{
		base:           newBase(cfg),
		attemptTimeout: cfg.AttemptTimeout,
		tokens:         tokens,
		exchanger:      newExchanger(o.transport, cfg.Timeout),
	}
}

// CloseIdle closes the connections that no call is using.
func (c *Client) CloseIdle() { c.exchanger.closeIdle() }

// Request is one business request.
type Request struct {
	Path Endpoint
	// Body goes out byte for byte, as JSON.
	Body []byte
	// Media, when set, goes out instead: as the file of the multipart field "media".
	Media     []byte
	MediaType string // of Media, such as "image/png"; "" to tell it from the first bytes
	// Ready, when set, is called each time that the request is about to be written, with a
	// connection in hand: it waits until the pace allows the call. So it is called again
	// for the repetition with a renewed token, and when the connection turns out to be
	// dead before anything was written on it. ctx ends with the attempt's timeout; the
	// timeout of the exchange begins when Ready has returned.
	//
	// Its error ends the attempt: nothing more is written, the connection is closed, and
	// Call returns a *TransportError that wraps it, with the Op "wait".
	Ready func(ctx context.Context) error
}

// Prepare gets the app's token, so that the Call that follows does not wait for one. It
// takes no longer than an attempt may. Its error is a *TokenError.
func (c *Client) Prepare(ctx context.Context, app string) error {
	_, err := c.token(ctx, app, time.Now().Add(c.attemptTimeout))
	return err
}

// token gets the app's token, by until at the latest. Its error is a *TokenError.
func (c *Client) token(ctx context.Context, app string, deadline time.Time) (Token, error) {
	// As a rule it is there. Then nothing has to watch the time, which is a good part of
	// what it would cost.
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

// Call makes one attempt: it gets a token, sends the request, and when WeChat refuses
// the token renews it and sends the request once more (a request whose token is
// refused was not carried out). Nothing else is ever sent twice.
//
// An error is one of *APIError, *AnswerError, *TransportError and *TokenError;
// [Written] tells whether the request may have been carried out all the same. A risky
// picture is an *APIError of ClassRisky.
func (c *Client) Call(ctx context.Context, app string, r Request) (Answer, error) {
	var answer Answer
	err := c.withToken(ctx, app, r.Path, func(ctx context.Context, deadline time.Time, tokens ...Token) error {
		rep, sensitive, err := c.send(ctx, deadline, r, tokens)
		if err != nil {
			return err
		}
		answer, err = decodeAnswer(rep, sensitive)
		return err
	})
	return answer, err
}

// withToken runs fn with a token, once more with a renewed one when WeChat refused it,
// all within the attempt's timeout: fn may take until until. The last of the tokens is the
// one to use; the one before it is there to be hidden.
func (c *Client) withToken(ctx context.Context, app string, ep Endpoint, fn func(ctx context.Context, deadline time.Time, tokens ...Token) error) error {
	if err := ctx.Err(); err != nil {
		return &TransportError{Endpoint: ep, Op: "prepare", Err: err}
	}
	deadline := time.Now().Add(c.attemptTimeout)
	token, err := c.token(ctx, app, deadline)
	if err != nil {
		return err
	}
	err = fn(ctx, deadline, token)
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

// tokenError wraps err, unless it is a *TokenError already.
func tokenError(app string, err error) error {
	var already *TokenError
	if errors.As(err, &already) {
		return err
	}
	return &TokenError{App: app, Err: err}
}

// send writes the request, with the last of the tokens, and reads the reply, without
// judging it.
func (c *Client) send(ctx context.Context, deadline time.Time, r Request, tokens []Token) (reply, sensitiveValues, error) {
	sensitive := sensitiveValues{body: r.Body}
	for _, token := range tokens {
		sensitive.secrets = append(sensitive.secrets, token.Value)
	}
	token := tokens[len(tokens)-1].Value.Reveal()
	if !strings.HasPrefix(string(r.Path), "/") || strings.ContainsAny(string(r.Path), "?#% ") {
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
		ready:       r.Ready,
	}
	if r.Media != nil {
		var err error
		if out.body, out.contentType, err = multipartMedia(r.Media, r.MediaType); err != nil {
			return reply{}, sensitive, &TransportError{Endpoint: r.Path, Op: "prepare", Err: err}
		}
	}
	rep, err := c.exchanger.exchange(ctx, out)
	return rep, sensitive, err
}
