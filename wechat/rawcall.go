package wechat

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// RawRequest is a request that is sent as its client wrote it.
type RawRequest struct {
	Path   Endpoint
	Method string // GET or POST
	// Query is sent besides the access token. With Secret it is sent besides appid and secret.
	// Members of these names are not allowed.
	Query       url.Values
	ContentType string // of Body; "" for none
	Body        []byte // of any format; it is sent unchanged
	// Secret sends the app's id and secret in the query in place of a token, as
	// /sns/jscode2session requires.
	Secret bool
	// BeforeWrite: see [Request].
	BeforeWrite func(ctx context.Context) error
}

// RawAnswer is a complete answer, from WeChat or from what stands before it. It may contain
// openids, phone numbers and session keys.
type RawAnswer struct {
	Status int
	Header http.Header
	Body   []byte
	Answer Answer // what [Client.Call] returns; zero on an endpoint that this package does not decode
}

// hiddenToken replaces an access token in an answer, such as the URL of a call in that of
// /cgi-bin/openapi/rid/get.
const hiddenToken = "***"

// CallRaw is [Client.Call] for a request of any method and format, whose answer is returned as it
// came, except that an access token in it is replaced. An answer with an error has a Status, and
// comes together with the *APIError or *AnswerError; the other errors of Call come without one.
// An answer without an errcode is an error only on the endpoints that Call decodes.
func (c *Client) CallRaw(ctx context.Context, app string, r RawRequest) (RawAnswer, error) {
	if r.Secret {
		return c.callWithSecret(ctx, app, r)
	}
	var answer RawAnswer
	first := true
	err := c.withToken(ctx, app, r.Path, func(ctx context.Context, deadline time.Time, tokens ...Token) (err error) {
		wait := r.BeforeWrite
		if first { // a repetition has the newest token there is
			wait, first = c.waitUnlessRefused(app, wait, tokens[0]), false
		}
		var secrets []Secret
		for _, t := range tokens {
			secrets = append(secrets, t.Value)
		}
		answer, err = c.exchangeRaw(ctx, app, r, wait, deadline, "access_token="+url.QueryEscape(tokens[len(tokens)-1].Value.Reveal()), secrets)
		return err
	})
	return answer, err
}

// callWithSecret sends a request with the app's secret. A token source that has no credentials, or
// an app without a secret, gives a *TokenError of ErrNoCredentials.
func (c *Client) callWithSecret(ctx context.Context, app string, r RawRequest) (RawAnswer, error) {
	cred, err := c.credential(app)
	if err != nil {
		return RawAnswer{}, err
	}
	query := "appid=" + url.QueryEscape(app) + "&secret=" + url.QueryEscape(cred.Secret.Reveal())
	return c.exchangeRaw(ctx, app, r, r.BeforeWrite, time.Now().Add(c.attemptTimeout), query, []Secret{cred.Secret})
}

// exchangeRaw sends a request with a query that identifies the app, and decodes the answer as far as
// its meaning is needed. secrets are those of the query.
func (c *Client) exchangeRaw(ctx context.Context, app string, r RawRequest, wait func(context.Context) error, deadline time.Time, identity string, secrets []Secret) (RawAnswer, error) {
	out := outgoingRequest{
		endpoint: r.Path, method: r.Method, deadline: deadline, contentType: r.ContentType, body: r.Body,
		sensitive:   sensitiveValues{body: r.Body, secrets: slices.Concat(secrets, valuesOf(r.Query))},
		beforeWrite: wait,
	}
	if err := cmp.Or(r.check(), c.base.err); err != nil {
		return RawAnswer{}, out.prepareError(err)
	}
	out.url = c.base.endpoint(r.Path, identity)
	rep, err := c.exchangeSecured(ctx, app, out, r.Query, !r.Secret && r.Method == http.MethodPost)
	if err != nil {
		return RawAnswer{}, err
	}
	answer := RawAnswer{Status: rep.status, Header: rep.header}
	answer.Answer, err = decodeRaw(rep, out.sensitive)
	answer.Body = hideSecrets(rep.body, secrets)
	return answer, err
}

// check returns an error for a request that must not be sent.
func (r RawRequest) check() error {
	switch {
	case !plainPath(r.Path):
		return errors.New("the endpoint is not a plain path")
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return errors.New("the method is neither GET nor POST")
	}
	for _, name := range []string{"access_token", "appid", "secret"} {
		if _, ok := r.Query[name]; ok && (r.Secret || name == "access_token") {
			return fmt.Errorf("the query has a member %s", name)
		}
	}
	return nil
}

// plainPath reports whether a path has neither a query nor anything that would have to be escaped.
func plainPath(p Endpoint) bool {
	return strings.HasPrefix(string(p), "/") && !strings.ContainsAny(string(p), "?#% ")
}

// valuesOf returns the values of a query as secrets: codes of logins, openids.
func valuesOf(query url.Values) []Secret {
	var all []Secret
	for _, values := range query {
		for _, v := range values {
			all = append(all, Secret(v))
		}
	}
	return all
}

// hideSecrets returns the body with secrets replaced.
func hideSecrets(body []byte, secrets []Secret) []byte {
	for _, s := range secrets {
		if secret := []byte(s.Reveal()); len(secret) > 0 && bytes.Contains(body, secret) {
			body = bytes.ReplaceAll(body, secret, []byte(hiddenToken))
		}
	}
	return body
}

// decodeRaw returns what an answer means: that of [Client.Call] on the endpoints that Call decodes,
// and elsewhere only whether it is an error.
func decodeRaw(rep reply, sensitive sensitiveValues) (Answer, error) {
	if decodes(rep.endpoint) {
		return decodeAnswer(rep, sensitive)
	}
	body := bytes.TrimSpace(bytes.TrimPrefix(rep.body, []byte("\xef\xbb\xbf")))
	if rep.status == http.StatusOK && len(body) > 0 && body[0] != '{' && body[0] != '<' {
		return Answer{}, nil // a file, or a list
	}
	var st status
	return Answer{}, rep.decode(&st, &st, sensitive)
}

// decodes reports whether the answers of an endpoint are known, so that one without its fields is no
// answer from WeChat.
func decodes(ep Endpoint) bool {
	_, known := successRowOf(ep)
	return known || givesImage(ep) || ep == EndpointBizSubscribe || ep == EndpointCustom || ep == EndpointUniform ||
		ep == EndpointTemplateSubscribe || ep == EndpointImageCheck || ep == EndpointClearQuota
}
