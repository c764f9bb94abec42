package wechat

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// Ask requests a token with the app's credentials, whatever this process or Redis has: it shows
// whether the credentials work now. Its error is a *TokenError.
//
// The token is not used, and replicas keep theirs: a stable token is the one that they have, and
// an external one is for the token service to know. A classic token, and one of an authorization
// or of a service provider, replaces the one in use, so it is stored for all replicas, which find it long before the old one ends. An answer also ends
// the backoff after a failure, except after a token that was refused and then issued again.
func (t *Tokens) Ask(ctx context.Context, app string) error {
	if err := t.ask(ctx, app); err != nil {
		return &TokenError{App: app, Err: err}
	}
	return nil
}

func (t *Tokens) ask(ctx context.Context, app string) error {
	cred, known := t.credentials(app)
	switch {
	case !known:
		return ErrNoCredentials
	case cred.mode() == ModeClassic, cred.mode() == ModeComponent, cred.mode() == ModeProvider:
		return t.askAndStore(ctx, app, cred)
	}
	if _, err := t.fetcher.fetch(ctx, cred, ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = t.store.forgetFailure(ctx, app) // without Redis the backoff ends by itself
	return nil
}

// EndBackoff makes the next caller ask for a token at once, although the last request failed.
// Call it when the cause of the failure has been removed.
func (t *Tokens) EndBackoff(ctx context.Context, app string) error {
	return t.store.forgetFailure(ctx, app)
}

// askAndStore requests a token while holding the app's refresh lock, and stores it.
func (t *Tokens) askAndStore(ctx context.Context, app string, cred Credential) error {
	owner, err := t.awaitLock(ctx, app)
	if err != nil {
		return err
	}
	started := t.now()
	fetched, err := t.fetch(ctx, cred, "", owner)
	if err != nil {
		t.releaseLock(ctx, app, owner)
		return err
	}
	fetched.fetchedAt, fetched.ExpiresAt = started, started.Add(fetched.life)
	_, err = t.store.save(ctx, app, owner, fetched)
	return err
}

// awaitLock waits for the app's refresh lock and returns its owner.
func (t *Tokens) awaitLock(ctx context.Context, app string) (owner string, err error) {
	owner = rand.Text()
	for poll := 0; ; poll++ {
		locked, err := t.store.lock(ctx, app, owner, t.lockTTL)
		if err != nil {
			return "", err
		}
		if locked {
			return owner, nil
		}
		if err := sleep(ctx, lockPollIntervals[min(poll, len(lockPollIntervals)-1)]); err != nil {
			return "", fmt.Errorf("waiting for another refresh: %w", err)
		}
	}
}

// releaseLock releases the lock, also where ctx has ended. A lock that cannot be released expires.
func (t *Tokens) releaseLock(ctx context.Context, app, owner string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = t.store.unlock(ctx, app, owner)
}
