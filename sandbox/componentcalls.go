package sandbox

import (
	"net"
	"net/http"
	"time"
)

// componentRequest is the body of the endpoints of service providers, with the token of the query.
type componentRequest struct {
	anonymous
	Component string `json:"component_appid"`
	AppSecret string `json:"component_appsecret"`
	Secret    string `json:"component_secret"` // as api_start_push_ticket names it
	Ticket    string `json:"component_verify_ticket"`
	App       string `json:"authorizer_appid"`
	Refresh   string `json:"authorizer_refresh_token"`
	Code      string `json:"authorization_code"`

	token  string
	answer any
}

func (*componentRequest) check(*checkEnv) *refusal { return nil }

func decodeComponent(r *http.Request, body []byte) (request, *refusal) {
	req, refused := decodeJSON[componentRequest](r, body)
	if q, ok := req.(*componentRequest); ok { // older pages name the parameter component_access_token, newer ones access_token
		if q.token = r.URL.Query().Get("component_access_token"); q.token == "" {
			q.token = r.URL.Query().Get("access_token")
		}
	}
	return req, refused
}

// componentOf returns the request of a service provider that exists.
func (s *Server) componentOf(x *exchange) (*componentRequest, *refusal) {
	q, ok := x.req.(*componentRequest)
	switch {
	case !ok || x.bodyRefusal != nil:
		return nil, x.bodyRefusal
	case q.Component == "":
		return nil, refuse(41018)
	}
	if s.providerOf(q.Component) == nil {
		return nil, refuse(61011)
	}
	x.app = s.knownApp(q.Component)
	return q, nil
}

// identifyBySecret identifies a service provider by its secret, and checks the caller's IP.
func identifyBySecret(s *Server, x *exchange) *refusal {
	q, refused := s.componentOf(x)
	if refused != nil {
		return refused
	}
	given := q.AppSecret
	if x.row.path == pathStartTickets {
		given = q.Secret
	}
	want, listed := s.state.secrets[q.Component]
	if !listed {
		want, listed = s.opts.Providers[q.Component]
	}
	switch {
	case given == "":
		return refuse(41004)
	case listed && want != given:
		return refuse(40125)
	case s.state.blocked[""] || s.state.blocked[q.Component]:
		ip, _, err := net.SplitHostPort(x.remote)
		if err != nil {
			ip = x.remote
		}
		return &refusal{61004, "access clientip is not registered requestIP: " + ip}
	}
	return nil
}

// identifyByComponentToken identifies a service provider by its token.
func identifyByComponentToken(s *Server, x *exchange) *refusal {
	q, refused := s.componentOf(x)
	if refused != nil {
		return refused
	}
	if q.token == "" {
		return refuse(41001)
	}
	t := s.state.tokens[q.token]
	switch {
	case t == nil:
		return refuse(40001)
	case t.family != Component:
		return refuse(61014)
	case t.app != q.Component:
		return refuse(40001)
	}
	return t.check(x.at)
}

// grantTicket pushes a ticket after the answer.
func grantTicket(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	x.pushes = s.planEvent(s.ticketEvent(q.Component, s.state.providers[q.Component], x.at))
	return nil
}

func grantComponentToken(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	made, known := s.state.providers[q.Component].tickets[q.Ticket]
	switch {
	case !known:
		return refuse(61006)
	case x.at.Sub(made) >= ticketLife:
		return refuse(61005)
	}
	x.token = s.state.replaceToken(x.app, Component, x.at)
	q.answer = struct {
		Token     string `json:"component_access_token"`
		ExpiresIn int    `json:"expires_in"`
	}{x.token.value, int(tokenLife / time.Second)}
	return nil
}

// authorizerAnswer is what WeChat answers about an authorization.
type authorizerAnswer struct {
	App       string `json:"authorizer_appid,omitempty"`
	Token     string `json:"authorizer_access_token,omitempty"`
	ExpiresIn int    `json:"expires_in,omitempty"`
	Refresh   string `json:"authorizer_refresh_token"`
	Functions []any  `json:"func_info,omitempty"`
}

