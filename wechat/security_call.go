package wechat

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"
)

// security is how a Client finds the Security of an app. The zero value has none.
type security struct {
	of         func(app string) *Security
	deprecated func(app string)
}

// WithSecurity makes the Client use the API security mode: of returns the Security of an app, nil for
// one without. deprecated is called once for each Security, when WeChat announces that it replaces the
// last platform certificate that is configured.
func WithSecurity(of func(app string) *Security, deprecated func(app string)) ClientOption {
	return func(o *clientOptions) { o.security = security{of, deprecated} }
}

// find returns what encrypts the requests of an app to an endpoint, nil for none.
func (s security) find(app string, ep Endpoint) *Security {
	if s.of == nil {
		return nil
	}
	if found := s.of(app); found != nil && found.supports(ep) {
		return found
	}
	return nil
}

// exchangeSecured is exchange. A request that may be encrypted, and for whose app and endpoint that is
// configured, is encrypted and signed now, with the members of query, and its answer verified and
// decrypted. Otherwise query is added to the URL.
func (c *Client) exchangeSecured(ctx context.Context, app string, out outgoingRequest, query url.Values, allowed bool) (reply, error) {
	var s *Security
	if allowed {
		s = c.security.find(app, out.endpoint)
	}
	if s == nil {
		if len(query) > 0 {
			out.url.RawQuery += "&" + query.Encode()
		}
		return c.exchanger.exchange(ctx, out)
	}
	address := c.base.endpoint(out.endpoint, "").String()
	var err error
	if out.body, out.header, err = s.seal(address, query, out.body, time.Now()); err != nil {
		return reply{}, out.prepareError(err)
	}
	out.contentType = contentJSON
	rep, err := c.exchanger.exchange(ctx, out)
	if err != nil {
		return rep, err
	}
	plain, deprecated, err := s.open(address, rep.header, rep.body, time.Now())
	switch {
	case errors.Is(err, errUnsigned) && rep.refused():
		return rep, nil // WeChat does not sign the refusal of a signature or of a token
	case errors.Is(err, errUnsigned):
		return reply{}, rep.answerError("the answer is not signed, as the API security mode requires")
	case err != nil:
		return reply{}, rep.answerError(err.Error())
	}
	if deprecated && s.warned.CompareAndSwap(false, true) {
		c.security.deprecated(app)
	}
	rep.body = plain
	return rep, nil
}

// refused reports whether the answer is an error of WeChat or of a server before it: neither a result nor
// a verdict on content.
func (r reply) refused() bool {
	if r.status != http.StatusOK {
		return true
	}
	var st status
	var api *APIError
	err := r.decode(&st, &st, sensitiveValues{})
	return errors.As(err, &api) && api.Class() != ClassRisky || bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<"))
}
