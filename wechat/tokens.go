package wechat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// A replica rereads Redis this often even while its cached token is valid, to find a
	// token that another replica fetched.
	recheckInterval = time.Minute
	// Tokens are refreshed this long before they expire, or a tenth of their lifetime if
	// that is less. WeChat renews a stable token only in its last five minutes; earlier it
	// returns the same one.
	refreshAhead = 4*time.Minute + 30*time.Second
	// Each replica shortens refreshAhead by a random part of this, so that one refreshes
	// first and the others find its result.
	refreshJitter = time.Minute
)

// Tokens is a TokenSource that all replicas share through Redis. The token of an app is in the
// hash wxcourier:{<app>}:token (value, expires_at_ms, fetched_at_ms, mode); each process
// caches it. One replica refreshes it before it expires. A stale token is refreshed once,
// regardless of how many replicas and calls find it stale.
//
// When a refresh fails, a token that is still valid stays in use, unless WeChat has refused it.
// The failure is stored in Redis, and no replica with the same credentials requests a token
// during its backoff, which grows with each failure.
// When Redis is unavailable, a valid cached token is used; without one there is no token:
// requests by each process would invalidate the tokens of the others or use up the quota.
//
// A service provider and the accounts that authorized it are apps of their own here, in the modes
// ModeProvider and ModeComponent. Besides its token the provider has the last ticket
// (wxcourier:{<provider>}:ticket), and an account the refresh token of its authorization
// (wxcourier:{<app>}:authorization).
type Tokens struct {
	credentials func(app string) (Credential, bool)
	store       tokenStore
	fetcher     tokenFetcher
	reporter    refreshReporter
	now         func() time.Time
	jitter      time.Duration
	lockTTL     time.Duration // longer than a refresh takes, so that only the lock of a dead replica expires

	mu        sync.Mutex // guards the fields below
	cache     map[string]cachedToken
	refreshes map[refreshKey]*refreshCall
	changed   map[string]bool // the apps whose credentials have changed since their token was requested
	running   sync.WaitGroup
	closed    bool
	unstored  map[string]unstoredRefresh // by app: refresh tokens that Redis did not take yet
	closing   chan struct{}              // closed by Close
}

var _ TokenSource = (*Tokens)(nil)

// cachedToken is a shared token as cached in this process.
type cachedToken struct {
	sharedToken
	recheckAt time.Time // when to read Redis again
	refused   bool      // WeChat refused it, and no refresh has returned it again
	replaces  Secret    // the token that WeChat refused before it; "" for none
}

// TokensOption overrides a default of Tokens.
type TokensOption func(*Tokens)

// WithLogger sets the logger for refresh failures and recoveries; default [slog.Default].
func WithLogger(log *slog.Logger) TokensOption {
	return func(t *Tokens) { t.reporter.log = log }
}

// WithClock sets the clock that token expiry is based on; default [time.Now].
func WithClock(now func() time.Time) TokensOption { return func(t *Tokens) { t.now = now } }

// WithOnRefresh sets a function that is called after every refresh, for metrics. The result is
// "ok", "kept" (it failed, and the token in use is still valid), "config" (it failed because
// of the app's configuration) or "error".
func WithOnRefresh(hook func(app, result string)) TokensOption {
	return func(t *Tokens) { t.reporter.hook = hook }
}

// NewTokens returns the shared token source for a valid cfg. It does no I/O. Credentials are
// looked up at each refresh, so they may change; see [Tokens.CredentialsChanged].
func NewTokens(cfg Config, rdb redis.UniversalClient, credentials func(app string) (Credential, bool), opts ...TokensOption) *Tokens {
	t := &Tokens{
		credentials: credentials,
		store:       tokenStore{rdb: rdb},
		fetcher:     newTokenFetcher(cfg),
		reporter:    refreshReporter{lastCauses: make(map[string]string)},
		now:         time.Now,
		jitter:      rand.N(refreshJitter), //nolint:gosec // spreads load, not security
		lockTTL:     cfg.Timeout + 2*time.Second,
		cache:       make(map[string]cachedToken),
		refreshes:   make(map[refreshKey]*refreshCall),
		changed:     make(map[string]bool),
		unstored:    make(map[string]unstoredRefresh),
		closing:     make(chan struct{}),
	}
	for _, opt := range opts {
		opt(t)
	}
	return t
}

// CredentialsChanged makes the app's next call request a token with its new credentials, in the
// background while the present token is valid: a wrong secret shows at once, and not when that token
// expires. Of all processes in which the credentials changed, one requests it.
func (t *Tokens) CredentialsChanged(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changed[app] = true
	if current, known := t.cache[app]; known {
		current.recheckAt = time.Time{}
		t.cache[app] = current
	}
}

// outdated reports whether a token was requested with other credentials than the app's, which have
// changed in this process.
func (t *Tokens) outdated(s sharedToken, cred Credential, known bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !known || !t.changed[cred.App] {
		return false
	}
	if s.asked != cred.fingerprint() {
		return true
	}
	delete(t.changed, cred.App)
	return false
}

// Close cancels the refreshes in progress and waits for them. Afterwards no token is
// requested any more.
func (t *Tokens) Close() {
	t.mu.Lock()
	if !t.closed {
		close(t.closing)
	}
	t.closed = true
	for _, call := range t.refreshes {
		call.cancel()
	}
	t.mu.Unlock()
	t.running.Wait()
	t.fetcher.exchanger.closeIdle()
}

