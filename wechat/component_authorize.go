package wechat

import (
	"context"
	"errors"
	"net/url"
	"strconv"
	"time"
)

// PreAuthCode is a code with which one account can authorize a service provider.
type PreAuthCode struct {
	Value     Secret
	ExpiresAt time.Time
}

// PreAuthCode asks WeChat for a code with which an account can authorize a service provider
// (api_create_preauthcode); see [AuthorizationLink]. Its error is a *[TokenError] where the provider has
// no token.
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getpreauthcode.html
func (t *Tokens) PreAuthCode(ctx context.Context, provider string) (PreAuthCode, error) {
	token, err := t.Token(ctx, provider)
	if err != nil {
		return PreAuthCode{}, err
	}
	asked := t.now()
	code, life, err := t.fetcher.preAuthCode(ctx, provider, token.Value)
	var api *APIError
	if errors.As(err, &api) && api.Class() == ClassToken {
		if token, err = t.Renew(ctx, provider, token); err != nil {
			return PreAuthCode{}, err
		}
		code, life, err = t.fetcher.preAuthCode(ctx, provider, token.Value)
	}
	if err != nil {
		return PreAuthCode{}, err
	}
	return PreAuthCode{Value: code, ExpiresAt: asked.Add(life)}, nil
}

// AuthorizationKind says which accounts a person is offered to authorize.
type AuthorizationKind int

// The kinds of accounts, as WeChat numbers them (auth_type).
const (
	AuthorizeAccounts     AuthorizationKind = 1 // official accounts
	AuthorizeMiniPrograms AuthorizationKind = 2
	AuthorizeAny          AuthorizationKind = 3
)

// AuthorizationLink leads the administrator of an account to WeChat's page on which they authorize a
// service provider.
type AuthorizationLink struct {
	Provider string // the app id of the service provider
	Code     Secret // see [Tokens.PreAuthCode]
	// Redirect is where WeChat leads the person afterwards. Its domain must be that of the service provider
	// in the open platform (授权发起页域名).
	Redirect string
	Kind     AuthorizationKind // 0: AuthorizeAny
	App      string            // the one account that is offered; "": all that the person administers
}

func (l AuthorizationLink) query() url.Values {
	kind := l.Kind
	if kind == 0 {
		kind = AuthorizeAny
	}
	query := url.Values{
		"component_appid": {l.Provider}, "pre_auth_code": {l.Code.Reveal()}, "redirect_uri": {l.Redirect},
		"auth_type": {strconv.Itoa(int(kind))},
	}
	if l.App != "" {
		query.Set("biz_appid", l.App)
	}
	return query
}

// Phone returns the link to be opened in WeChat on the phone of the administrator.
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/Authorization_Process_Technical_Description.html
func (l AuthorizationLink) Phone() string {
	query := l.query()
	query.Set("action", "bindcomponent")
	query.Set("no_scan", "1")
	return "https://open.weixin.qq.com/wxaopen/safe/bindcomponent?" + query.Encode() + "#wechat_redirect"
}

// Browser returns the link to a page with a QR code. WeChat takes it from a click on a page of the
// domain of Redirect only.
func (l AuthorizationLink) Browser() string {
	return "https://mp.weixin.qq.com/cgi-bin/componentloginpage?" + l.query().Encode()
}
