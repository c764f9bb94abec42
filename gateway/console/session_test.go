package console

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// patience is how long the tests wait for a condition.
const patience = 30 * time.Second

// cookie returns the session's cookie of a browser.
func (u *user) cookie() *http.Cookie {
	u.Helper()
	at, err := url.Parse(u.server.URL)
	if err != nil {
		u.Fatal(err)
	}
	for _, c := range u.client.Jar.Cookies(at) {
		if c.Name == cookieName(false) {
			return c
		}
	}
	u.Fatal("the browser has no session")
	return nil
}

// with returns a browser whose session's cookie has a value.
func (s *site) with(value string) *user {
	s.Helper()
	u := s.visitor()
	at, err := url.Parse(s.server.URL)
	if err != nil {
		s.Fatal(err)
	}
	u.client.Jar.SetCookies(at, []*http.Cookie{{Name: cookieName(false), Value: value, Path: "/"}}) //nolint:gosec // of a browser
	return u
}

// signedIn reports whether a browser sees the pages, and not the sign-in page.
func (u *user) signedIn() bool {
	u.Helper()
	switch a := u.get("/"); {
	case a.status == http.StatusOK:
		return true
	case a.status == http.StatusSeeOther && strings.HasPrefix(a.location, signInPath):
	default:
		u.Errorf("status %d, to %q", a.status, a.location)
	}
	return false
}

// watchKeys reads the file of the keys again when it changes, as the gateway does.
func (s *site) watchKeys() {
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Keys.Run(ctx)
	}()
	s.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestSignIn(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		u := s.visitor()
		if u.signedIn() {
			t.Error("a visitor sees the pages")
		}
		if a := u.get("/?app=" + testApp); a.location != signInPath {
			t.Errorf("to %q", a.location)
		}
		if a := u.get(signInPath + "?next=/holds%3Fapp%3Dx"); a.status != http.StatusOK || !strings.Contains(a.body, `value="/holds?app=x"`) {
			t.Errorf("the sign-in page: status %d\n%s", a.status, a.body)
		}
		for name, tt := range map[string]struct {
			key, text string
			status    int
		}{
			"none":          {"", "not a valid key", http.StatusUnprocessableEntity},
			"wrong":         {s.keys[readKey] + "x", "not a valid key", http.StatusUnprocessableEntity},
			"without scope": {s.keys[sendKey], "scope read", http.StatusForbidden},
		} {
			a := u.send(http.MethodPost, signInPath, url.Values{"key": {tt.key}})
			if a.status != tt.status || !strings.Contains(a.body, tt.text) || a.header.Get("Set-Cookie") != "" {
				t.Errorf("a key that is %s: status %d, cookie %q\n%s", name, a.status, a.header.Get("Set-Cookie"), a.body)
			}
		}
		a := u.send(http.MethodPost, signInPath, url.Values{"key": {" " + s.keys[readKey] + "\n"}, "next": {"/?app=" + testApp}})
		cookie := a.header.Get("Set-Cookie")
		if a.status != http.StatusSeeOther || a.location != "/?app="+testApp || !strings.Contains(cookie, "HttpOnly; SameSite=Lax") || !strings.Contains(cookie, "Max-Age=43200") {
			t.Errorf("status %d, to %q, cookie %q", a.status, a.location, cookie)
		}
		if !u.signedIn() {
			t.Error("no page after signing in")
		}
		entries, _, err := audit.List(t.Context(), rdb, audit.Query{Limit: 10})
		if err != nil || len(entries) != 1 || entries[0].By != "key:"+readKey || entries[0].Via != audit.Console || entries[0].Action != audit.SignIn {
			t.Errorf("the audit has %+v, error %v", entries, err)
		}
		if a := u.post("/signout", nil); a.status != http.StatusSeeOther || u.signedIn() {
			t.Errorf("signing out: status %d", a.status)
		}
	})
}