// Token returns the app's token: from the cache while it is valid, else from Redis, else a new
// one. It does not return a token that WeChat has refused, unless a refresh returns that one
// again. Its error is a *TokenError.
func (t *Tokens) Token(ctx context.Context, app string) (Token, error) {
	current, now := t.cached(app), t.now()
	if !current.validAt(now) {
		return t.awaitRefresh(ctx, refreshKey{app: app})
	}
	if current.refused {
		renewed, err := t.awaitRefresh(ctx, refreshKey{app: app, rejected: current.Value})
		if errors.Is(err, ErrTokenRejected) {
			return current.Token, nil // there is no other: another API may accept it
		}
		return renewed, err
	}
	if !now.Before(current.recheckAt) {
		// Check in the background whether the token is due for a refresh.
		if _, err := t.startRefresh(ctx, refreshKey{app: app}); err != nil {
			return Token{}, &TokenError{App: app, Err: err}
		}
	}
	return current.Token, nil
}

// fromCache returns the app's cached token, and whether it can be used without reading Redis.
func (t *Tokens) fromCache(app string) (Token, bool) {
	current, now := t.cached(app), t.now()
	return current.Token, !current.refused && current.validAt(now) && now.Before(current.recheckAt)
}

// isRefused reports whether WeChat is known to have refused the token, so that a call with it
// would be refused, too.
func (t *Tokens) isRefused(app string, token Token) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	current, known := t.cache[app]
	return known && (current.refused && current.Value == token.Value || current.replaces == token.Value)
}

func (t *Tokens) cached(app string) cachedToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cache[app]
}

// Renew returns a token other than the rejected one: the shared one if it differs, else a new
// one. Its error is a *TokenError; it wraps ErrTokenRejected if a refresh returns the rejected
// token again.
func (t *Tokens) Renew(ctx context.Context, app string, rejected Token) (Token, error) {
	current := t.markRefused(app, rejected)
	switch {
	case current.Value == rejected.Value || !current.validAt(t.now()):
	case current.refused: // the one after it, too
		rejected = current.Token
	default:
		return current.Token, nil
	}
	return t.awaitRefresh(ctx, refreshKey{app: app, rejected: rejected.Value})
}

// markRefused notes that WeChat refused a token, so that no more calls are made with it, and
// returns the cached one.
func (t *Tokens) markRefused(app string, rejected Token) cachedToken {
	t.mu.Lock()
	defer t.mu.Unlock()
	current, known := t.cache[app]
	if known && current.Value == rejected.Value {
		current.refused = true
		t.cache[app] = current
	}
	return current
}

// refreshKey identifies a refresh: it gets the app's token, but not the rejected one.
type refreshKey struct {
	app      string
	rejected Secret
}

// refreshCall is a token refresh in progress or completed, shared by all callers with the same
// key. token and err are set before done is closed.
type refreshCall struct {
	cancel context.CancelFunc
	done   chan struct{}
	token  Token
	err    error
}

// awaitRefresh starts or joins the refresh for key and waits until it ends or ctx does.
func (t *Tokens) awaitRefresh(ctx context.Context, key refreshKey) (Token, error) {
	call, err := t.startRefresh(ctx, key)
	if err != nil {
		return Token{}, &TokenError{App: key.app, Err: err}
	}
	select {
	case <-call.done:
		if call.err != nil {
			return Token{}, &TokenError{App: key.app, Err: call.err}
		}
		return call.token, nil
	case <-ctx.Done():
		return Token{}, &TokenError{App: key.app, Err: fmt.Errorf("waiting for a token: %w", ctx.Err())}
	}
}

// startRefresh starts the refresh for key, or returns the one in progress. A refresh does not
// end with the context of the caller that started it, because other callers may wait for it.
// It has its own timeout, and Close cancels it.
func (t *Tokens) startRefresh(ctx context.Context, key refreshKey) (*refreshCall, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if call, ok := t.refreshes[key]; ok {
		return call, nil
	}
	// Long enough to wait for the lock of a dead replica to expire and then to refresh.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*t.lockTTL)
	call := &refreshCall{cancel: cancel, done: make(chan struct{})}
	t.refreshes[key] = call
	t.running.Go(func() {
		defer cancel()
		found, err := t.loadOrRefresh(ctx, key)
		t.finishRefresh(key, call, found, err)
	})
	return call, nil
}

// finishRefresh caches the result of a refresh and wakes the callers that wait for it.
func (t *Tokens) finishRefresh(key refreshKey, call *refreshCall, found sharedToken, err error) {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.refreshes, key)
	current := t.cache[key.app]
	switch {
	case err == nil && (!current.validAt(now) || current.Value == key.rejected || !found.fetchedAt.Before(current.fetchedAt)):
		next := cachedToken{sharedToken: found, recheckAt: t.nextRecheck(found, now), replaces: current.replaces}
		switch {
		case found.Value == current.Value: // Redis still has it
			next.refused = current.refused
		case current.refused:
			next.replaces = current.Value
		}
		t.cache[key.app] = next
	case current.validAt(now):
		// No newer token: keep the cached one, and read Redis again after a pause. A refused one
		// that a refresh has returned again is for the caller to judge: other APIs may accept it.
		current.recheckAt = now.Add(firstBackoff)
		if current.Value == key.rejected && errors.Is(err, ErrTokenRejected) {
			current.refused = false
		}
		t.cache[key.app] = current
		if current.Value != key.rejected && !current.refused {
			found, err = current.sharedToken, nil
		}
	}
	call.token, call.err = found.Token, err
	close(call.done)
}

// nextRecheck returns when to read Redis again: when the token is due for a refresh, but at
// most recheckInterval from now; if it is overdue (another replica is refreshing it or has
// failed), after firstBackoff.
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
