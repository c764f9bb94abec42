package sandbox

import (
	"strings"
	"testing"
	"time"
)

func newServerWithApps(clock *fakeClock) *Server {
	return New(Options{Apps: map[string]string{testApp: testSecret, "wxffffffffffffffff": "x"}, Clock: clock.Now})
}

func TestCredentials(t *testing.T) {
	const good = "grant_type=client_credential&appid=" + testApp + "&secret=" + testSecret
	stable := func(grant, app, secret string) string {
		return `{"grant_type":"` + grant + `","appid":"` + app + `","secret":"` + secret + `"}`
	}
	tests := []struct {
		name, method, target, body string
		code                       int
	}{
		{"classic", "GET", pathToken + "?" + good, "", 0},
		{"classic by POST", "POST", pathToken + "?" + good, "", 43001},
		{"classic without grant type", "GET", pathToken + "?appid=" + testApp + "&secret=" + testSecret, "", 40002},
		{"classic without app", "GET", pathToken + "?grant_type=client_credential&secret=x", "", 41002},
		{"classic without secret", "GET", pathToken + "?grant_type=client_credential&appid=x", "", 41004},
		{"classic, unknown app", "GET", pathToken + "?grant_type=client_credential&appid=wx1&secret=x", "", 40013},
		{"classic, wrong secret", "GET", pathToken + "?" + good + "0", "", 40125},
		{"stable", "POST", pathStableToken, stable("client_credential", testApp, testSecret), 0},
		{"stable by GET", "GET", pathStableToken + "?" + good, "", 43002},
		{"stable with a form", "POST", pathStableToken, good, 47001},
		{"stable, empty", "POST", pathStableToken, "", 44002},
		{"stable, wrong type", "POST", pathStableToken, `{"grant_type":"client_credential","appid":1,"secret":"x"}`, 47001},
		{"stable, wrong grant type", "POST", pathStableToken, stable("x", testApp, testSecret), 40002},
		{"stable without app", "POST", pathStableToken, stable("client_credential", "", "x"), 41002},
		{"stable without secret", "POST", pathStableToken, stable("client_credential", testApp, ""), 41004},
		{"stable, unknown app", "POST", pathStableToken, stable("client_credential", "wx1", "x"), 40013},
		{"stable, wrong secret", "POST", pathStableToken, stable("client_credential", testApp, "x"), 40125},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServerWithApps(newClock())
			a := do(t, s, tt.method, tt.target, tt.body)
			if a.ErrCode != tt.code || (a.Token == "") != (tt.code != 0) {
				t.Errorf("answer %s, want errcode %d", a.raw, tt.code)
			}
			for _, c := range s.Calls(Filter{}) {
				if len(c.Body) > 0 {
					t.Error("the call log keeps a body with a secret")
				}
			}
		})
	}
}

func TestBlockedIP(t *testing.T) {
	s := newServerWithApps(newClock())
	body := `{"grant_type":"client_credential","appid":"` + testApp + `","secret":"` + testSecret + `"}`
	for _, app := range []string{testApp, ""} {
		s.BlockIP(app, true)
		if a := do(t, s, "POST", pathStableToken, body); a.ErrCode != 40164 || !strings.HasPrefix(a.ErrMsg, "invalid ip 192.0.2.1 ") {
			t.Errorf("blocked %q: %s", app, a.raw)
		}
		s.BlockIP(app, false)
	}
	s.BlockIP("wxffffffffffffffff", true)
	if a := do(t, s, "POST", pathStableToken, body); a.Token == "" {
		t.Errorf("another app is blocked: %s", a.raw)
	}
}

func callWithToken(t *testing.T, s *Server, token string) int {
	t.Helper()
	return do(t, s, "POST", pathCustom+"?access_token="+token, goodBody(pathCustom, "o1")).ErrCode
}

func TestClassicTokens(t *testing.T) {
	clock := newClock()
	s := newServerWithApps(clock)
	fetch := func() string {
		return do(t, s, "GET", pathToken+"?grant_type=client_credential&appid="+testApp+"&secret="+testSecret, "").Token
	}
	one, stable := fetch(), stableToken(t, s)
	clock.move(time.Hour)
	two := fetch()
	if one == two {
		t.Fatal("two calls gave the same token")
	}
	check := func(step string, want map[string]int) {
		t.Helper()
		for token, code := range want {
			if got := callWithToken(t, s, token); got != code {
				t.Errorf("%s: errcode %d, want %d", step, got, code)
			}
		}
	}
	clock.move(5*time.Minute - time.Second)
	check("within five minutes", map[string]int{one: 0, two: 0, stable: 0})
	clock.move(time.Second)
	check("after five minutes", map[string]int{one: 40001, two: 0, stable: 0})
	clock.move(55 * time.Minute)
	check("two hours after the first", map[string]int{two: 0, stable: 42001})
	clock.move(time.Hour)
	check("at its end", map[string]int{two: 42001})
	if n := s.TokensIssued(testApp, Classic); n != 2 {
		t.Errorf("%d classic tokens, want 2", n)
	}
}

