package wechat

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestAskIgnoresWhatIsStored: neither a good token nor a failure in Redis decides, only the
// answer of this moment. The token in use stays.
func TestAskIgnoresWhatIsStored(t *testing.T) {
	for _, mode := range []string{ModeStable, ModeExternal} {
		t.Run(mode, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, mode, 2)
				asker, user := r.tokens[0], r.tokens[1]
				first := r.mustToken(t, user)
				r.server.set(func() { r.server.refuse = `{"errcode":40125,"errmsg":"invalid appsecret rid: 1-2-3"}` })
				var api *APIError
				if err := asker.Ask(t.Context(), testApp); !errors.As(err, &api) || api.Code != 40125 {
					t.Errorf("a refused secret and a good token in Redis: %v", err)
				}
				if _, err := user.Renew(t.Context(), testApp, first); !errors.As(err, &api) {
					t.Errorf("a failure was to be stored: %v", err)
				}
				fetches := r.server.fetched()
				if _, err := user.Token(t.Context(), testApp); err == nil || r.server.fetched() != fetches {
					t.Error("the failure is not in force")
				}
				r.server.set(func() { r.server.refuse = "" })
				if err := asker.Ask(t.Context(), testApp); err != nil {
					t.Errorf("after a correction, with a failure in Redis: %v", err)
				}
				r.server.revoke()
				if _, err := user.Token(t.Context(), testApp); err != nil {
					t.Errorf("the failure is in force after an answer: %v", err)
				}
			})
		})
	}
}

// TestAskLeavesTheToken: a stable token in use is the same before and after.
func TestAskLeavesTheToken(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 2)
	before := r.mustToken(t, r.tokens[0])
	stored := rdb.HGetAll(t.Context(), tokenKey(testApp)).Val()
	if err := r.tokens[1].Ask(t.Context(), testApp); err != nil {
		t.Fatal(err)
	}
	for name, value := range rdb.HGetAll(t.Context(), tokenKey(testApp)).Val() {
		if stored[name] != value {
			t.Errorf("%s has changed in Redis", name)
		}
	}
	if r.mustToken(t, r.tokens[0]).Value != before.Value || r.server.valid != before.Value.Reveal() {
		t.Error("the token has changed")
	}
}

// TestAskStoresAClassicToken: it replaces the token in use, so that replicas must find it.
func TestAskStoresAClassicToken(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeClassic, 2)
		before := r.mustToken(t, r.tokens[0])
		if err := r.tokens[1].Ask(t.Context(), testApp); err != nil {
			t.Fatal(err)
		}
		r.clock.Add(recheckInterval)
		r.mustToken(t, r.tokens[0])
		r.waitIdle(t)
		if now := r.mustToken(t, r.tokens[0]); now.Value == before.Value || now.Value.Reveal() != r.server.valid {
			t.Error("the replica keeps the token that was replaced")
		}
		r.wantFetches(t, 2)
		r.server.set(func() { r.server.refuse = `{"errcode":40125,"errmsg":"invalid appsecret"}` })
		var api *APIError
		if err := r.tokens[1].Ask(t.Context(), testApp); !errors.As(err, &api) {
			t.Errorf("a refused secret: %v", err)
		}
		if n := rdb.Exists(t.Context(), lockKey(testApp)).Val(); n != 0 {
			t.Error("the lock is held")
		}
	})
}

// fixedSource is a token source of another package.
type fixedSource struct{ err error }

func (s fixedSource) Token(context.Context, string) (Token, error) {
	return Token{Value: testToken}, s.err
}
func (s fixedSource) Renew(context.Context, string, Token) (Token, error) { return Token{}, s.err }

// TestCheckCredentials: Tokens are asked past their cache; another source for its token.
func TestCheckCredentials(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	r.mustToken(t, r.tokens[0])
	r.server.set(func() { r.server.refuse = `{"errcode":40125,"errmsg":"invalid appsecret"}` })
	failed := errors.New("no token")
	for _, tt := range []struct {
		source TokenSource
		ok     bool
	}{{r.tokens[0], false}, {fixedSource{}, true}, {fixedSource{failed}, false}} {
		err := NewClient(DefaultConfig(), tt.source).CheckCredentials(t.Context(), testApp)
		var token *TokenError
		if (err == nil) != tt.ok || err != nil && !errors.As(err, &token) {
			t.Errorf("%T: %v", tt.source, err)
		}
	}
}
