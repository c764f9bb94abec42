package apikey

import (
	"context"
	"time"
)

// WhileValid returns a context that ends when a key is no longer what it is now: it was revoked or
// changed, or has expired. end must be called.
func (s *Set) WhileValid(ctx context.Context, key *Key) (valid context.Context, end func()) {
	if s.Open() {
		return ctx, func() {}
	}
	valid, cancel := context.WithCancel(ctx)
	check := func() {
		if now, ok := s.Get(key.ID); !ok || now.Fingerprint != key.Fingerprint {
			cancel()
		}
	}
	stop := s.OnChange(check)
	check() // the key may have changed since it was authenticated
	var expiry *time.Timer
	if !key.Expires.IsZero() {
		expiry = time.AfterFunc(time.Until(key.Expires), cancel)
	}
	return valid, func() {
		stop()
		cancel()
		if expiry != nil {
			expiry.Stop()
		}
	}
}
