package sandbox

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

const testProvider = "wxfedcba9876543210"

// component calls an endpoint of service providers.
func component(t *testing.T, s *Server, path, token string, members map[string]string) answer {
	t.Helper()
	body, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		path += "?component_access_token=" + token
	}
	return do(t, s, "POST", path, string(body))
}

// text returns a member of an answer, at the top or in authorization_info.
func (a answer) text(name string) string {
	var top map[string]any
	_ = json.Unmarshal([]byte(a.raw), &top)
	if info, nested := top["authorization_info"].(map[string]any); nested {
		top = info
	}
	value, _ := top[name].(string)
	return value
}

func lastTicket(s *Server) string {
	ticket := ""
	for _, secret := range s.ProviderSecrets(testProvider) {
		if strings.HasPrefix(secret, "ticket") {
			ticket = secret
		}
	}
	return ticket
}

// componentToken returns a token of testProvider.
func componentToken(t *testing.T, s *Server) string {
	t.Helper()
	if err := s.PushTicket(testProvider); err != nil {
		t.Fatal(err)
	}
	a := component(t, s, pathComponentToken, "", map[string]string{
		"component_appid": testProvider, "component_appsecret": "x", "component_verify_ticket": lastTicket(s),
	})
	token := a.text("component_access_token")
	if token == "" {
		t.Fatal(a.raw)
	}
	return token
}

func TestServiceProvider(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := New(Options{Apps: map[string]string{}, Providers: map[string]string{testProvider: "x"}, Clock: func() time.Time { return now }})
	token := componentToken(t, s)
	ticket := lastTicket(s)
	code, err := s.Authorize(testProvider, testApp)
	if err != nil {
		t.Fatal(err)
	}
	app := map[string]string{"component_appid": testProvider, "authorizer_appid": testApp}
	exchanged := component(t, s, pathQueryAuth, token, map[string]string{"component_appid": testProvider, "authorization_code": code})
	refresh := exchanged.text("authorizer_refresh_token")
	if refresh == "" || refresh != s.RefreshToken(testProvider, testApp) || exchanged.text("authorizer_appid") != testApp {
		t.Fatalf("the exchange of the code: %s", exchanged.raw)
	}
	if a := component(t, s, pathAuthorizerInfo, token, app); a.text("authorizer_refresh_token") != refresh {
		t.Errorf("the account's details: %s", a.raw)
	}
	send := func(token string) int {
		return do(t, s, "POST", pathSubscribe+"?access_token="+token, goodBody(pathSubscribe, "o1")).ErrCode
	}
	if got := send(exchanged.text("authorizer_access_token")); got != 0 {
		t.Errorf("a message with the token of the exchange: %d", got)
	}
	if err := s.RotateRefreshTokens(testProvider, true); err != nil {
		t.Fatal(err)
	}
	app["authorizer_refresh_token"] = refresh
	renewed := component(t, s, pathAuthorizerToken, token, app)
	if next := renewed.text("authorizer_refresh_token"); next == "" || next == refresh || send(renewed.text("authorizer_access_token")) != 0 {
		t.Errorf("a new token with a new refresh token: %s", renewed.raw)
	}

	secret := map[string]string{"component_appid": testProvider, "component_appsecret": "x", "component_verify_ticket": ticket}
	with := func(m map[string]string, name, value string) map[string]string {
		changed := map[string]string{name: value}
		for k, v := range m {
			if k != name {
				changed[k] = v
			}
		}
		return changed
	}
	refused := func(what string, a answer, code int) {
		t.Helper()
		if a.ErrCode != code {
			t.Errorf("%s: %s, want %d", what, a.raw, code)
		}
	}
	refused("the same code again", component(t, s, pathQueryAuth, token, map[string]string{"component_appid": testProvider, "authorization_code": code}), 61010)
	refused("the refresh token before", component(t, s, pathAuthorizerToken, token, app), 61023)
	refused("another account", component(t, s, pathAuthorizerToken, token, with(app, "authorizer_appid", "wx0000000000000000")), 61003)
	refused("no token", component(t, s, pathAuthorizerToken, "", app), 41001)
	refused("a foreign token", component(t, s, pathAuthorizerToken, "x", app), 40001)
	refused("an account's token", component(t, s, pathAuthorizerToken, renewed.text("authorizer_access_token"), app), 61014)
	refused("a wrong secret", component(t, s, pathComponentToken, "", with(secret, "component_appsecret", "y")), 40125)
	refused("a wrong ticket", component(t, s, pathComponentToken, "", with(secret, "component_verify_ticket", "y")), 61006)
	refused("an unknown provider", component(t, s, pathComponentToken, "", with(secret, "component_appid", testApp)), 61011)
	if got := send(token); got != 61015 {
		t.Errorf("a message with the provider's token: %d", got)
	}
	if err := s.Unauthorize(testProvider, testApp); err != nil {
		t.Fatal(err)
	}
	if got := send(renewed.text("authorizer_access_token")); got != 61003 {
		t.Errorf("a message of an account that took its authorization back: %d", got)
	}
	if err := s.Unauthorize(testProvider, testApp); err == nil {
		t.Error("an account took its authorization back twice")
	}
	s.BlockIP(testProvider, true)
	refused("a foreign IP", component(t, s, pathComponentToken, "", secret), 61004)
	s.BlockIP(testProvider, false)
	now = now.Add(ticketLife)
	refused("an old ticket", component(t, s, pathComponentToken, "", secret), 61005)
	refused("an old token", component(t, s, pathAuthorizerInfo, token, app), 42001)
}

// Pushes to a service provider are encrypted XML in its own envelope.
func TestPushesToServiceProvider(t *testing.T) {
	got := newReceiver(t)
	s := New(Options{Callbacks: map[string]Callback{testApp: {URL: got.URL, Token: pushToken, AESKey: pushKey}}})
	t.Cleanup(s.Close)
	if _, err := s.Authorize(testApp, testProvider); err != nil { // testApp is the provider: the receiver expects its id
		t.Fatal(err)
	}
	if a := component(t, s, pathStartTickets, "", map[string]string{"component_appid": testApp, "component_secret": "x"}); a.ErrCode != 0 {
		t.Fatal(a.raw)
	}
	if err := s.Unauthorize(testApp, testProvider); err != nil {
		t.Fatal(err)
	}
	waitPushes(t, s)
	for i, want := range []string{"authorized", "component_verify_ticket", "unauthorized"} {
		if pushes := s.Pushes(PushFilter{}); len(pushes) != 3 || pushes[i].Event != want || pushes[i].Status == PushQueued {
			t.Errorf("push %d of %+v, want %s", i, pushes, want)
		}
	}
	for _, p := range got.all() {
		if p.forged {
			t.Errorf("the signature of %s is wrong", p.body)
		}
	}
}
