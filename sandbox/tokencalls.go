package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// tokenRequest asks for a token: in the query of /cgi-bin/token, in the body of /cgi-bin/stable_token.
type tokenRequest struct {
	anonymous
	GrantType string `json:"grant_type"`
	AppID     string `json:"appid"`
	Secret    string `json:"secret"`
	Force     bool   `json:"force_refresh"`
}

func (*tokenRequest) check(*site) *refusal { return nil }

func (q *tokenRequest) credentials() credentials {
	return credentials{q.AppID, q.Secret, q.GrantType == "client_credential"}
}

// credentials are what a caller shows in place of a token.
type credentials struct {
	appID, secret string
	granted       bool // the grant_type is the endpoint's, or it has none
}

// credentialed is a request that carries credentials.
type credentialed interface{ credentials() credentials }

func decodeTokenQuery(r *http.Request, _ []byte) (request, *refusal) {
	q := r.URL.Query()
	return &tokenRequest{GrantType: q.Get("grant_type"), AppID: q.Get("appid"), Secret: q.Get("secret")}, nil
}

// byCredentials finds out whose call it is from its app id and secret. WeChat asks for a listed address where it gives out
// tokens.
func byCredentials(s *Server, x *exchange) *refusal {
	req, ok := x.req.(credentialed)
	if !ok || x.flaw != nil {
		return x.flaw
	}
	shown := req.credentials()
	switch {
	case shown.appID == "":
		return refuse(41002)
	case shown.secret == "":
		return refuse(41004)
	case !shown.granted:
		return refuse(40002)
	}
	a, ok := s.account(shown.appID)
	if !ok {
		return refuse(40013)
	}
	x.account = a
	if s.opts.Apps != nil && s.opts.Apps[shown.appID] != shown.secret {
		return refuse(40125)
	}
	if x.row.kind == kindToken && (s.state.blocked[""] || s.state.blocked[shown.appID]) {
		ip, _, err := net.SplitHostPort(x.remote)
		if err != nil {
			ip = x.remote
		}
		return &refusal{40164, fmt.Sprintf("invalid ip %s ipv6 ::ffff:%s, not in whitelist", ip, ip)}
	}
	return nil
}

// byToken finds out whose call it is, from its access_token.
func byToken(s *Server, x *exchange) *refusal {
	if x.tokenValue == "" {
		return refuse(41001)
	}
	if malformed(x.tokenValue) {
		return refuse(40014)
	}
	t := s.state.tokens[x.tokenValue]
	if t == nil {
		return refuse(40001)
	}
	x.account, x.token = s.state.accounts[t.app], t
	return t.fault(x.at)
}

func malformed(value string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return len(value) < 16 || len(value) > 512 || strings.Trim(value, letters) != ""
}

func grantClassic(s *Server, x *exchange) *refusal {
	x.token = s.state.classicToken(x.account, x.at)
	return nil
}

func grantStable(s *Server, x *exchange) (no *refusal) {
	q, _ := x.req.(*tokenRequest)
	x.token, no = s.state.stableToken(x.account, q.Force, x.at)
	return no
}

func answerToken(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}{x.token.value, int(x.tokenLeft / time.Second)})
}
