package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/wechat"
)

const tokenTag = "token"

func (a *API) registerToken() {
	const about = "The access token that all workers and gateways share, for a system that must call WeChat by itself. Do not cache it for longer than " +
		"`expires_in` seconds. When WeChat has refused it (40001, 40014, 42001), pass its SHA-256 as `rejected`: if it is still the shared one, it is renewed."
	op := huma.Operation{
		OperationID: "get-token", Method: http.MethodPost, Path: "/v1/apps/{app}/token", Tags: []string{tokenTag},
		Summary: "Get the access token", Description: about,
		Errors: bodyErrors(http.StatusNotFound),
	}
	register(a, apikey.Token, op, a.postToken)
	describeBody[tokenRequest](a, op.OperationID, false, map[string]any{"rejected": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"})
	register(a, apikey.Token, huma.Operation{
		OperationID: "get-token-external", Method: http.MethodGet, Path: "/v1/apps/{app}/token", Tags: []string{tokenTag},
		Summary: "Get the access token, as a token service",
		Description: about + " This is the form in which a wxcourier with `token: {mode: external, url: …}` asks: " +
			"with the url https://wxcourier:KEY@HOST/v1/apps/APP/token, KEY being a key with the scope token.",
		Errors: []int{http.StatusNotFound},
	}, a.getToken)
}

// tokenRequest is the body of a request for a token.
type tokenRequest struct {
	Rejected string `json:"rejected,omitempty" pattern:"^[0-9a-f]{64}$" patternDescription:"a SHA-256 in hex" doc:"The SHA-256, in hex, of a token that WeChat has refused."`
}

type postTokenInput struct {
	AppPath
	JSON jsonBody
}

type getTokenInput struct {
	AppPath
	Query    string `query:"app" pattern:"^wx[0-9a-f]{16}$" patternDescription:"an app id" doc:"The app id again."`
	Rejected string `query:"rejected" pattern:"^[0-9a-f]{64}$" patternDescription:"a SHA-256 in hex" doc:"The SHA-256, in hex, of a token that WeChat has refused."`
}

// accessToken is a token, in the form in which WeChat answers.
type accessToken struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in" doc:"Seconds."`
}

type tokenOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         accessToken
}

func (a *API) postToken(ctx context.Context, in *postTokenInput) (*tokenOutput, error) {
	var body tokenRequest
	if len(in.JSON.text) > 0 {
		var err error
		if body, err = decodeBody[tokenRequest](a, in.JSON); err != nil {
			return nil, err
		}
	}
	return a.token(ctx, in.App, body.Rejected)
}

func (a *API) getToken(ctx context.Context, in *getTokenInput) (*tokenOutput, error) {
	if in.Query != "" && in.Query != in.App {
		return nil, invalid("query.app", "is another app than the path names")
	}
	return a.token(ctx, in.App, in.Rejected)
}

// token returns the shared token of an app, after a renewal if it is the one that was rejected.
func (a *API) token(ctx context.Context, app, rejected string) (*tokenOutput, error) {
	if err := require(ctx, apikey.Token, app); err != nil {
		return nil, err
	}
	if _, ok := a.app(app); !ok {
		return nil, problem.New(http.StatusNotFound, "the app is not configured")
	}
	t, err := a.Tokens.Token(ctx, app)
	if err == nil && rejected != "" {
		sum := sha256.Sum256([]byte(t.Value.Reveal()))
		if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(rejected)) == 1 {
			t, err = a.Tokens.Renew(ctx, app, t)
		}
	}
	if err != nil {
		return nil, noToken(err)
	}
	left := int(time.Until(t.ExpiresAt) / time.Second)
	return &tokenOutput{"no-store", accessToken{t.Value.Reveal(), max(left, 1)}}, nil
}

// noToken returns the problem for a token that could not be got. It names the class of the cause.
func noToken(err error) error {
	var api *wechat.APIError
	detail := "there is no access token: it cannot be read or requested now"
	switch {
	case errors.As(err, &api):
		detail = "WeChat gives no access token: " + api.Class().String()
	case errors.Is(err, wechat.ErrTokenRejected):
		detail = "WeChat has refused the access token, and gives the same one again"
	case errors.Is(err, wechat.ErrNoCredentials):
		detail = "the app has no credentials here"
	}
	return huma.ErrorWithHeaders(problem.New(http.StatusServiceUnavailable, detail), http.Header{"Retry-After": {retryFull}})
}
