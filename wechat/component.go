package wechat

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// errLockLost means that the refresh lock expired, or was taken by another replica: nothing may be
// requested or stored any more.
var errLockLost = errors.New("wechat: the refresh lock was lost")

// fetch requests a token in the credential's mode while owner holds the app's refresh lock. The caller
// sets its times.
func (t *Tokens) fetch(ctx context.Context, cred Credential, rejected Secret, owner string) (sharedToken, error) {
	switch cred.mode() {
	case ModeComponent:
		return t.fetchAuthorizer(ctx, cred, owner)
	case ModeProvider:
		return t.fetchProvider(ctx, cred, owner)
	}
	return t.fetcher.fetch(ctx, cred, rejected)
}

// startTicketsEvery is the interval of the calls of api_start_push_ticket while there is no ticket.
const startTicketsEvery = 10 * time.Minute

// fetchProvider requests the token of a service provider, with the last ticket.
func (t *Tokens) fetchProvider(ctx context.Context, cred Credential, owner string) (sharedToken, error) {
	ticket, _, err := t.store.ticket(ctx, cred.App)
	if err != nil {
		return sharedToken{}, err
	}
	if ticket == "" {
		t.startTickets(ctx, cred, owner)
		return sharedToken{}, ErrNoTicket
	}
	token, err := t.fetcher.componentToken(ctx, cred, ticket)
	if hasCode(err, codeTicketExpired, codeTicketInvalid) {
		t.startTickets(ctx, cred, owner)
		return sharedToken{}, fmt.Errorf("%w (%w)", ErrNoTicket, err)
	}
	return token, err
}

// startTickets asks WeChat for the pushes of tickets, which may have been switched off in the open
// platform, or by WeChat after the callback did not answer. Where they are on, it changes nothing.
func (t *Tokens) startTickets(ctx context.Context, cred Credential, owner string) {
	if mine, err := t.store.claimTicketStart(ctx, cred.App, startTicketsEvery); err != nil || !mine {
		return
	}
	if t.store.extend(ctx, cred.App, owner, t.lockTTL) != nil {
		return
	}
	log := t.reporter.logger().With(slog.String("app", cred.App))
	if err := t.fetcher.startTickets(ctx, cred); err != nil {
		log.WarnContext(ctx, "WeChat refused to push a component_verify_ticket", slog.Any("err", err))
		return
	}
	log.WarnContext(ctx, "the service provider has no component_verify_ticket; WeChat was asked to push one", slog.String("advice", Advice(ErrNoTicket)))
}

// The codes of the endpoints of service providers that decide what is tried next.
const (
	codeTicketExpired  = 61005
	codeTicketInvalid  = 61006
	codeCodeInvalid    = 61009
	codeCodeExpired    = 61010
	codeRefreshInvalid = 61023
)

// hasCode reports whether err is WeChat's answer with one of some codes.
func hasCode(err error, codes ...int) bool {
	var api *APIError
	return errors.As(err, &api) && slices.Contains(codes, api.Code)
}

// withProvider calls do with the token of the credential's provider, and once more with another one if
// WeChat refused that token. Before each call it extends the app's refresh lock.
func withProvider[T any](ctx context.Context, t *Tokens, cred Credential, owner string, do func(provider Secret) (T, error)) (answer T, err error) {
	provider, err := t.Token(ctx, cred.Provider)
	if err != nil {
		return answer, providerError(cred, err)
	}
	for renewed := false; ; renewed = true {
		if err := t.store.extend(ctx, cred.App, owner, t.lockTTL); err != nil {
			return answer, err
		}
		answer, err = do(provider.Value)
		var api *APIError
		if renewed || !errors.As(err, &api) || api.Class() != ClassToken {
			return answer, err
		}
		if provider, err = t.Renew(ctx, cred.Provider, provider); err != nil {
			return answer, providerError(cred, err)
		}
	}
}

// providerError is the error of an account whose provider has no token.
func providerError(cred Credential, err error) error {
	var token *TokenError
	if errors.As(err, &token) {
		err = token.Err
	}
	return fmt.Errorf("service provider %s: %w", cred.Provider, err)
}

// fetchAuthorizer requests the token of an account that authorized a service provider, and keeps the
// refresh token of the answer before it returns the token.
//
// Where the refresh token is unknown, or WeChat refuses the known ones, it asks WeChat for it: a
// process may have died between an answer with a new one and the storing, and an account may have
// authorized the provider before wxcourier got its pushes.
func (t *Tokens) fetchAuthorizer(ctx context.Context, cred Credential, owner string) (sharedToken, error) {
	stored, err := t.store.authorization(ctx, cred.App)
	if err != nil {
		return sharedToken{}, err
	}
	var answer authorizerToken
	var used Secret
	err = errNoRefreshToken
	for _, used = range t.refreshTokens(cred, stored) {
		if answer, err = t.askToken(ctx, cred, owner, used); !hasCode(err, codeRefreshInvalid) {
			break
		}
	}
	if errors.Is(err, errNoRefreshToken) || hasCode(err, codeRefreshInvalid) {
		refused := used
		if used, err = t.askRefreshToken(ctx, cred, owner, refused, err); err == nil {
			answer, err = t.askToken(ctx, cred, owner, used)
		}
	}
	if err != nil {
		return sharedToken{}, err
	}
	if told := orElse(answer.refresh, used); told != stored.refresh || stored.provider != cred.Provider {
		t.keepRefresh(ctx, cred, stored.refresh, told)
	}
	return answer.token, nil
}

