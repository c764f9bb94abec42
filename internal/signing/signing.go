// Package signing signs texts with a secret that all processes on a Redis share, such as the
// tickets and the sessions of the gateways. Nothing of a signed text is stored.
package signing

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	secretBytes = 32
	// readPause is how often the secret is read again after texts that it did not sign: another
	// one may have taken its place in Redis.
	readPause    = time.Second
	redisTimeout = 3 * time.Second
)

// ErrSignature means that a text was not signed with the secret.
var ErrSignature = errors.New("signing: the signature is wrong")

// Secret is a secret in Redis, which the first process that needs it stores there. It is safe for
// concurrent use.
type Secret struct {
	rdb  redis.UniversalClient
	name string

	mu     sync.Mutex
	secret []byte    // guarded by mu; nil: not read yet
	readAt time.Time // guarded by mu; when the secret was last read, or could not be read
}

// New returns the secret under a key of Redis. It does no I/O.
func New(rdb redis.UniversalClient, name string) *Secret { return &Secret{rdb: rdb, name: name} }

// Sign returns a text with a content and its signature. An error is one of Redis.
func (s *Secret) Sign(ctx context.Context, content []byte) (string, error) {
	secret, err := s.recent(ctx)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(content[:len(content):len(content)], macOf(secret, content)...)), nil
}

// Open returns the content of a text that Sign returned. The error is ErrSignature, or one of Redis.
func (s *Secret) Open(ctx context.Context, text string) (content []byte, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= sha256.Size {
		return nil, ErrSignature
	}
	content, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	signed, err := s.signed(ctx, content, mac)
	if err != nil {
		return nil, err
	}
	if !signed {
		return nil, ErrSignature
	}
	return content, nil
}

// signed reports whether a signature is that of the secret. It reads the secret again where it is
// not, at most once per readPause.
func (s *Secret) signed(ctx context.Context, content, mac []byte) (bool, error) {
	s.mu.Lock()
	secret, readAt := s.secret, s.readAt
	s.mu.Unlock()
	if secret != nil && hmac.Equal(mac, macOf(secret, content)) {
		return true, nil
	}
	if secret != nil && time.Since(readAt) < readPause {
		return false, nil
	}
	secret, err := s.shared(ctx)
	if err != nil {
		return false, err
	}
	return hmac.Equal(mac, macOf(secret, content)), nil
}

// recent returns the secret, read within the last readPause.
func (s *Secret) recent(ctx context.Context) ([]byte, error) {
	s.mu.Lock()
	secret, readAt := s.secret, s.readAt
	s.mu.Unlock()
	if secret != nil && time.Since(readAt) < readPause {
		return secret, nil
	}
	return s.shared(ctx)
}

// shared reads the secret from Redis. While Redis does not answer, it is the one that was read last.
func (s *Secret) shared(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	fresh := make([]byte, secretBytes)
	_, _ = rand.Read(fresh) // never fails
	err := s.rdb.SetNX(ctx, s.name, fresh, 0).Err()
	var secret []byte
	if err == nil {
		secret, err = s.rdb.Get(ctx, s.name).Bytes()
	}
	if err == nil && len(secret) != secretBytes {
		err = fmt.Errorf("%s has %d bytes, not %d", s.name, len(secret), secretBytes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readAt = time.Now()
	if err == nil {
		s.secret = secret
	}
	if s.secret == nil {
		return nil, fmt.Errorf("signing: read the secret: %w", err)
	}
	return s.secret, nil
}

func macOf(secret, content []byte) []byte {
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write(content) // never fails
	return h.Sum(nil)
}
