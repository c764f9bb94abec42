package wechat

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestCredentialsChanged: after a change of the mode one of three replicas requests one token, while
// their calls go on with the old one, and the others find it.
func TestCredentialsChanged(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 3)
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.wantFetches(t, 1)
		r.mu.Lock()
		r.cred.Mode = ModeClassic
		r.mu.Unlock()
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.wantFetches(t, 1) // not told yet
		for _, tokens := range r.tokens {
			tokens.CredentialsChanged(testApp)
			r.mustToken(t, tokens)
			r.waitIdle(t)
			r.mustToken(t, tokens)
			r.waitIdle(t)
		}
		r.wantFetches(t, 2)
		if mode := rdb.HGet(t.Context(), tokenKey(testApp), "mode").Val(); mode != ModeClassic {
			t.Errorf("the token in Redis has the mode %q", mode)
		}
		shared := r.mustToken(t, r.tokens[0])
		for _, tokens := range r.tokens {
			if r.mustToken(t, tokens).Value != shared.Value {
				t.Error("the replicas have different tokens")
			}
		}
		wantNoSecrets(t, r.log.String())
	})
}

// TestWrongNewCredentials: the token in use stays, and the failure is reported at once.
func TestWrongNewCredentials(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 1)
		before := r.mustToken(t, r.tokens[0])
		r.mu.Lock()
		r.cred.Secret = "another"
		r.mu.Unlock()
		r.tokens[0].CredentialsChanged(testApp)
		r.mustToken(t, r.tokens[0])
		r.waitIdle(t)
		if r.result("config") != 1 || r.mustToken(t, r.tokens[0]).Value != before.Value {
			t.Errorf("results %v", r.results)
		}
		r.mu.Lock()
		r.cred.Secret = testSecret
		r.mu.Unlock()
		r.tokens[0].CredentialsChanged(testApp) // corrected; the token in Redis was requested with these
		r.mustToken(t, r.tokens[0])
		r.waitIdle(t)
		if r.result("config") != 1 || r.result("ok") != 1 {
			t.Errorf("after the correction: results %v", r.results)
		}
	})
}
