package wechat

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestTokenAges reads the ages of tokens, requests none, and takes one round trip.
func TestTokenAges(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		server := newTokenServer(t)
		cfg := DefaultConfig()
		cfg.BaseURL = server.URL
		tokens := NewTokens(cfg, rdb, func(string) (Credential, bool) { return Credential{Secret: testSecret, Mode: ModeClassic}, true })
		t.Cleanup(tokens.Close)
		before := time.Now().Add(-time.Second)
		if _, err := tokens.Token(t.Context(), "wx0123456789abcdef"); err != nil {
			t.Fatal(err)
		}
		count := redistest.Count(rdb)
		var ages []TokenAge
		_, trips := count.During(func() {
			var err error
			if ages, err = tokens.Ages(t.Context(), []string{"wxfedcba9876543210", "wx0123456789abcdef"}); err != nil {
				t.Fatal(err)
			}
		})
		if trips != 1 || len(ages) != 2 || ages[0] != (TokenAge{}) {
			t.Fatalf("%d trips, %v", trips, ages)
		}
		if got := ages[1]; got.FetchedAt.Before(before) || got.FetchedAt.After(time.Now()) || got.ExpiresAt.Sub(got.FetchedAt) != 7200*time.Second {
			t.Errorf("%v", got)
		}
		server.mu.Lock()
		defer server.mu.Unlock()
		if server.fetches != 1 {
			t.Errorf("%d tokens were requested", server.fetches)
		}
	})
}
