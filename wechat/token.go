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
	// ModeComponent is for an account that authorized a service provider (第三方平台): its token
	// comes from /cgi-bin/component/api_authorizer_token, with the provider's own token and the
	// refresh token of the authorization, which [Tokens.Authorize] and the answers keep up to date:
	// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html
	ModeComponent = "component"
	// ModeProvider is for a service provider itself, whose token (component_access_token) comes
	// from /cgi-bin/component/api_component_token, with the ticket that WeChat pushes and
	// [Tokens.StoreTicket] keeps:
	// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken.html
	ModeProvider = "provider"
)

// Credential holds what is needed to get a token for an app.
type Credential struct {
	App    string
	Secret Secret // not needed in ModeExternal and ModeComponent
	Mode   string // ModeStable (also when empty), ModeClassic, ModeExternal, ModeComponent or ModeProvider
	URL    string // of the token service, in ModeExternal

	// Provider is the app id of the service provider, in ModeComponent. The credentials have an
	// entry for it, in ModeProvider.
	Provider string
	// RefreshToken is that of an authorization made earlier, in ModeComponent. It is tried where
	// Redis has none; "" is usual, since WeChat tells the refresh token of an authorization.
	RefreshToken Secret
}
