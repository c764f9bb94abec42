package wechat

import (
	"context"
	"time"
)

// Token is an access token and the time from which it is surely of no more use.
type Token struct {
	Value     Secret
	ExpiresAt time.Time
}

// TokenSource hands out access tokens. [Tokens] is the one for production.
type TokenSource interface {
	// Token returns a token that WeChat should accept.
	Token(ctx context.Context, app string) (Token, error)
	// Renew returns a token other than the one that WeChat has just refused, or an
	// error that wraps ErrTokenRejected when there is none.
	Renew(ctx context.Context, app string, rejected Token) (Token, error)
}

// The ways to get a token.
const (
	// ModeStable calls /cgi-bin/stable_token in normal mode, which hands every caller
	// the same token while it is valid. The default, and right for several replicas:
	// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getstableaccesstoken.html
	ModeStable = "stable"
	// ModeClassic calls /cgi-bin/token, which makes a new token each time and ends
	// the previous one five minutes later:
	// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/api_getaccesstoken.html
	ModeClassic = "classic"
	// ModeExternal asks a token service of your own: GET <url>?app=A, and after WeChat
	// refused a token also &rejected=<SHA-256 of that token in hex>. The answer is
	// WeChat's own: {"access_token":"…","expires_in":7200}.
	ModeExternal = "external"
)

// Credential is what it takes to get a token for an app.
type Credential struct {
	App    string
	Secret Secret // not needed in ModeExternal
	Mode   string // ModeStable (also when empty), ModeClassic or ModeExternal
	URL    string // of the token service, in ModeExternal
}
