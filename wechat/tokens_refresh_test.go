package wechat

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestOneRefreshForAll(t *testing.T) {
	for _, mode := range []string{"", ModeStable, ModeClassic, ModeExternal} {
		t.Run("mode "+mode, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, mode, 6)
				r.each(20, func(tokens *Tokens) {
					if _, err := tokens.Token(t.Context(), testApp); err != nil {
						t.Error(err)
					}
				})
				r.wantFetches(t, 1)

				for round := range 3 {
					r.server.revoke()
					r.each(20, func(tokens *Tokens) {
						client := NewClient(Config{BaseURL: r.server.URL, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, tokens)
						defer client.CloseIdle()
						if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
							t.Error(err)
						}
					})
					r.wantFetches(t, round+2)
				}
				if r.result("ok") != 4 {
					t.Errorf("results %v", r.results)
				}
				wantNoSecrets(t, r.log.String())
			})
		})
	}
}

func TestRefreshAheadOfExpiry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeClassic, 4)
		first := r.mustToken(t, r.tokens[0])
		if want := r.clock.Now().Add(2 * time.Hour); !first.ExpiresAt.Equal(want) {
			t.Errorf("expires at %v, want %v", first.ExpiresAt, want)
		}
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.clock.Add(2*time.Hour - refreshAhead - time.Second) // not due yet on any replica
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.wantFetches(t, 1)

		r.clock.Add(2 * time.Minute) // due on every replica
		r.each(20, func(tokens *Tokens) {
			if token, err := tokens.Token(t.Context(), testApp); err != nil || token.Value == "" {
				t.Error(err)
			}
		})
		r.waitIdle(t)
		r.clock.Add(firstBackoff) // when they read Redis again
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.waitIdle(t)
		for i, tokens := range r.tokens {
			if r.mustToken(t, tokens).Value == first.Value {
				t.Errorf("replica %d still has the old token", i)
			}
		}
		r.wantFetches(t, 2)
	})
}

// In its last five minutes WeChat may still return the same stable token, with a shorter
// lifetime each time. It is requested again, but rarely.
func TestSameStableTokenIsRefetchedRarely(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 2)
		r.server.set(func() { r.server.life = 310 })
		r.mustToken(t, r.tokens[0])
		for range 60 { // five minutes in steps of 5 s
			r.clock.Add(5 * time.Second)
			r.each(5, func(tokens *Tokens) {
				if _, err := tokens.Token(t.Context(), testApp); err != nil {
					t.Error(err)
				}
			})
			r.waitIdle(t)
		}
		if n := r.server.fetched(); n < 2 || n > 3 {
			t.Errorf("%d token requests within 5 minutes, want 2 or 3", n)
		}
	})
}

func TestExternalTokens(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeExternal, 1)
	r.cred.Secret = ""
	token := r.mustToken(t, r.tokens[0])
	r.server.revoke()
	if _, err := r.tokens[0].Renew(t.Context(), testApp, token); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"app=" + testApp + "&key=" + testText, "app=" + testApp + "&key=" + testText + "&rejected=" + tokenHash(token.Value)} {
		if r.server.queries[i] != want {
			t.Errorf("the request has the query %s, want %s", r.server.queries[i], want)
		}
	}
	r.cred.URL = "nothing"
	r.server.Close()
	r.clock.Add(3 * time.Hour)
	_, err := r.tokens[0].Token(t.Context(), testApp)
	if err == nil || Written(err) {
		t.Errorf("got %v", err)
	}
	r.clock.Add(time.Hour)
	r.cred.URL = r.server.URL + "/external?key=" + testText
	_, err = r.tokens[0].Token(t.Context(), testApp)
	if err == nil || Written(err) {
		t.Errorf("got %v", err)
	}
	wantNoSecrets(t, err.Error()+r.log.String())
}

