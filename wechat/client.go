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
	baseURL        string
	attemptTimeout time.Duration
	tokens         TokenSource
	exchanger      *exchanger
}

// ClientOption changes a Client from its defaults.
type ClientOption func(*clientOptions)

type clientOptions struct{ transport http.RoundTripper }

// WithTransport makes the Client use rt in place of its own pool of connections. With
// a foreign transport every failure after a connection was had and the first header
// handed over counts as written.
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
		baseURL:        strings.TrimRight(cfg.BaseURL, "/"),
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
	// Again, when set, is called before the request is sent once more with a renewed
	// token, within the attempt's timeout: it waits until the pace allows another call.
	// Its error ends the attempt, which was not carried out, and is Call's as it is.
	Again func(ctx context.Context) error
}

// Prepare gets the app's token, so that the Call that follows does not wait for one. It
// takes no longer than an attempt may. Its error is a *TokenError.
func (c *Client) Prepare(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(ctx, c.attemptTimeout)
	defer cancel()
	if _, err := c.tokens.Token(ctx, app); err != nil {
		return tokenError(app, err)
	}
	return nil
}

// Call makes one attempt: it gets a token, sends the request, and when WeChat refuses
// the token renews it and sends the request once more (a request whose token is
// refused was not carried out). Nothing else is ever sent twice.
//
// An error is one of *APIError, *AnswerError, *TransportError and *TokenError, or that of
// Request.Again;
// [Written] tells whether the request may have been carried out all the same. A risky
// picture is an *APIError of ClassRisky.
func (c *Client) Call(ctx context.Context, app string, r Request) (Answer, error) {
	var answer Answer
	err := c.withToken(ctx, app, r.Path, func(ctx context.Context, tokens ...Token) error {
		if len(tokens) > 1 && r.Again != nil {
			if err := r.Again(ctx); err != nil {
				return err
			}
		}
		rep, h, err := c.send(ctx, r, tokens)
		if err != nil {
			return err
		}
		answer, err = decodeAnswer(rep, h)
		return err
	})
	return answer, err
}

// withToken runs fn with a token, once more with a renewed one when WeChat refused it,
// all within the attempt's timeout. The last of the tokens is the one to use; the one
// before it is there to be hidden.
func (c *Client) withToken(ctx context.Context, app string, ep Endpoint, fn func(ctx context.Context, tokens ...Token) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.attemptTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return &TransportError{Endpoint: ep, Op: "prepare", Err: err}
	}
	token, err := c.tokens.Token(ctx, app)
	if err != nil {
		return tokenError(app, err)
	}
	err = fn(ctx, token)
	if !tokenRefused(err) {
		return err
	}
	renewed, renewErr := c.tokens.Renew(ctx, app, token)
	switch {
	case renewErr != nil:
		return tokenError(app, renewErr)
	case renewed.Value == token.Value:
		return tokenError(app, fmt.Errorf("%w (%w)", ErrTokenRejected, err))
	}
	err = fn(ctx, token, renewed)
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
func (c *Client) send(ctx context.Context, r Request, tokens []Token) (reply, hidden, error) {
	h := hidden{body: r.Body}
	for _, token := range tokens {
		h.secrets = append(h.secrets, token.Value)
	}
	token := tokens[len(tokens)-1].Value.Reveal()
	if !strings.HasPrefix(string(r.Path), "/") || strings.ContainsAny(string(r.Path), "?# ") {
		return reply{}, h, &TransportError{Endpoint: r.Path, Op: "prepare", Err: errors.New("the endpoint is not a plain path")}
	}
	out := outgoing{
		endpoint:    r.Path,
		method:      http.MethodPost,
		url:         c.baseURL + string(r.Path) + "?access_token=" + url.QueryEscape(token),
		contentType: "application/json",
		body:        r.Body,
		hidden:      h,
	}
	if r.Media != nil {
		var err error
		if out.body, out.contentType, err = multipartMedia(r.Media, r.MediaType); err != nil {
			return reply{}, h, &TransportError{Endpoint: r.Path, Op: "prepare", Err: err}
		}
	}
	rep, err := c.exchanger.exchange(ctx, out)
	return rep, h, err
}
