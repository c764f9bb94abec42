package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/wxcourier/wxcourier/wechat/internal/httpconn"
)

// tokenFetcher makes the requests about tokens, in each of the modes.
type tokenFetcher struct {
	base      base
	exchanger *exchanger
}

func newTokenFetcher(cfg Config) tokenFetcher {
	return tokenFetcher{
		base:      newBase(cfg),
		exchanger: newExchanger(httpconn.NewTransport(), cfg.Timeout),
	}
}

// fetch requests a token for the app. The caller sets its ExpiresAt, from the time of the
// request. The rejected token, if any, is sent only to the token service of ModeExternal.
func (f tokenFetcher) fetch(ctx context.Context, cred Credential, rejected Secret) (sharedToken, error) {
	out, err := f.request(cred, rejected)
	if err != nil {
		return sharedToken{}, err
	}
	rep, err := f.exchanger.exchange(ctx, out)
	if err != nil {
		return sharedToken{}, err
	}
	var v struct {
		status
		AccessToken text   `json:"access_token"`
		ExpiresIn   number `json:"expires_in"` // seconds; of a stable token the remaining ones
	}
	if err := rep.decode(&v, &v.status, out.sensitive); err != nil {
		return sharedToken{}, err
	}
	switch {
	case v.AccessToken == "":
		return sharedToken{}, rep.answerError("no access_token in the answer")
	case v.ExpiresIn.value <= 0 || v.ExpiresIn.value > maxLifeSeconds:
		return sharedToken{}, rep.answerError("expires_in is out of range")
	}
	return sharedToken{
		Token: Token{Value: Secret(v.AccessToken)},
		life:  time.Duration(v.ExpiresIn.value) * time.Second,
		mode:  cred.mode(),
		asked: cred.fingerprint(),
	}, nil
}

// maxLifeSeconds is far above WeChat's two hours; it keeps an absurd value from overflowing
// time.Duration.
const maxLifeSeconds = 30 * 24 * 3600

func (c Credential) mode() string {
	if c.Mode == "" {
		return ModeStable
	}
	return c.Mode
}

// request builds the HTTP request for the credential's mode.
func (f tokenFetcher) request(cred Credential, rejected Secret) (outgoingRequest, error) {
	out := outgoingRequest{method: http.MethodGet, sensitive: sensitiveValues{secrets: []Secret{cred.Secret, rejected}}}
	switch cred.mode() {
	case ModeStable:
		out.endpoint, out.method, out.contentType = EndpointStableToken, http.MethodPost, contentJSON
		if f.base.err != nil {
			return out, out.prepareError(f.base.err)
		}
		body, err := json.Marshal(map[string]string{
			"grant_type": "client_credential", "appid": cred.App, "secret": cred.Secret.Reveal(),
		})
		if err != nil {
			return out, out.prepareError(err)
		}
		out.url, out.body = f.base.endpoint(EndpointStableToken, ""), body
	case ModeClassic:
		out.endpoint = EndpointToken
		if f.base.err != nil {
			return out, out.prepareError(f.base.err)
		}
		out.url = f.base.endpoint(EndpointToken, url.Values{
			"grant_type": {"client_credential"}, "appid": {cred.App}, "secret": {cred.Secret.Reveal()},
		}.Encode())
	case ModeExternal:
		out.endpoint = EndpointExternal
		u, err := url.Parse(cred.URL)
		if err != nil || u.Host == "" {
			return out, &TransportError{Endpoint: out.endpoint, Op: "prepare", Err: errors.New("the token service's URL is not valid")}
		}
		query := u.Query()
		query.Set("app", cred.App)
		if rejected != "" {
			query.Set("rejected", tokenHash(rejected))
		}
		u.RawQuery = query.Encode()
		out.url = u
		out.sensitive.secrets = append(out.sensitive.secrets, secretsOf(u)...)
	default:
		return out, &TransportError{Endpoint: EndpointToken, Op: "prepare", Err: errors.New("the token mode is not one of those with one request")}
	}
	return out, nil
}

// secretsOf returns the parts of a token service's URL that may be credentials.
func secretsOf(u *url.URL) []Secret {
	var secrets []Secret
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, Secret(password))
	}
	for name, values := range u.Query() {
		if name == "app" || name == "rejected" {
			continue
		}
		for _, v := range values {
			secrets = append(secrets, Secret(v))
		}
	}
	return secrets
}