func TestStableTokens(t *testing.T) {
	clock := newClock()
	s := newServerWithApps(clock)
	fetch := func(force string) answer {
		return do(t, s, "POST", pathStableToken, `{"grant_type":"client_credential","appid":"`+testApp+`","secret":"`+testSecret+`","force_refresh":`+force+`}`)
	}
	one := fetch("false")
	clock.move(time.Hour)
	if again := fetch("false"); again.Token != one.Token || again.Expires != 3600 {
		t.Errorf("an hour later: the same %t, expires in %d", again.Token == one.Token, again.Expires)
	}
	clock.move(time.Hour - 5*time.Minute)
	two := fetch("false")
	if two.Token == one.Token || two.Expires != 7200 {
		t.Errorf("in the last five minutes: the same %t, expires in %d", two.Token == one.Token, two.Expires)
	}
	if callWithToken(t, s, one.Token) != 0 || callWithToken(t, s, two.Token) != 0 {
		t.Error("the old and the new token are not both valid")
	}
	clock.move(5 * time.Minute)
	if got := callWithToken(t, s, one.Token); got != 42001 {
		t.Errorf("the old one after its end: %d", got)
	}
	three := fetch("true")
	if three.Token == two.Token || callWithToken(t, s, two.Token) != 40001 {
		t.Error("the old token is valid after a forced refresh")
	}
	clock.move(29 * time.Second)
	if fetch("true").Token != three.Token {
		t.Error("a second forced refresh within 30 s took place")
	}
	for range forcePerDay - 1 {
		clock.move(30 * time.Second)
		if a := fetch("true"); a.ErrCode != 0 {
			t.Fatalf("forced refresh: %s", a.raw)
		}
	}
	clock.move(30 * time.Second)
	if a := fetch("true"); a.ErrCode != 45009 {
		t.Errorf("forced refresh 21 of a day: %s", a.raw)
	}
	if a := fetch("false"); a.ErrCode != 0 {
		t.Errorf("normal call on that day: %s", a.raw)
	}
	clock.move(24 * time.Hour)
	fetch("false")
	clock.move(time.Minute)
	if a := fetch("true"); a.ErrCode != 0 {
		t.Errorf("forced refresh on the next day: %s", a.raw)
	}
}

func TestTokenChecks(t *testing.T) {
	s := newServerWithApps(newClock())
	unknown := strings.Repeat("a", 136)
	for value, code := range map[string]int{"": 41001, "short": 40014, unknown + "%21": 40014, strings.Repeat("a", 513): 40014, unknown: 40001} {
		for path := range s.rows {
			if s.rows[path].secret {
				continue
			}
			if a := do(t, s, s.rows[path].method, path+"?access_token="+value, "{}"); a.ErrCode != code {
				t.Errorf("%s with token %.10q: %s, want %d", path, value, a.raw, code)
			}
		}
	}
	token := stableToken(t, s)
	if n := s.Revoke(testApp); n != 1 {
		t.Errorf("revoked %d", n)
	}
	if got := callWithToken(t, s, token); got != 40001 {
		t.Errorf("revoked token: %d", got)
	}
	if next := stableToken(t, s); next == token || callWithToken(t, s, next) != 0 {
		t.Error("no valid token after a revocation")
	}
	list := s.Tokens(testApp)
	if len(list) != 2 || !list[0].Revoked || list[0].Value != token || list[1].Revoked {
		t.Errorf("tokens: %d", len(list))
	}
	if s.Revoke("wx1") != 0 || s.Tokens("wx1") != nil || s.TokensIssued("wx1", Stable) != 0 {
		t.Error("an unknown app has tokens")
	}
}

func TestOldTokensAreForgotten(t *testing.T) {
	s := New(Options{NoLimits: true})
	for range keptTokens + 5 {
		do(t, s, "GET", pathToken+"?grant_type=client_credential&appid="+testApp+"&secret=x", "")
	}
	if len(s.Tokens(testApp)) != keptTokens || len(s.state.tokens) != keptTokens || s.TokensIssued(testApp, Classic) != keptTokens+5 {
		t.Errorf("%d listed, %d known, %d issued", len(s.Tokens(testApp)), len(s.state.tokens), s.TokensIssued(testApp, Classic))
	}
	for i := range maxApps + 5 {
		app := "wx" + strings.Repeat("a", i%40) + strings.Repeat("b", i/40)
		do(t, s, "GET", pathToken+"?grant_type=client_credential&secret=x&appid="+app, "")
	}
	if len(s.state.apps) != maxApps {
		t.Errorf("%d apps are kept", len(s.state.apps))
	}
}