func TestLockOfADeadReplica(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		rdb := redistest.Start(t).Client(t)
		r := newReplicas(t, rdb, ModeStable, 2)
		if err := rdb.Set(t.Context(), lockKey(testApp), "the dead", 200*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		r.each(5, func(tokens *Tokens) {
			if _, err := tokens.Token(t.Context(), testApp); err != nil {
				t.Error(err)
			}
		})
		r.wantFetches(t, 1)
	})
	t.Run("miniredis", func(t *testing.T) {
		m, rdb := redistest.Mini(t)
		r := newReplicas(t, rdb, ModeStable, 1)
		locked, err := tokenStore{rdb}.lock(t.Context(), testApp, "the dead", r.tokens[0].lockTTL)
		if err != nil || !locked {
			t.Fatal(locked, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := r.tokens[0].Token(ctx, testApp)
			gaveUp <- err
		}()
		cancel() // canceling one caller does not cancel the refresh
		if err := <-gaveUp; !errors.Is(err, context.Canceled) || Written(err) {
			t.Errorf("got %v", err)
		}
		r.wantFetches(t, 0)
		m.FastForward(r.tokens[0].lockTTL + time.Second)
		r.mustToken(t, r.tokens[0])
		r.wantFetches(t, 1)
	})
}

// A refresh that took longer than the lock's TTL must not overwrite the newer token that
// another replica stored meanwhile.
func TestLateRefreshDoesNotOverwrite(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeClassic, 1)
		var once sync.Once
		r.server.set(func() {
			r.server.before = func() {
				once.Do(func() { // another replica takes the lock and finishes first
					store := tokenStore{rdb}
					if err := rdb.Set(t.Context(), lockKey(testApp), "another", 0).Err(); err != nil {
						t.Error(err)
					}
					newer := sharedToken{Token: Token{Value: "newer", ExpiresAt: r.clock.Now().Add(time.Hour)}, fetchedAt: r.clock.Now(), life: time.Hour}
					if saved, err := store.save(t.Context(), testApp, "another", newer); err != nil || !saved {
						t.Error(saved, err)
					}
				})
			}
		})
		if got := r.mustToken(t, r.tokens[0]); got.Value != "newer" {
			t.Errorf("got %s", got.Value.Reveal())
		}
	})
}

func TestRedisUnavailable(t *testing.T) {
	m, _ := redistest.Mini(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, DialerRetries: 1}) // fail fast
	t.Cleanup(func() { _ = rdb.Close() })
	r := newReplicas(t, rdb, ModeStable, 2)
	first := r.mustToken(t, r.tokens[0])
	m.Close()
	r.clock.Add(time.Hour) // due to read Redis again
	for range 3 {
		if got := r.mustToken(t, r.tokens[0]); got.Value != first.Value {
			t.Error("not the cached token")
		}
		r.waitIdle(t)
		r.clock.Add(2 * recheckInterval)
	}
	_, err := r.tokens[1].Token(t.Context(), testApp)
	var tokenErr *TokenError
	if !errors.As(err, &tokenErr) || Written(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.tokens[0].Renew(t.Context(), testApp, first); err == nil {
		t.Error("renewed without Redis")
	}
	r.wantFetches(t, 1)
}

func TestNoCredentials(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	if _, err := r.tokens[0].Token(t.Context(), "wxffffffffffffffff"); !errors.Is(err, ErrNoCredentials) || Advice(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestCloseCancelsRefreshes(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	reached := make(chan struct{})
	release := make(chan struct{})
	r.server.set(func() {
		r.server.before = func() {
			close(reached)
			<-release
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := r.tokens[0].Token(t.Context(), testApp)
		ended <- err
	}()
	<-reached
	r.tokens[0].Close()
	if err := <-ended; err == nil {
		t.Error("a token after Close")
	}
	close(release)
	if _, err := r.tokens[0].Token(t.Context(), testApp); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if n, err := rdb.Exists(t.Context(), lockKey(testApp), failKey(testApp)).Result(); err != nil || n != 0 {
		t.Errorf("%d keys left behind, %v", n, err)
	}
}
