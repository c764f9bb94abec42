package wechat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// failureBackoffs holds how long no token is requested after the 1st, 2nd … consecutive
// failure. A call that needs a token meanwhile does not wait: it fails at once with the
// stored error.
var failureBackoffs = []time.Duration{ // running total
	firstBackoff,     //  2 s
	4 * time.Second,  //  6 s
	8 * time.Second,  // 14 s
	15 * time.Second, // 29 s
	30 * time.Second, // 59 s, then every 30 s
}

const firstBackoff = 2 * time.Second

func failureBackoff(tries int64) time.Duration {
	return failureBackoffs[min(max(tries, 1), int64(len(failureBackoffs)))-1]
}

// lockPollIntervals holds the waits between checks whether the replica that holds the lock has
// finished; the last one repeats.
var lockPollIntervals = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond}

// loadOrRefresh returns a token for key: from Redis, or refreshed while holding the Redis lock.
func (t *Tokens) loadOrRefresh(ctx context.Context, key refreshKey) (sharedToken, error) {
	owner := rand.Text()
	for poll := 0; ; poll++ {
		shared, failed, err := t.store.load(ctx, key.app)
		if err != nil {
			return sharedToken{}, err
		}
		now := t.now()
		usable := shared.validAt(now) && shared.Value != key.rejected
		cred, known := t.credentials(key.app)
		if usable && now.Before(shared.dueAt(t.jitter)) && !t.outdated(shared, cred, known) {
			return shared, nil
		}
		if failed.inForce(now, key.rejected, cred) {
			if usable {
				return shared, nil
			}
			return sharedToken{}, failed.err()
		}
		if !known && usable {
			return shared, nil
		} else if !known {
			return sharedToken{}, ErrNoCredentials
		}
		locked, err := t.store.lock(ctx, key.app, owner, t.lockTTL)
		switch {
		case err != nil:
			return sharedToken{}, err
		case locked:
			done, found, err := t.refreshLocked(ctx, key, cred, owner)
			if done || err != nil {
				return found, err
			}
		case usable: // another replica is refreshing it before it expires
			return shared, nil
		default:
			if err := sleep(ctx, lockPollIntervals[min(poll, len(lockPollIntervals)-1)]); err != nil {
				return sharedToken{}, err
			}
		}
	}
}

// refreshLocked refreshes the token while holding the Redis lock, and releases the lock. done
// is false if another replica was faster or the lock expired meanwhile; the caller must then
// read Redis again.
func (t *Tokens) refreshLocked(ctx context.Context, key refreshKey, cred Credential, owner string) (done bool, found sharedToken, err error) {
	stored, failed, err := t.store.load(ctx, key.app)
	if err != nil {
		return true, sharedToken{}, err
	}
	started := t.now()
	usable := stored.validAt(started) && stored.Value != key.rejected
	if usable && started.Before(stored.dueAt(t.jitter)) && !t.outdated(stored, cred, true) || failed.inForce(started, key.rejected, cred) {
		return false, sharedToken{}, t.store.unlock(ctx, key.app, owner)
	}
	fetched, err := t.fetch(ctx, cred, key.rejected, owner)
	if errors.Is(err, errLockLost) {
		return false, sharedToken{}, nil
	}
	fetched.fetchedAt = started
	fetched.ExpiresAt = started.Add(fetched.life) // from the start of the request; WeChat's own count starts later
	if err == nil && key.rejected != "" && fetched.Value == key.rejected {
		err = ErrTokenRejected
	}
	if err != nil {
		return t.refreshFailed(ctx, refreshFailure{key: key, owner: owner, stored: stored, usable: usable, previous: failed, cred: cred, err: err})
	}
	saved, err := t.store.save(ctx, key.app, owner, fetched)
	if err != nil {
		// The token is valid although it was not stored; the lock expires by itself.
		t.reporter.succeeded(ctx, key.app)
		return true, fetched, nil //nolint:nilerr // the fetched token may be the only valid one
	}
	if !saved {
		return false, sharedToken{}, nil
	}
	t.reporter.succeeded(ctx, key.app)
	return true, fetched, nil
}

// refreshFailure holds the circumstances of a failed refresh.
type refreshFailure struct {
	key      refreshKey
	owner    string
	stored   sharedToken // the token in Redis
	usable   bool        // stored can still be used
	previous failure     // the failure in Redis
	cred     Credential  // of the request
	err      error
}

// refreshFailed stores the failure for all replicas. It returns the stored token if that is
// still valid.
func (t *Tokens) refreshFailed(ctx context.Context, f refreshFailure) (done bool, found sharedToken, err error) {
	if ctx.Err() != nil && !errors.Is(f.err, ErrTokenRejected) {
		// Canceled by this process: not a failure of the token endpoint.
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return true, sharedToken{}, errors.Join(f.err, t.store.unlock(unlock, f.key.app, f.owner))
	}
	tries := f.previous.tries + 1
	remembered := newFailure(f.err, f.key.rejected)
	remembered.tries, remembered.asked = tries, f.cred.fingerprint()
	remembered.until = t.now().Add(failureBackoff(tries))
	var refused *APIError
	if errors.Is(f.err, ErrNoTicket) && !errors.As(f.err, &refused) {
		remembered.until = t.now().Add(firstBackoff) // only Redis was asked
	}
	t.reporter.failed(ctx, f.key.app, f.err, f.usable)
	if err := t.store.fail(ctx, f.key.app, f.owner, remembered); err != nil {
		f.err = errors.Join(f.err, err)
	}
	if f.usable {
		return true, f.stored, nil
	}
	return true, sharedToken{}, f.err
}

// sleep waits for d, or returns the context's error if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tokenHash returns the SHA-256 of a token in hex, for places where the token must not appear.
func tokenHash(s Secret) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s.Reveal()))
	return hex.EncodeToString(sum[:])
}

// fingerprint tells credentials apart, for Redis. It is too short to find a secret by trying.
func (c Credential) fingerprint() string {
	facts := c.mode() + "\n" + c.Secret.Reveal() + "\n" + c.URL
	if c.Provider != "" {
		facts += "\n" + c.Provider + "\n" + c.RefreshToken.Reveal()
	}
	return tokenHash(Secret(facts))[:8]
}
