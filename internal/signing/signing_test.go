package signing

import (
	"bytes"
	"encoding/base64"
	"errors"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

const testName = "wxcourier:test:secret"

// TestSecret: what one process signed another one opens, and nothing else.
func TestSecret(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		texts := make([]string, 8)
		var all sync.WaitGroup
		for i := range texts { // the first ones store the secret at the same time
			all.Go(func() {
				var err error
				if texts[i], err = New(rdb, testName).Sign(t.Context(), []byte("content")); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		s := New(rdb, testName)
		for _, text := range texts {
			if content, err := s.Open(t.Context(), text); err != nil || !bytes.Equal(content, []byte("content")) || text != texts[0] {
				t.Errorf("%q, error %v", content, err)
			}
		}
		raw, err := base64.RawURLEncoding.DecodeString(texts[0])
		if err != nil {
			t.Fatal(err)
		}
		for i := range raw {
			raw[i] ^= 1
			if _, err := s.Open(t.Context(), base64.RawURLEncoding.EncodeToString(raw)); !errors.Is(err, ErrSignature) {
				t.Errorf("byte %d changed: error %v", i, err)
			}
			raw[i] ^= 1
		}
		for _, text := range []string{"", "x", "é", texts[0] + "=", texts[0][1:]} {
			if _, err := s.Open(t.Context(), text); !errors.Is(err, ErrSignature) {
				t.Errorf("%q: error %v", text, err)
			}
		}
		if _, err := New(rdb, testName+"2").Open(t.Context(), texts[0]); !errors.Is(err, ErrSignature) {
			t.Errorf("with another secret: error %v", err)
		}
	})
}

// TestAnotherSecret: a secret that took the place of the first one is found, and one that is no secret
// is refused.
func TestAnotherSecret(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := New(rdb, testName)
	if _, err := s.Sign(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	rdb.Del(t.Context(), testName)
	text, err := New(rdb, testName).Sign(t.Context(), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	s.readAt = s.readAt.Add(-readPause)
	if content, err := s.Open(t.Context(), text); err != nil || string(content) != "b" {
		t.Errorf("%q, error %v", content, err)
	}
	rdb.Set(t.Context(), testName, "short", 0)
	if _, err := New(rdb, testName).Sign(t.Context(), nil); err == nil {
		t.Error("a short secret is used")
	}
}

// TestSecretWithoutRedis: the secret that was read last goes on, and there is none before.
func TestSecretWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	s := New(rdb, testName)
	text, err := s.Sign(t.Context(), []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	s.readAt = s.readAt.Add(-readPause)
	if _, err := s.Sign(t.Context(), []byte("b")); err != nil {
		t.Errorf("sign: %v", err)
	}
	if _, err := s.Open(t.Context(), text); err != nil {
		t.Errorf("open: %v", err)
	}
	if _, err := New(rdb, testName).Open(t.Context(), text); err == nil || errors.Is(err, ErrSignature) {
		t.Errorf("without a secret: error %v", err)
	}
}
