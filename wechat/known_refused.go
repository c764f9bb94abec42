package wechat

import (
	"context"
	"errors"
	"time"
)

// errKnownRefused stops a request before it is written: since it got its token, WeChat has
// refused that token to another call.
var errKnownRefused = errors.New("wechat: the token was refused to another call")

// waitUnlessRefused returns a BeforeWrite that stops a request with errKnownRefused where another
// call finds out that WeChat refuses its token: before the wait for the rate limit, which takes
// longest, and after it. A permit that was waited for is lost then; the repetition waits for another.
func (c *Client) waitUnlessRefused(app string, wait func(context.Context) error, token Token) func(context.Context) error {
	source, ok := c.tokens.(interface {
		isRefused(app string, token Token) bool
	})
	if !ok {
		return wait
	}
	return func(ctx context.Context) error {
		if source.isRefused(app, token) {
			return errKnownRefused
		}
		if wait == nil {
			return nil
		}
		if err := wait(ctx); err != nil {
			return err
		}
		if source.isRefused(app, token) {
			return errKnownRefused
		}
		return nil
	}
}

// replaceRefused returns another token than one that WeChat refused to another call, or the
// same one where a refresh returns it again: then this call's API may accept it. The error is a
// *TokenError.
func (c *Client) replaceRefused(ctx context.Context, app string, deadline time.Time, refused Token) (Token, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	token, err := c.tokens.Renew(ctx, app, refused)
	switch {
	case errors.Is(err, ErrTokenRejected):
		return refused, nil
	case err != nil:
		return Token{}, tokenError(app, err)
	}
	return token, nil
}

// CheckCredentials asks for a token with the app's credentials, whatever is cached: see
// [Tokens.Ask]. Another token source is asked for its token. The error is a *TokenError.
func (c *Client) CheckCredentials(ctx context.Context, app string) error {
	source, ok := c.tokens.(interface {
		Ask(ctx context.Context, app string) error
	})
	if ok {
		return source.Ask(ctx, app)
	}
	if _, err := c.tokens.Token(ctx, app); err != nil {
		return tokenError(app, err)
	}
	return nil
}
