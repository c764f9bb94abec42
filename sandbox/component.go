package sandbox

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// The endpoints of service providers (第三方平台).
// Sources: https://developers.weixin.qq.com/doc/oplatform/openApi/ticket-token/ and
// https://developers.weixin.qq.com/doc/oplatform/openApi/authorization-management/api_getauthorizerinfo
const (
	pathComponentToken  = "/cgi-bin/component/api_component_token"  //nolint:gosec // a path, not a credential
	pathAuthorizerToken = "/cgi-bin/component/api_authorizer_token" //nolint:gosec // a path, not a credential
	pathQueryAuth       = "/cgi-bin/component/api_query_auth"
	pathAuthorizerInfo  = "/cgi-bin/component/api_get_authorizer_info"
	pathStartTickets    = "/cgi-bin/component/api_start_push_ticket"
	pathPreAuthCode     = "/cgi-bin/component/api_create_preauthcode"
)

// The families of the tokens of service providers and of the accounts that authorized them.
const (
	Component  Family = "component"
	Authorizer Family = "authorizer"
)

const (
	ticketLife = 12 * time.Hour
	codeLife   = time.Hour
	// preAuthLife is the lifetime of a pre-auth code: https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/ThirdParty/token/pre_auth_code.html
	preAuthLife = 30 * time.Minute
)

// provider is the state of a service provider.
type provider struct {
	tickets     map[string]time.Time // by ticket: when it was made
	codes       map[string]issuedCode
	preAuth     map[string]time.Time // by pre-auth code that was not used: when it was made
	authorizers map[string]string    // by app: the valid refresh token
	rotates     bool                 // each token of an authorizer comes with a new refresh token
	secrets     []string             // every ticket, code and refresh token so far
}

type issuedCode struct {
	app string
	at  time.Time
}

// providerOf returns the state of a service provider; nil: the options do not accept it. The caller holds s.mu.
func (s *Server) providerOf(id string) *provider {
	if p := s.state.providers[id]; p != nil {
		return p
	}
	_, listed := s.opts.Providers[id]
	if !listed && (s.opts.Providers != nil || s.opts.Apps != nil || len(s.state.providers) >= maxApps || len(id) > 64) {
		return nil
	}
	p := &provider{
		tickets: map[string]time.Time{}, codes: map[string]issuedCode{}, preAuth: map[string]time.Time{}, authorizers: map[string]string{},
	}
	s.state.providers[id] = p
	s.knownApp(id)
	return p
}

// knownApp is findApp for an app that the options need not list.
func (s *Server) knownApp(id string) *appState {
	if a, ok := s.findApp(id); ok {
		return a
	}
	a := newAppState(id)
	s.state.apps[id] = a
	return a
}

// secret returns a new secret with a prefix, as WeChat's look.
func (p *provider) secret(prefix string) string {
	text := prefix + "@@@" + rand.Text() + rand.Text()
	p.secrets = append(p.secrets, text)
	return text
}

// authorizedBy returns the provider that an app has authorized, or "". The caller holds s.mu.
func (st *state) authorizedBy(app string) string {
	for id, p := range st.providers {
		if _, ok := p.authorizers[app]; ok {
			return id
		}
	}
	return ""
}

// replaceToken issues a token; the one before it is valid for five more minutes.
func (st *state) replaceToken(a *appState, family Family, at time.Time) *token {
	if last := a.tokens.current[family]; last != nil {
		last.replaced, last.graceEnds = true, at.Add(tokenOverlap)
	}
	return st.issue(a, family, at)
}

// PushTicket makes a component_verify_ticket, and pushes it to the callback of the service provider.
func (s *Server) PushTicket(providerID string) error {
	s.mu.Lock()
	p := s.providerOf(providerID)
	if p == nil {
		s.mu.Unlock()
		return errUnknownProvider
	}
	e := s.ticketEvent(providerID, p, s.opts.Clock())
	s.mu.Unlock()
	s.pushEvent(e)
	return nil
}

var errUnknownProvider = errors.New("sandbox: unknown service provider")

// Authorize makes an app authorize a service provider, or do so again, and pushes the event to the provider's callback. It
// returns the authorization code of the event.
func (s *Server) Authorize(providerID, app string) (code string, err error) {
	return s.authorize(providerID, app, "preauthcode@@@sandbox", func(*provider, time.Time) error { return nil })
}

// AuthorizeWith is Authorize with a pre-auth code, as after a visit to the page to which the provider's link leads. The code is
// used up.
func (s *Server) AuthorizeWith(providerID, app, preAuthCode string) (code string, err error) {
	return s.authorize(providerID, app, preAuthCode, func(p *provider, at time.Time) error {
		made, known := p.preAuth[preAuthCode]
		delete(p.preAuth, preAuthCode)
		if !known || at.Sub(made) >= preAuthLife {
			return errors.New("sandbox: the pre-auth code is not one of this service provider, was used, or has expired")
		}
		return nil
	})
}