// TestNext sends nobody to another site after signing in.
func TestNext(t *testing.T) {
	for next, want := range map[string]string{
		"": "/", "/find?q=a": "/find?q=a", "/a%2Fb": "/a%2Fb",
		"https://evil.example": "/", "//evil.example": "/", "/\\evil.example": "/", "\\\\evil.example": "/", "javascript:alert(1)": "/",
		"///evil.example": "/", "/\t/evil.example": "/", "evil": "/", "http:/a": "/", "/%2Fevil.example": "/", "//user@evil.example/": "/", "%": "/",
	} {
		if got := ownPath(next); got != want {
			t.Errorf("%q: %q, want %q", next, got, want)
		}
	}
}

// TestSessions shows which sessions count: not those that were forged or have expired, and those of
// another gateway on the same Redis.
func TestSessions(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		value := s.as(readKey).cookie().Value
		if !s.with(value).signedIn() {
			t.Error("the session does not count")
		}
		key, _ := s.Keys.Get(readKey)
		sign := func(secret interface {
			Sign(context.Context, []byte) (string, error)
		}, of session,
		) string {
			text, err := secret.Sign(t.Context(), of.content())
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
		other := newSite(t, rdb) // has other keys
		other.console.Keys = s.Keys
		if !other.with(value).signedIn() {
			t.Error("the session does not count at another gateway")
		}
		raw, err := base64.RawURLEncoding.DecodeString(value)
		if err != nil {
			t.Fatal(err)
		}
		raw[9] ^= 1
		expired := newSession(key, time.Now().Add(-sessionLife))
		changed := newSession(key, time.Now())
		changed.fingerprint = "x"
		unknown := newSession(key, time.Now())
		unknown.key = "nobody"
		token, err := s.console.formToken(t.Context(), "", key)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"empty": "", "garbage": "x", "forged": base64.RawURLEncoding.EncodeToString(raw), "expired": sign(s.console.secret, expired),
			"of another key": sign(s.console.secret, changed), "of no key": sign(s.console.secret, unknown), "the token of a form": token,
		} {
			if s.with(value).signedIn() {
				t.Errorf("a session counts that is %s", name)
			}
		}
		if err := rdb.Del(t.Context(), sessionKey).Err(); err != nil {
			t.Fatal(err)
		}
		fresh := newSite(t, rdb)
		fresh.console.Keys = s.Keys
		if fresh.with(value).signedIn() {
			t.Error("the session counts with another secret")
		}
	})
}

// TestSessionEndsWithKey: a session, and a page that is open, end when the key is revoked.
func TestSessionEndsWithKey(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	s.watchKeys()
	u := s.as(operateKey)
	events := u.listen()
	events.wait("live")
	if err := apikey.Revoke(s.file, []string{operateKey}); err != nil {
		t.Fatal(err)
	}
	events.wait("end")
	events.closed()
	if u.signedIn() {
		t.Error("the session counts")
	}
}

// TestSessionEndsWithItsKeysExpiry: no session outlives its key.
func TestSessionEndsWithItsKeysExpiry(t *testing.T) {
	now := time.Now()
	key := &apikey.Key{ID: "a", Expires: now.Add(time.Hour)}
	if s := newSession(key, now); !s.expires.Equal(key.Expires) {
		t.Errorf("expires %v", s.expires)
	}
	if s := newSession(&apikey.Key{ID: "a"}, now); !s.expires.Equal(now.Add(sessionLife)) {
		t.Errorf("expires %v", s.expires)
	}
}

