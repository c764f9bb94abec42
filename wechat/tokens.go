package wechat

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// A replica looks at Redis this often even while its own copy is good, so that it
	// learns of a renewal that another replica made.
	recheckInterval = time.Minute
	// Tokens are refreshed this long before they expire, or a tenth of their life when
	// that is less. WeChat itself renews a stable token in its last five minutes: asked
	// earlier it would give the same one again.
	refreshAhead = 4*time.Minute + 30*time.Second
	// How much of refreshAhead each replica gives away at random, so that one of them
	// comes first and the others find its result.
	refreshJitter = time.Minute
)

// Tokens is the TokenSource that all replicas share through Redis: the token of an app
// is in the hash wxcourier:{<app>}:token (value, expires_at_ms, fetched_at_ms, mode),
// and a copy of it in each process. One replica refreshes it, ahead of its expiry;
// however many replicas and calls meet a stale one, it is refreshed once.
//
// A refresh that fails leaves a token that is still valid in use. Failures are
// remembered in Redis for some seconds, more each time, during which nobody asks again.
// When Redis is away a valid copy is still used; without one there is no token, since
// asking WeChat from each process for itself would end the others' tokens or the quota.
type Tokens struct {
	credentials func(app string) (Credential, bool)
	store       tokenStore
	fetcher     tokenFetcher
	reporter    refreshReporter
	now         func() time.Time
	jitter      time.Duration
	lockTTL     time.Duration // outlives a refresh, so that it ends only the lock of a dead replica

	mu        sync.Mutex // guards what follows
	cache     map[string]cachedToken
	refreshes map[refreshKey]*refreshCall
	running   sync.WaitGroup
	closed    bool
}

var _ TokenSource = (*Tokens)(nil)

// cachedToken is this process' copy of an app's token.
type cachedToken struct {
	sharedToken
	recheckAt time.Time // when to look at Redis again
}

// TokensOption changes Tokens from their defaults.
type TokensOption func(*Tokens)

// WithLogger sets where refresh failures and recoveries are told; default [slog.Default].
func WithLogger(log *slog.Logger) TokensOption {
	return func(t *Tokens) { t.reporter.log = log }
}

// WithClock sets the clock by which tokens expire; default [time.Now].
func WithClock(now func() time.Time) TokensOption { return func(t *Tokens) { t.now = now } }

// WithOnRefresh sets a function that is told of every refresh, for metrics. The result
// is "ok", "kept" (it failed, the token in use is still valid), "config" (it failed for
// the app's own set-up) or "error".
func WithOnRefresh(hook func(app, result string)) TokensOption {
	return func(t *Tokens) { t.reporter.hook = hook }
}

// NewTokens makes the shared token source of a valid cfg. It does no I/O. Credentials
// are looked up at each refresh, so that they may change.
func NewTokens(cfg Config, rdb redis.UniversalClient, credentials func(app string) (Credential, bool), opts ...TokensOption) *Tokens {
	t := &Tokens{
		credentials: credentials,
		store:       tokenStore{rdb: rdb},
		fetcher:     newTokenFetcher(cfg),
		reporter:    refreshReporter{lastCauses: make(map[string]string)},
		now:         time.Now,
		jitter:      rand.N(refreshJitter), //nolint:gosec // spreads load, guards nothing
		lockTTL:     cfg.Timeout + 2*time.Second,
		cache:       make(map[string]cachedToken),
		refreshes:   make(map[refreshKey]*refreshCall),
	}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// Close ends the refreshes under way and waits for them. Afterwards there are no tokens.
func (t *Tokens) Close() {
	t.mu.Lock()
	t.closed = true
	for _, f := range t.refreshes {
		f.cancel()
	}
	t.mu.Unlock()
	t.running.Wait()
	t.fetcher.exchanger.closeIdle()
}

// Token returns the app's token: at once from this process' copy while that is valid,
// else from Redis, else a new one. Its error is a *TokenError.
func (t *Tokens) Token(ctx context.Context, app string) (Token, error) {
	current, now := t.cached(app), t.now()
	if !current.validAt(now) {
		return t.awaitRefresh(ctx, refreshKey{app: app})
	}
	if !now.Before(current.recheckAt) {
		// Somebody has to look whether it is time to refresh, but nobody to wait for it.
		if _, err := t.startRefresh(ctx, refreshKey{app: app}); err != nil {
			return Token{}, &TokenError{App: app, Err: err}
		}
	}
	return current.Token, nil
}

// fromCache returns the app's token where neither Redis nor WeChat has to be asked about it.
func (t *Tokens) fromCache(app string) (Token, bool) {
	current, now := t.cached(app), t.now()
	return current.Token, current.validAt(now) && now.Before(current.recheckAt)
}

func (t *Tokens) cached(app string) cachedToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache[app]
}

