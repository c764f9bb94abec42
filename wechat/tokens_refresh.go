package wechat

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"
)

// failureBackoffs is how long nobody asks for a token after the 1st, 2nd … failure in a
// row. A refresh under a running call waits for nothing: the call fails at once with
// the remembered error.
var failureBackoffs = []time.Duration{ // running total
	firstBackoff,     //  2 s
	4 * time.Second,  //  6 s
	8 * time.Second,  // 14 s
	15 * time.Second, // 29 s
	30 * time.Second, // 59 s, and so on by the half minute
}

const firstBackoff = 2 * time.Second

func failureBackoff(tries int64) time.Duration {
	return failureBackoffs[min(max(tries, 1), int64(len(failureBackoffs)))-1]
}

// lockPollIntervals is how long to wait before looking again whether the replica that holds
// the lock has finished.
var lockPollIntervals = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond}

// loadOrRefresh finds a token for the key, in Redis or by refreshing it under the lock.
func (t *Tokens) loadOrRefresh(ctx context.Context, key refreshKey) (sharedToken, error) {
	owner := rand.Text()
	for poll := 0; ; poll++ {
		shared, failed, err := t.store.load(ctx, key.app)
		if err != nil {
			return sharedToken{}, err
		}
		now := t.now()
		usable := shared.validAt(now) && shared.Value != key.rejected
		if usable && now.Before(shared.dueAt(t.jitter)) {
			return shared, nil
		}
		if failed.inForce(now, key.rejected) {
			if usable {
				return shared, nil
			}
			return sharedToken{}, failed.err()
		}
		cred, known := t.credentials(key.app)
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
		case usable: // another replica is refreshing it ahead of time
			return shared, nil
		default:
			if err := sleep(ctx, lockPollIntervals[min(poll, len(lockPollIntervals)-1)]); err != nil {
				return sharedToken{}, err
			}
		}
	}
}

// refreshLocked refreshes the token with the lock in hand, and gives the lock back. It
// is not done when another replica was faster, or when the lock was lost meanwhile:
// what is in Redis then has to be looked at again.
func (t *Tokens) refreshLocked(ctx context.Context, key refreshKey, cred Credential, owner string) (done bool, found sharedToken, err error) {
	stored, failed, err := t.store.load(ctx, key.app)
	if err != nil {
		return true, sharedToken{}, err
	}
	started := t.now()
	usable := stored.validAt(started) && stored.Value != key.rejected
	if usable && started.Before(stored.dueAt(t.jitter)) || failed.inForce(started, key.rejected) {
		return false, sharedToken{}, t.store.unlock(ctx, key.app, owner)
	}
	fetched, err := t.fetcher.fetch(ctx, cred, key.rejected)
	fetched.fetchedAt = started
	fetched.ExpiresAt = started.Add(fetched.life) // by the start: WeChat counted from later on
	if err == nil && key.rejected != "" && fetched.Value == key.rejected {
		err = ErrTokenRejected
	}
	if err != nil {
		return t.refreshFailed(ctx, refreshFailure{key: key, owner: owner, stored: stored, usable: usable, previous: failed, err: err})
	}
	saved, err := t.store.save(ctx, key.app, owner, fetched)
	if err != nil {
		// The token is good all the same; the lock ends by itself.
		t.reporter.succeeded(ctx, key.app)
		return true, fetched, nil //nolint:nilerr // losing a token because Redis is away would lose the only good one
	}
	if !saved {
		return false, sharedToken{}, nil
	}
	t.reporter.succeeded(ctx, key.app)
	return true, fetched, nil
}

// refreshFailure is what there is to know when a refresh has failed.
type refreshFailure struct {
	key      refreshKey
	owner    string
	stored   sharedToken // what was in Redis
	usable   bool        // before can still be used
	previous failure     // the previous failure
	err      error
}

// refreshFailed remembers the failure for all replicas, and keeps a token that is
// still good in use.
func (t *Tokens) refreshFailed(ctx context.Context, f refreshFailure) (done bool, found sharedToken, err error) {
	if ctx.Err() != nil && !errors.Is(f.err, ErrTokenRejected) {
		// Cut short from our side: that says nothing about the token endpoint.
		unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return true, sharedToken{}, errors.Join(f.err, t.store.unlock(unlock, f.key.app, f.owner))
	}
	tries := f.previous.tries + 1
	remembered := newFailure(f.err, f.key.rejected)
	remembered.tries = tries
	remembered.until = t.now().Add(failureBackoff(tries))
	t.reporter.failed(ctx, f.key.app, f.err, f.usable)
	if err := t.store.fail(ctx, f.key.app, f.owner, remembered); err != nil {
		f.err = errors.Join(f.err, err)
	}
	if f.usable {
		return true, f.stored, nil
	}
	return true, sharedToken{}, f.err
}

// sleep waits, or returns early with the context's error.
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

// tokenHash stands for a token where the token itself must not be: its SHA-256 in hex.
func tokenHash(s Secret) string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s.Reveal()))
	return hex.EncodeToString(sum[:])
}