func (s *Server) authorize(providerID, app, preAuthCode string, check func(*provider, time.Time) error) (code string, err error) {
	s.mu.Lock()
	p := s.providerOf(providerID)
	if p == nil {
		s.mu.Unlock()
		return "", errUnknownProvider
	}
	name, at := "authorized", s.opts.Clock()
	if err := check(p, at); err != nil {
		s.mu.Unlock()
		return "", err
	}
	if p.authorizers[app] != "" {
		name = "updateauthorized"
	}
	a := s.knownApp(app)
	a.revokeFamily(Authorizer)
	code = p.secret("queryauthcode")
	p.codes[code] = issuedCode{app, at}
	p.authorizers[app] = p.secret("refreshtoken")
	e := providerEvent(providerID, name, at,
		pushwire.Element{Name: "AuthorizerAppid", Value: pushwire.Text(app)},
		pushwire.Element{Name: "AuthorizationCode", Value: pushwire.Text(code)},
		pushwire.Element{Name: "AuthorizationCodeExpiredTime", Value: pushwire.Digits(strconv.FormatInt(at.Add(codeLife).Unix(), 10))},
		pushwire.Element{Name: "PreAuthCode", Value: pushwire.Text(preAuthCode)})
	s.mu.Unlock()
	s.pushEvent(e)
	return code, nil
}

// Unauthorize makes an app take its authorization back, and pushes the event. Calls with the app's token of this provider are
// answered 61003 from now on.
func (s *Server) Unauthorize(providerID, app string) error {
	s.mu.Lock()
	p := s.providerOf(providerID)
	if p == nil || p.authorizers[app] == "" {
		s.mu.Unlock()
		return errors.New("sandbox: the app has not authorized this service provider")
	}
	delete(p.authorizers, app)
	e := providerEvent(providerID, "unauthorized", s.opts.Clock(), pushwire.Element{Name: "AuthorizerAppid", Value: pushwire.Text(app)})
	s.mu.Unlock()
	s.pushEvent(e)
	return nil
}

// RotateRefreshTokens sets whether each new token of an authorizer comes with a new refresh token, which makes the one before
// it invalid (61023). WeChat's own stay the same as a rule.
func (s *Server) RotateRefreshTokens(providerID string, rotate bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.providerOf(providerID)
	if p == nil {
		return errUnknownProvider
	}
	p.rotates = rotate
	return nil
}

// RefreshToken returns the valid refresh token of an authorizer, "" if it has not authorized the provider.
func (s *Server) RefreshToken(providerID, app string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.providerOf(providerID); p != nil {
		return p.authorizers[app]
	}
	return ""
}

// ProviderSecrets returns every ticket, authorization code and refresh token of a service provider so far; a test can check
// that none appears in a log. Its tokens are those of [Server.Tokens].
func (s *Server) ProviderSecrets(providerID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.providerOf(providerID); p != nil {
		return slices.Clone(p.secrets)
	}
	return nil
}

// SetAuthorizerCallback sets the URL of the pushes of an app that has authorized a service provider: they are encrypted with
// the provider's key, and name its app id.
func (s *Server) SetAuthorizerCallback(providerID, app string, c Callback) error {
	t, err := c.target(providerID)
	if err != nil {
		return err
	}
	s.pushes.setTarget(app, t)
	return nil
}

func (a *appState) revokeFamily(family Family) {
	for _, t := range a.tokens.all {
		if t.family == family {
			t.revoked = true
		}
	}
}

// ticketEvent makes a ticket and returns its event. The caller holds s.mu.
func (s *Server) ticketEvent(id string, p *provider, at time.Time) event {
	ticket := p.secret("ticket")
	p.tickets[ticket] = at
	return providerEvent(id, "component_verify_ticket", at, pushwire.Element{Name: "ComponentVerifyTicket", Value: pushwire.Text(ticket)})
}

// providerEvent returns an event for the callback of a service provider. Source:
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
func providerEvent(id, name string, at time.Time, members ...pushwire.Element) event {
	envelope := pushwire.Element{Name: "AppId", Value: pushwire.Text(id)}
	return event{
		name: name, app: id, at: at, xmlOnly: true, envelope: envelope,
		body: append([]pushwire.Element{
			envelope, {Name: "CreateTime", Value: pushwire.Digits(strconv.FormatInt(at.Unix(), 10))}, {Name: "InfoType", Value: pushwire.Text(name)},
		}, members...),
	}
}

// componentEndpoints are the rows of the endpoints of service providers.
func componentEndpoints() []endpoint {
	row := func(path string, identify, grant func(*Server, *exchange) *refusal) endpoint {
		return endpoint{
			path: path, method: http.MethodPost, kind: kindToken, secret: true,
			decode: decodeComponent, identify: identify, grant: grant, answer: answerComponent,
		}
	}
	return []endpoint{
		row(pathComponentToken, identifyBySecret, grantComponentToken),
		row(pathStartTickets, identifyBySecret, grantTicket),
		row(pathAuthorizerToken, identifyByComponentToken, grantAuthorizerToken),
		row(pathQueryAuth, identifyByComponentToken, grantQueryAuth),
		row(pathAuthorizerInfo, identifyByComponentToken, grantAuthorizerInfo),
		row(pathPreAuthCode, identifyByComponentToken, grantPreAuthCode),
	}
}