// TestHeaderAuthentication: curl needs no session, and a script gets no dialog of the browser.
func TestHeaderAuthentication(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	do := func(change func(r *http.Request)) answered {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		return s.visitor().do(r)
	}
	for name, tt := range map[string]struct {
		change func(r *http.Request)
		status int
		asks   bool
	}{
		"bearer":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+s.keys[readKey]) }, http.StatusOK, false},
		"basic":     {func(r *http.Request) { r.SetBasicAuth("x", s.keys[readKey]) }, http.StatusOK, false},
		"wrong":     {func(r *http.Request) { r.SetBasicAuth("x", "y") }, http.StatusUnauthorized, true},
		"no scope":  {func(r *http.Request) { r.SetBasicAuth("x", s.keys[sendKey]) }, http.StatusForbidden, false},
		"none":      {func(*http.Request) {}, http.StatusUnauthorized, true},
		"a script":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Mode", "cors") }, http.StatusUnauthorized, false},
		"a browser": {func(r *http.Request) { r.Header.Set("Accept", "text/html") }, http.StatusSeeOther, false},
	} {
		if a := do(tt.change); a.status != tt.status || (a.header.Get("WWW-Authenticate") != "") != tt.asks {
			t.Errorf("%s: status %d, %v", name, a.status, a.header)
		}
	}
}

// TestSignInLimit: wrong keys are limited by address, in bounded memory.
func TestSignInLimit(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.visitor()
	for range wrongSignIns {
		u.send(http.MethodPost, signInPath, url.Values{"key": {"x"}})
	}
	if a := u.send(http.MethodPost, signInPath, url.Values{"key": {s.keys[readKey]}}); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" {
		t.Errorf("status %d", a.status)
	}
	var l signInLimit
	now := time.Now()
	for i := range 3 * signInAddresses {
		l.failed("10."+string(rune('0'+i%10))+"."+base64.StdEncoding.EncodeToString([]byte{byte(i), byte(i >> 8)})+":1", now)
	}
	if len(l.wrong) > signInAddresses+1 {
		t.Errorf("%d addresses", len(l.wrong))
	}
	if l.allowed("unseen:1", now) || !l.allowed("unseen:1", now.Add(time.Minute)) {
		t.Error("addresses that are not counted apart are not limited, or for too long")
	}
	l = signInLimit{}
	for range wrongSignIns {
		l.failed("[2001:db8::1]:1", now)
	}
	if l.allowed("[2001:db8::2]:2", now) || !l.allowed("[2001:db8:0:1::1]:1", now) {
		t.Error("IPv6 is not limited by network")
	}
}

// TestOpen: without keys everybody on this machine sees the pages, and forms still need their token.
func TestOpen(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb, openKeys)
	u := s.visitor()
	if !u.signedIn() {
		t.Error("a visitor does not see the pages")
	}
	if a := u.get(signInPath + "?next=/x"); a.status != http.StatusSeeOther || a.location != "/x" {
		t.Errorf("the sign-in page: status %d, to %q", a.status, a.location)
	}
	if a := u.send(http.MethodPost, "/signout", url.Values{}); a.status != http.StatusForbidden {
		t.Errorf("a form without a token: status %d", a.status)
	}
	if a := u.post("/signout", nil); a.status != http.StatusSeeOther {
		t.Errorf("a form with its token: status %d", a.status)
	}
}

// TestSecureCookie: behind HTTPS the cookie is for this host alone.
func TestSecureCookie(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb, func(d *Deps) { d.Secure = true })
	a := s.visitor().send(http.MethodPost, signInPath, url.Values{"key": {s.keys[readKey]}})
	if cookie := a.header.Get("Set-Cookie"); !strings.HasPrefix(cookie, "__Host-") || !strings.Contains(cookie, "Secure") || !strings.Contains(cookie, "Path=/;") {
		t.Error(cookie)
	}
}

// TestOtherSites: a page of another site can send no form, also not that of signing in.
func TestOtherSites(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newSite(t, rdb)
	u := s.as(operateKey)
	token := u.token()
	for _, path := range append([]string{signInPath, "/preferences"}, s.console.forms...) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+path, strings.NewReader(url.Values{"token": {token}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://evil.example")
		if a := u.do(r); a.status != http.StatusForbidden {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
}
