package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"time"
)

// Family tells the two kinds of tokens apart; neither replaces the other.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-access-token/
type Family string

// The families: /cgi-bin/token and /cgi-bin/stable_token.
const (
	Classic Family = "classic"
	Stable  Family = "stable"
)

const (
	tokenLife    = 7200 * time.Second
	tokenOverlap = 5 * time.Minute // how long an old and a new token are both good
	forcePause   = 30 * time.Second
	forcePerDay  = 20
	keptTokens   = 100 // per app; one that is older is unknown, which WeChat answers by 40001 too
)

// token is one that was issued. Zero times mean "not so".
type token struct {
	app       string
	family    Family
	value     string
	expires   time.Time
	graceEnds time.Time // a newer one has taken its place, and it is good until then
	replaced  bool
	revoked   bool
}

// IssuedToken describes a token that the sandbox gave out, so that a test can look for it where it must not be.
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
	// Forced refreshes: when the last one took place, and how many on that day.
	forcedAt    time.Time
	forcedToday int
}

func newAppTokens() appTokens {
	return appTokens{current: map[Family]*token{}, issued: map[Family]int{}}
}

// issue makes a token the current one of its family.
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

// newTokenValue is as long as WeChat's are today, and of the same characters.
func newTokenValue() string {
	random := make([]byte, 99)
	_, _ = rand.Read(random) // never fails
	return "99_" + base64.RawURLEncoding.EncodeToString(random)
}

// classicToken is what each call of /cgi-bin/token does: a new token, and the last one has five minutes more.
func (st *state) classicToken(a *appState, at time.Time) *token {
	if last := a.tokens.current[Classic]; last != nil {
		last.replaced, last.graceEnds = true, at.Add(tokenOverlap)
	}
	return st.issue(a, Classic, at)
}

// stableToken is the current token while it has five minutes left. Near its end a new one takes over, and both are good for
// five minutes. A forced refresh kills the current one at once, at most 20 times a day and not within 30 seconds of another.
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

// Revoke makes every token of an app that was issued so far answer 40001, and returns how many were good until then. The
// next call of a token endpoint makes a new one.
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

// TokensIssued says how many tokens of a family an app was given; a stable token that was answered twice counts once.
func (s *Server) TokensIssued(app string, family Family) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.state.apps[app]; a != nil {
		return a.tokens.issued[family]
	}
	return 0
}

// Tokens lists the latest tokens of an app, oldest first, at most 100.
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

// BlockIP takes callers of an app ("": of every app) off its IP list: the token endpoints answer 40164.
func (s *Server) BlockIP(app string, blocked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.blocked[app] = blocked
}
