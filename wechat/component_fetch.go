package wechat

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// authorizerToken is what WeChat answers about an authorization.
type authorizerToken struct {
	token   sharedToken
	refresh Secret // "" where the answer has none
}

// component calls an endpoint of service providers, with the provider's token where it needs one. The
// answer is decoded into v, whose errcode is st. secrets are the secrets of the body.
func (f tokenFetcher) component(ctx context.Context, ep Endpoint, token Secret, body map[string]string, secrets []Secret, v any, st *status) (reply, error) {
	out := outgoingRequest{
		endpoint: ep, method: http.MethodPost, contentType: contentJSON,
		sensitive: sensitiveValues{secrets: append(secrets, token)},
	}
	if f.base.err != nil {
		return reply{}, out.prepareError(f.base.err)
	}
	text, err := json.Marshal(body)
	if err != nil {
		return reply{}, out.prepareError(err)
	}
	query := ""
	if token != "" {
		query = url.Values{"component_access_token": {token.Reveal()}}.Encode()
	}
	out.url, out.body = f.base.endpoint(ep, query), text
	rep, err := f.exchanger.exchange(ctx, out)
	if err != nil {
		return reply{}, err
	}
	return rep, rep.decode(v, st, out.sensitive)
}

// componentToken requests a provider's token (api_component_token). The field names and the lifetime
// of 7200 s are those of
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getcomponentaccesstoken.html
func (f tokenFetcher) componentToken(ctx context.Context, cred Credential, ticket Secret) (sharedToken, error) {
	var v struct {
		status
		Token     text   `json:"component_access_token"`
		ExpiresIn number `json:"expires_in"`
	}
	rep, err := f.component(ctx, EndpointComponentToken, "", map[string]string{
		"component_appid": cred.App, "component_appsecret": cred.Secret.Reveal(), "component_verify_ticket": ticket.Reveal(),
	}, []Secret{cred.Secret, ticket}, &v, &v.status)
	if err != nil {
		return sharedToken{}, err
	}
	return rep.token(cred, v.Token, v.ExpiresIn)
}

// startTickets makes WeChat push tickets (api_start_push_ticket):
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_startpushticket.html
func (f tokenFetcher) startTickets(ctx context.Context, cred Credential) error {
	var v struct{ status }
	_, err := f.component(ctx, EndpointStartTickets, "", map[string]string{
		"component_appid": cred.App, "component_secret": cred.Secret.Reveal(),
	}, []Secret{cred.Secret}, &v, &v.status)
	return err
}

// authorizerToken requests an account's token (api_authorizer_token):
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizeraccesstoken.html
func (f tokenFetcher) authorizerToken(ctx context.Context, cred Credential, provider, refresh Secret) (authorizerToken, error) {
	var v struct {
		status
		Token     text   `json:"authorizer_access_token"`
		ExpiresIn number `json:"expires_in"`
		Refresh   text   `json:"authorizer_refresh_token"`
	}
	rep, err := f.component(ctx, EndpointAuthorizerToken, provider, map[string]string{
		"component_appid": cred.Provider, "authorizer_appid": cred.App, "authorizer_refresh_token": refresh.Reveal(),
	}, []Secret{refresh}, &v, &v.status)
	if err != nil {
		return authorizerToken{}, err
	}
	token, err := rep.token(cred, v.Token, v.ExpiresIn)
	return authorizerToken{token: token, refresh: Secret(v.Refresh)}, err
}

// authorizationInfo is the object authorization_info of two endpoints.
type authorizationInfo struct {
	App       text   `json:"authorizer_appid"`
	Token     text   `json:"authorizer_access_token"`
	ExpiresIn number `json:"expires_in"`
	Refresh   text   `json:"authorizer_refresh_token"`
}

// queryAuth exchanges an authorization code (api_query_auth):
// https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/api_getauthorizerrefreshtoken.html
func (f tokenFetcher) queryAuth(ctx context.Context, cred Credential, provider, code Secret) (authorizerToken, error) {
	var v struct {
		status
		Info authorizationInfo `json:"authorization_info"`
	}
	rep, err := f.component(ctx, EndpointQueryAuth, provider, map[string]string{
		"component_appid": cred.Provider, "authorization_code": code.Reveal(),
	}, []Secret{code}, &v, &v.status)
	switch {
	case err != nil:
		return authorizerToken{}, err
	case v.Info.App != "" && string(v.Info.App) != cred.App:
		return authorizerToken{}, rep.answerError("the code is of another account")
	case v.Info.Refresh == "":
		return authorizerToken{}, rep.answerError("no authorizer_refresh_token in the answer")
	}
	token, err := rep.token(cred, v.Info.Token, v.Info.ExpiresIn)
	return authorizerToken{token: token, refresh: Secret(v.Info.Refresh)}, err
}

// refreshToken asks for the refresh token of an authorization (api_get_authorizer_info), "" where
// WeChat tells none:
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
func (f tokenFetcher) refreshToken(ctx context.Context, cred Credential, provider Secret) (Secret, error) {
	var v struct {
		status
		Info authorizationInfo `json:"authorization_info"`
	}
	_, err := f.component(ctx, EndpointAuthorizerInfo, provider, map[string]string{
		"component_appid": cred.Provider, "authorizer_appid": cred.App,
	}, nil, &v, &v.status)
	return Secret(v.Info.Refresh), err
}

// preAuthCode asks for a code with which an account can authorize the provider (api_create_preauthcode):
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getpreauthcode.html
func (f tokenFetcher) preAuthCode(ctx context.Context, app string, provider Secret) (Secret, time.Duration, error) {
	var v struct {
		status
		Code      text   `json:"pre_auth_code"`
		ExpiresIn number `json:"expires_in"`
	}
	rep, err := f.component(ctx, EndpointPreAuthCode, provider, map[string]string{"component_appid": app}, nil, &v, &v.status)
	switch {
	case err != nil:
		return "", 0, err
	case v.Code == "":
		return "", 0, rep.answerError("no pre_auth_code in the answer")
	case v.ExpiresIn.value <= 0 || v.ExpiresIn.value > maxLifeSeconds:
		return "", 0, rep.answerError("expires_in is out of range")
	}
	return Secret(v.Code), time.Duration(v.ExpiresIn.value) * time.Second, nil
}

// token returns the token of an answer.
func (r reply) token(cred Credential, value text, expiresIn number) (sharedToken, error) {
	switch {
	case value == "":
		return sharedToken{}, r.answerError("no token in the answer")
	case expiresIn.value <= 0 || expiresIn.value > maxLifeSeconds:
		return sharedToken{}, r.answerError("expires_in is out of range")
	}
	return sharedToken{
		Token: Token{Value: Secret(value)}, life: time.Duration(expiresIn.value) * time.Second,
		mode: cred.mode(), asked: cred.fingerprint(),
	}, nil
}
