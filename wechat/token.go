package wechat

import (
	"context"
	"time"
)

// Token is an access token and the time at which it expires.
type Token struct {
	Value     Secret
	ExpiresAt time.Time
}

// TokenSource provides access tokens. [Tokens] is the implementation for production.
type TokenSource interface {
	// Token returns a token that is valid as far as the source knows.
	Token(ctx context.Context, app string) (Token, error)
	// Renew returns a token other than the one that WeChat has just refused, or an error
	// that wraps ErrTokenRejected if there is none.
	Renew(ctx context.Context, app string, rejected Token) (Token, error)
}

// The ways to get a token.
const (
	// ModeStable calls /cgi-bin/stable_token in normal mode, which returns the same token
	// to every caller while it is valid. It is the default, and suits several replicas:
	// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken.html
	ModeStable = "stable"
	// ModeClassic calls /cgi-bin/token, which issues a new token each time and
	// invalidates the previous one five minutes later:
	// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getaccesstoken.html
	ModeClassic = "classic"
	// ModeExternal calls a token service of your own: GET <url>?app=A, and after WeChat
	// refused a token also &rejected=<SHA-256 of that token in hex>. The answer has
	// WeChat's format: {"access_token":"…","expires_in":7200}.
	ModeExternal = "external"
)

// Credential holds what is needed to get a token for an app.
type Credential struct {
	App    string
	Secret Secret // not needed in ModeExternal
	Mode   string // ModeStable (also when empty), ModeClassic or ModeExternal
	URL    string // of the token service, in ModeExternal
}
