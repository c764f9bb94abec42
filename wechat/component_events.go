package wechat

import (
	"context"
	"log/slog"
	"time"
)

// StoreTicket stores a component_verify_ticket that WeChat pushed to a service provider at a time, for
// all replicas, unless a later one is there. first reports whether the provider had none.
func (t *Tokens) StoreTicket(ctx context.Context, provider string, ticket Secret, created time.Time) (first bool, err error) {
	left := ticketLife - t.now().Sub(created)
	if left <= 0 {
		return false, nil
	}
	return t.store.storeTicket(ctx, provider, ticket, created, min(left, ticketLife))
}

// TicketTime returns when the last ticket of a service provider was made; zero: there is no valid one.
func (t *Tokens) TicketTime(ctx context.Context, provider string) (time.Time, error) {
	_, created, err := t.store.ticket(ctx, provider)
	return created, err
}

// Authorize takes over the authorization that an account gave a service provider at a time: it
// exchanges the code, and stores the refresh token and the token for all replicas. The same event may
// come again, also to another process: a code is exchanged once, and an event older than the last one
// of the account changes nothing. done reports whether the account is authorized now by this event.
//
// The error is one of Redis, or of the exchange, as of [Tokens.Token]. A code that was used or has
// expired is no error where WeChat tells the refresh token all the same.
func (t *Tokens) Authorize(ctx context.Context, provider, app string, code Secret, at time.Time) (done bool, err error) {
	cred := Credential{App: app, Mode: ModeComponent, Provider: provider}
	if configured, known := t.credentials(app); known && configured.mode() == ModeComponent && configured.Provider == provider {
		cred = configured // for its fingerprint
	}
	owner, err := t.awaitLock(ctx, app)
	if err != nil {
		return false, err
	}
	defer t.releaseLock(ctx, app, owner)
	stored, err := t.store.authorization(ctx, app)
	switch {
	case err != nil:
		return false, err
	case stored.event.After(at):
		return false, nil
	case stored.provider == provider && stored.code == tokenHash(code) && stored.refresh != "":
		return true, nil // the event came again
	}
	started := t.now()
	answer, err := withProvider(ctx, t, cred, owner, func(provider Secret) (authorizerToken, error) {
		return t.fetcher.queryAuth(ctx, cred, provider, code)
	})
	if hasCode(err, codeCodeInvalid, codeCodeExpired) {
		answer = authorizerToken{}
		answer.refresh, err = t.askRefreshToken(ctx, cred, owner, "", err)
	}
	if err != nil {
		return false, &TokenError{App: app, Err: err}
	}
	answer.token.fetchedAt, answer.token.ExpiresAt = started, started.Add(answer.token.life)
	next := authorization{provider: provider, refresh: answer.refresh, event: at, code: tokenHash(code)}
	if err := t.store.authorize(ctx, owner, app, next, answer.token); err != nil {
		return false, err
	}
	t.forget(app)
	t.reporter.logger().InfoContext(ctx, "the account has authorized the service provider", slog.String("app", app), slog.String("provider", provider))
	return true, nil
}

// Deauthorize forgets the authorization that an account took back from a service provider at a time.
// done is false, and nothing changes, where a later event was handled, or the account has authorized
// another provider. Calls of the app fail with ErrUnauthorized, or as WeChat answers.
func (t *Tokens) Deauthorize(ctx context.Context, provider, app string, at time.Time) (done bool, err error) {
	done, err = t.store.deauthorize(ctx, provider, app, at)
	if done {
		t.forget(app)
	}
	return done, err
}

// forget makes this process read the app's token from Redis again.
func (t *Tokens) forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cache, app)
	delete(t.unstored, app)
}
