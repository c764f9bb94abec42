package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"time"
)

// Family is one of the two kinds of tokens; a new token of one does not replace one of the other.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/
type Family string

// The families: /cgi-bin/token and /cgi-bin/stable_token.
const (
	Classic Family = "classic"
	Stable  Family = "stable"
)

const (
	tokenLife    = 7200 * time.Second
	tokenOverlap = 5 * time.Minute // how long an old and a new token are both valid
	forcePause   = 30 * time.Second
	forcePerDay  = 20
	keptTokens   = 100 // per app; an older one is unknown (40001)
)

// token is an issued token.
type token struct {
	app       string
	family    Family
	value     string
	expires   time.Time
	graceEnds time.Time // if replaced: valid until then
	replaced  bool
	revoked   bool
}

// IssuedToken describes a token that the sandbox issued; a test can check that it appears in no log.
type IssuedToken struct {
	Family    Family
	Value     string
	ExpiresAt time.Time
	Revoked   bool
}

func (t *token) check(at time.Time) *refusal {
	switch {
	case t.revoked, t.replaced && !at.Before(t.graceEnds):
		return refuse(40001)
	case !at.Before(t.expires):
		return refuse(42001)
	default:
		return nil
	}
}

// appTokens holds the tokens of one app.
type appTokens struct {
	all     []*token // the latest keptTokens, oldest first
	current map[Family]*token
	issued  map[Family]int
	// Forced refreshes: the time of the last one, and their number on that day.
	forcedAt    time.Time
	forcedToday int
}

func newAppTokens() appTokens {
	return appTokens{current: map[Family]*token{}, issued: map[Family]int{}}
}

// issue creates a token and makes it the current one of its family.
func (st *state) issue(a *appState, family Family, at time.Time) *token {
	t := &token{app: a.id, family: family, value: newTokenValue(), expires: at.Add(tokenLife)}
	tokens := &a.tokens
	tokens.current[family] = t
	tokens.issued[family]++
	if len(tokens.all) == keptTokens {
		delete(st.tokens, tokens.all[0].value)
		tokens.all = tokens.all[1:]
	}
	tokens.all = append(tokens.all, t)
	st.tokens[t.value] = t
	return t
}

// newTokenValue returns a value with the length and characters of WeChat's tokens today.
func newTokenValue() string {
	random := make([]byte, 99)
	_, _ = rand.Read(random) // never fails
	return "99_" + base64.RawURLEncoding.EncodeToString(random)
}

// classicToken issues a new token, as each call of /cgi-bin/token does; the previous one stays valid for five minutes.
func (st *state) classicToken(a *appState, at time.Time) *token {
	if last := a.tokens.current[Classic]; last != nil {
		last.replaced, last.graceEnds = true, at.Add(tokenOverlap)
	}
	return st.issue(a, Classic, at)
}

// stableToken returns the current token while it has more than five minutes left. After that it issues a new one, and both are
// valid for five minutes. A forced refresh revokes the current one at once, at most 20 times a day; within 30 seconds of
// another it is ignored.
func (st *state) stableToken(a *appState, force bool, at time.Time) (*token, *refusal) {
	tokens := &a.tokens
	current := tokens.current[Stable]
	if current == nil || current.check(at) != nil {
		return st.issue(a, Stable, at), nil
	}
	if force && at.Sub(tokens.forcedAt) >= forcePause {
		if shanghaiDay(tokens.forcedAt) != shanghaiDay(at) {
			tokens.forcedToday = 0
		}
		if tokens.forcedToday >= forcePerDay {
			return nil, refuse(45009)
		}
		tokens.forcedToday++
		tokens.forcedAt = at
		current.revoked = true
		return st.issue(a, Stable, at), nil
	}
	if current.expires.Sub(at) <= tokenOverlap {
		current.expires = at.Add(tokenOverlap)
		return st.issue(a, Stable, at), nil
	}
	return current, nil
}

// Revoke revokes all tokens of an app, which then get 40001, and returns how many were valid. The next call of a token
// endpoint issues a new one.
func (s *Server) Revoke(app string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.apps[app]
	if a == nil {
		return 0
	}
	n, at := 0, s.opts.Clock()
	for _, t := range a.tokens.all {
		if t.check(at) == nil {
			n++
		}
		t.revoked = true
	}
	return n
}

// TokensIssued returns how many tokens of a family were issued to an app; a stable token that was returned twice counts once.
func (s *Server) TokensIssued(app string, family Family) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.state.apps[app]; a != nil {
		return a.tokens.issued[family]
	}
	return 0
}

// Tokens returns the latest tokens of an app, oldest first, at most 100.
func (s *Server) Tokens(app string) []IssuedToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.state.apps[app]
	if a == nil {
		return nil
	}
	list := make([]IssuedToken, 0, len(a.tokens.all))
	for _, t := range a.tokens.all {
		list = append(list, IssuedToken{Family: t.family, Value: t.value, ExpiresAt: t.expires, Revoked: t.revoked})
	}
	return list
}

// SetSecret sets the secret of an app, as a reset in WeChat's console does: the token endpoints answer 40125 to any other. Its
// tokens stay valid; see [Server.Revoke].
func (s *Server) SetSecret(app, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.secrets[app] = secret
}

// secretOf returns the secret of an app; open means that any secret will do. The caller holds s.mu.
func (s *Server) secretOf(app string) (secret string, open bool) {
	if secret, set := s.state.secrets[app]; set {
		return secret, false
	}
	return s.opts.Apps[app], s.opts.Apps == nil
}

// BlockIP removes the caller's IP from the whitelist of an app ("": of every app): the token endpoints answer 40164.
func (s *Server) BlockIP(app string, blocked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.blocked[app] = blocked
}
