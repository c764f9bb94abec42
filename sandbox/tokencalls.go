package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// tokenRequest holds the parameters of a token request: the query of /cgi-bin/token, the body of /cgi-bin/stable_token.
type tokenRequest struct {
	anonymous
	GrantType string `json:"grant_type"`
	AppID     string `json:"appid"`
	Secret    string `json:"secret"`
	Force     bool   `json:"force_refresh"`
}

func (*tokenRequest) check(*checkEnv) *refusal { return nil }

func (q *tokenRequest) credentials() credentials {
	return credentials{q.AppID, q.Secret, q.GrantType == "client_credential"}
}

// credentials identify an app without a token.
type credentials struct {
	appID, secret string
	grantTypeOK   bool // the grant_type is right, or the endpoint has none
}

// credentialed is a request that carries credentials.
type credentialed interface{ credentials() credentials }

func decodeTokenQuery(r *http.Request, _ []byte) (request, *refusal) {
	q := r.URL.Query()
	return &tokenRequest{GrantType: q.Get("grant_type"), AppID: q.Get("appid"), Secret: q.Get("secret")}, nil
}

// identifyByCredentials identifies the app by its app id and secret. The token endpoints also check the caller's IP, as WeChat's
// do.
func identifyByCredentials(s *Server, x *exchange) *refusal {
	req, ok := x.req.(credentialed)
	if !ok || x.bodyRefusal != nil {
		return x.bodyRefusal
	}
	creds := req.credentials()
	switch {
	case creds.appID == "":
		return refuse(41002)
	case creds.secret == "":
		return refuse(41004)
	case !creds.grantTypeOK:
		return refuse(40002)
	}
	a, ok := s.findApp(creds.appID)
	if !ok {
		return refuse(40013)
	}
	x.app = a
	if want, open := s.secretOf(creds.appID); !open && want != creds.secret {
		return refuse(40125)
	}
	if x.row.kind == kindToken && (s.state.blocked[""] || s.state.blocked[creds.appID]) {
		ip, _, err := net.SplitHostPort(x.remote)
		if err != nil {
			ip = x.remote
		}
		return &refusal{40164, fmt.Sprintf("invalid ip %s ipv6 ::ffff:%s, not in whitelist", ip, ip)}
	}
	return nil
}

// identifyByToken identifies the app by the access_token.
func identifyByToken(s *Server, x *exchange) *refusal {
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
	x.app, x.token = s.state.apps[t.app], t
	switch {
	case t.family == Component:
		return refuse(61015)
	case t.family == Authorizer && s.state.authorizedBy(t.app) == "":
		return refuse(61003)
	}
	return t.check(x.at)
}

func malformed(value string) bool {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	return len(value) < 16 || len(value) > 512 || strings.Trim(value, letters) != ""
}

func grantClassic(s *Server, x *exchange) *refusal {
	x.token = s.state.classicToken(x.app, x.at)
	return nil
}

func grantStable(s *Server, x *exchange) (refused *refusal) {
	q, _ := x.req.(*tokenRequest)
	x.token, refused = s.state.stableToken(x.app, q.Force, x.at)
	return refused
}

func answerToken(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}{x.token.value, int(x.tokenLeft / time.Second)})
}