var errNoRefreshToken = errors.New("no refresh token is known")

func orElse(a, b Secret) Secret {
	if a != "" {
		return a
	}
	return b
}

// refreshTokens returns the known refresh tokens of an authorization, the most recent first.
func (t *Tokens) refreshTokens(cred Credential, stored authorization) []Secret {
	var known []Secret
	add := func(s Secret) {
		if s != "" && !slices.Contains(known, s) {
			known = append(known, s)
		}
	}
	t.mu.Lock()
	unstored, some := t.unstored[cred.App]
	t.mu.Unlock()
	if some && unstored.provider == cred.Provider && unstored.used == stored.refresh {
		add(unstored.told)
	}
	if stored.provider == cred.Provider {
		add(stored.refresh)
	}
	add(cred.RefreshToken)
	return known
}

func (t *Tokens) askToken(ctx context.Context, cred Credential, owner string, refresh Secret) (authorizerToken, error) {
	return withProvider(ctx, t, cred, owner, func(provider Secret) (authorizerToken, error) {
		return t.fetcher.authorizerToken(ctx, cred, provider, refresh)
	})
}

// askRefreshToken asks WeChat for the refresh token of an authorization. Where WeChat has none but the
// refused one, the error is cause, or ErrUnauthorized.
func (t *Tokens) askRefreshToken(ctx context.Context, cred Credential, owner string, refused Secret, cause error) (Secret, error) {
	told, err := withProvider(ctx, t, cred, owner, func(provider Secret) (Secret, error) {
		return t.fetcher.refreshToken(ctx, cred, provider)
	})
	switch {
	case err != nil:
		return "", err
	case told == "" && refused == "":
		return "", ErrUnauthorized
	case told == "" || told == refused:
		return "", cause
	}
	t.reporter.logger().InfoContext(ctx, "the refresh token of the authorization was read from WeChat", slog.String("app", cred.App))
	return told, nil
}

// unstoredRefresh is a refresh token that Redis did not take: the one that Redis had at the request,
// and that of the answer.
type unstoredRefresh struct {
	provider   string
	used, told Secret
}

// keepRefresh stores a changed refresh token in Redis. Where Redis does not take it, this process keeps
// it in memory, uses it, and stores it as soon as Redis answers.
func (t *Tokens) keepRefresh(ctx context.Context, cred Credential, used, told Secret) {
	err := t.store.keepRefresh(ctx, cred.App, cred.Provider, used, told)
	if err == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, waiting := t.unstored[cred.App]
	t.unstored[cred.App] = unstoredRefresh{provider: cred.Provider, used: used, told: told}
	t.reporter.logger().ErrorContext(ctx, "a new refresh token of the authorization could not be stored; it is kept in memory until Redis takes it",
		slog.String("app", cred.App), slog.Any("err", err))
	if !waiting && !t.closed {
		t.running.Go(func() { t.storeLater(context.WithoutCancel(ctx), cred.App) })
	}
}

// storeLaterEvery is the pause between the attempts to store a refresh token.
const storeLaterEvery = 500 * time.Millisecond

// storeLater stores a refresh token that Redis did not take, until it does or the source is closed.
// After the last attempt the token is lost here; WeChat tells it again, see fetchAuthorizer.
func (t *Tokens) storeLater(ctx context.Context, app string) {
	for last := false; ; {
		t.mu.Lock()
		kept, still := t.unstored[app]
		t.mu.Unlock()
		if !still {
			return // an event brought another
		}
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := t.store.keepRefresh(attempt, app, kept.provider, kept.used, kept.told)
		cancel()
		t.mu.Lock()
		done := err == nil && t.unstored[app] == kept
		if done || last {
			delete(t.unstored, app)
		}
		t.mu.Unlock()
		switch log := t.reporter.logger(); {
		case done:
			log.InfoContext(ctx, "the new refresh token of the authorization is stored", slog.String("app", app))
			return
		case last:
			log.ErrorContext(ctx, "a new refresh token of the authorization is not stored; the next refresh asks WeChat for it", slog.String("app", app), slog.Any("err", err))
			return
		}
		select {
		case <-t.closing:
			last = true
		case <-time.After(storeLaterEvery):
		}
	}
}