// function is an entry of func_info: the first set of permissions, of messages.
func function() []any {
	return []any{map[string]any{"funcscope_category": map[string]int{"id": 1}}}
}

func grantAuthorizerToken(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	p := s.state.providers[q.Component]
	valid, authorized := p.authorizers[q.App]
	switch {
	case !authorized:
		return refuse(61003)
	case valid != q.Refresh:
		return refuse(61023)
	}
	if p.rotates {
		p.authorizers[q.App] = p.secret("refreshtoken")
	}
	x.token = s.state.replaceToken(s.knownApp(q.App), Authorizer, x.at)
	q.answer = authorizerAnswer{Token: x.token.value, ExpiresIn: int(tokenLife / time.Second), Refresh: p.authorizers[q.App]}
	return nil
}

func grantQueryAuth(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	p := s.state.providers[q.Component]
	code, known := p.codes[q.Code]
	delete(p.codes, q.Code)
	if !known || x.at.Sub(code.at) >= codeLife || p.authorizers[code.app] == "" {
		return refuse(61010)
	}
	x.token = s.state.replaceToken(s.knownApp(code.app), Authorizer, x.at)
	q.answer = map[string]any{"authorization_info": authorizerAnswer{
		App: code.app, Token: x.token.value, ExpiresIn: int(tokenLife / time.Second), Refresh: p.authorizers[code.app], Functions: function(),
	}}
	return nil
}

func grantPreAuthCode(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	p := s.state.providers[q.Component]
	code := p.secret("preauthcode")
	p.preAuth[code] = x.at
	q.answer = struct {
		Code      string `json:"pre_auth_code"`
		ExpiresIn int    `json:"expires_in"`
	}{code, int(preAuthLife / time.Second)}
	return nil
}

func grantAuthorizerInfo(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*componentRequest)
	refresh, authorized := s.state.providers[q.Component].authorizers[q.App]
	if !authorized {
		return refuse(61003)
	}
	q.answer = map[string]any{
		"authorizer_info":    map[string]any{"nick_name": "沙箱", "user_name": originalID(q.App)},
		"authorization_info": authorizerAnswer{App: q.App, Refresh: refresh, Functions: function()},
	}
	return nil
}

func answerComponent(_ *Server, x *exchange) reply {
	if q, ok := x.req.(*componentRequest); ok && q.answer != nil {
		return jsonReply(q.answer)
	}
	return jsonReply(plainAnswer{ErrMsg: "ok"})
}

// componentRoutes are the routes of the control API about service providers.
func (s *Server) componentRoutes() map[string]controlRoute {
	type parameters struct {
		Provider string `json:"provider"`
		App      string `json:"app"`
		Code     string `json:"pre_auth_code"`
		Rotate   bool   `json:"rotate"`
	}
	route := func(act func(parameters) (any, error), required ...string) controlRoute {
		return controlRoute{required: required, act: func(r *http.Request) (any, error) {
			var p parameters
			if err := readControl(r, &p); err != nil {
				return nil, err
			}
			return act(p)
		}}
	}
	done := func(err error) (any, error) { return okReply{true}, err }
	return map[string]controlRoute{
		"POST /sandbox/ticket": route(func(p parameters) (any, error) { return done(s.PushTicket(p.Provider)) }, "provider"),
		"POST /sandbox/authorize": route(func(p parameters) (any, error) {
			var err error
			if p.Code != "" {
				_, err = s.AuthorizeWith(p.Provider, p.App, p.Code)
			} else {
				_, err = s.Authorize(p.Provider, p.App)
			}
			return done(err)
		}, "provider", "app"),
		"POST /sandbox/unauthorize": route(func(p parameters) (any, error) { return done(s.Unauthorize(p.Provider, p.App)) }, "provider", "app"),
		"POST /sandbox/rotate":      route(func(p parameters) (any, error) { return done(s.RotateRefreshTokens(p.Provider, p.Rotate)) }, "provider", "rotate"),
	}
}