// Renew returns a token other than the rejected one: the shared one when that is
// another, else a new one. Its error is a *TokenError; it wraps ErrTokenRejected when
// refreshing gives the rejected token again.
func (t *Tokens) Renew(ctx context.Context, app string, rejected Token) (Token, error) {
	current := t.cached(app)
	if current.Value != rejected.Value && current.validAt(t.now()) {
		return current.Token, nil
	}
	return t.awaitRefresh(ctx, refreshKey{app: app, rejected: rejected.Value})
}

// refreshKey names what a flight is for: the app's token, other than the rejected one.
type refreshKey struct {
	app      string
	rejected Secret
}

// refreshCall is one look for a token, shared by all callers that want the same. Once done
// is closed, token and err stand.
type refreshCall struct {
	cancel context.CancelFunc
	done   chan struct{}
	token  Token
	err    error
}

// awaitRefresh joins the flight and waits for its end, or for the caller's.
func (t *Tokens) awaitRefresh(ctx context.Context, key refreshKey) (Token, error) {
	f, err := t.startRefresh(ctx, key)
	if err != nil {
		return Token{}, &TokenError{App: key.app, Err: err}
	}
	select {
	case <-f.done:
		if f.err != nil {
			return Token{}, &TokenError{App: key.app, Err: f.err}
		}
		return f.token, nil
	case <-ctx.Done():
		return Token{}, &TokenError{App: key.app, Err: fmt.Errorf("waiting for a token: %w", ctx.Err())}
	}
}

// startRefresh joins the flight of that key, or starts it. A flight does not end with the caller
// that started it, since others wait for it: it has a time limit of its own, and Close
// ends it.
func (t *Tokens) startRefresh(ctx context.Context, key refreshKey) (*refreshCall, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if f, ok := t.refreshes[key]; ok {
		return f, nil
	}
	// Long enough to wait for a dead replica's lock and then to refresh.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*t.lockTTL)
	f := &refreshCall{cancel: cancel, done: make(chan struct{})}
	t.refreshes[key] = f
	t.running.Go(func() {
		defer cancel()
		found, err := t.loadOrRefresh(ctx, key)
		t.finishRefresh(key, f, found, err)
	})
	return f, nil
}

// finishRefresh records what a flight found and releases those who wait.
func (t *Tokens) finishRefresh(key refreshKey, f *refreshCall, found sharedToken, err error) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.refreshes, key)
	current := t.cache[key.app]
	switch {
	case err == nil && (!current.validAt(now) || current.Value == key.rejected || !found.fetchedAt.Before(current.fetchedAt)):
		t.cache[key.app] = cachedToken{sharedToken: found, recheckAt: t.nextRecheck(found, now)}
	case current.validAt(now):
		// Nothing newer was found, or nothing at all: look again, but not at each call.
		current.recheckAt = now.Add(firstBackoff)
		t.cache[key.app] = current
		if current.Value != key.rejected {
			found, err = current.sharedToken, nil
		}
	}
	f.token, f.err = found.Token, err
	close(f.done)
}

// nextRecheck is when a copy wants to be looked after: when it is due for a refresh, at
// the latest after lookEvery. One that is overdue (another replica is on it, or failed)
// is looked after soon.
func (t *Tokens) nextRecheck(s sharedToken, now time.Time) time.Time {
	due := s.dueAt(t.jitter)
	switch {
	case !due.After(now):
		return now.Add(firstBackoff)
	case due.Before(now.Add(recheckInterval)):
		return due
	}
	return now.Add(recheckInterval)
}
