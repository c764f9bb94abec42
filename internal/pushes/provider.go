package pushes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// The events of service providers (第三方平台), as the InfoType names them:
// https://developers.weixin.qq.com/doc/oplatform/Third-party_Platforms/2.0/api/Before_Develop/authorize_event.html
const (
	eventTicket           = "component_verify_ticket"
	eventAuthorized       = "authorized"
	eventUpdateAuthorized = "updateauthorized"
	eventUnauthorized     = "unauthorized"
)

// ProviderTokens keeps what the pushes to service providers say. *wechat.Tokens is one.
type ProviderTokens interface {
	StoreTicket(ctx context.Context, provider string, ticket wechat.Secret, created time.Time) (first bool, err error)
	Authorize(ctx context.Context, provider, app string, code wechat.Secret, at time.Time) (done bool, err error)
	Deauthorize(ctx context.Context, provider, app string, at time.Time) (done bool, err error)
	EndBackoff(ctx context.Context, app string) error
}

// ProviderDeps are the dependencies of the handler of pushes to service providers. All are required.
type ProviderDeps struct {
	Redis  redis.UniversalClient
	Tokens ProviderTokens
	Holds  *hold.Store
	// Apps returns the apps that a service provider calls for, now.
	Apps func(provider string) []string
	// Uses reports whether an app gets its tokens through a service provider, now. An app that is
	// configured otherwise is left alone.
	Uses func(app, provider string) bool
	Log  *slog.Logger
}

// providerHandler keeps tickets, and takes over what accounts authorize.
type providerHandler struct{ ProviderDeps }

// NewProvider returns the handler of pushes to service providers.
func NewProvider(d ProviderDeps) Handler { return providerHandler{d} }

// authorizersKey returns the key of the accounts that have authorized a service provider, a hash: by
// app id the time of the first authorization that came here, in seconds. An account that takes its
// authorization back stays: its tasks wait. Apps are added from it, see [Authorizers].
func authorizersKey(provider string) string { return "wxcourier:{" + provider + "}:authorizers" }

// Authorizers returns the accounts that have authorized a service provider since wxcourier gets its
// pushes, sorted, also those that took that back.
func Authorizers(ctx context.Context, rdb redis.UniversalClient, provider string) ([]string, error) {
	apps, err := rdb.HKeys(ctx, authorizersKey(provider)).Result()
	if err != nil {
		return nil, fmt.Errorf("read the accounts that authorized %s: %w", provider, err)
	}
	apps = slices.DeleteFunc(apps, func(app string) bool { return !tasks.ValidApp(app) })
	slices.Sort(apps)
	return apps, nil
}

// CountAuthorizers returns the number of the accounts of [Authorizers].
func CountAuthorizers(ctx context.Context, rdb redis.UniversalClient, provider string) (int64, error) {
	n, err := rdb.HLen(ctx, authorizersKey(provider)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the accounts that authorized %s: %w", provider, err)
	}
	return n, nil
}

// Handle handles tickets first: without one the exchange of a code fails. Of an account only its last
// push counts. Pushes that a failure of WeChat or Redis kept from being handled come again.
func (h providerHandler) Handle(ctx context.Context, app string, all []callback.Push) error {
	var errs []error
	accounts := make(map[string]callback.Push)
	var ticket callback.Push
	for _, p := range all {
		switch {
		case p.Provider == nil || p.Provider.App != app:
		case p.Event == eventTicket && p.Provider.Ticket != "" && !p.Created.Before(ticket.Created):
			ticket = p
		case (p.Event == eventAuthorized || p.Event == eventUpdateAuthorized || p.Event == eventUnauthorized) && tasks.ValidApp(p.Provider.Authorizer):
			if last, some := accounts[p.Provider.Authorizer]; !some || !p.Created.Before(last.Created) {
				accounts[p.Provider.Authorizer] = p
			}
		}
	}
	if ticket.Provider != nil {
		errs = append(errs, h.ticket(ctx, app, ticket))
	}
	for _, account := range slices.Sorted(maps.Keys(accounts)) {
		p := accounts[account]
		if p.Event == eventUnauthorized {
			errs = append(errs, h.unauthorized(ctx, app, p))
		} else {
			errs = append(errs, h.authorized(ctx, app, p))
		}
	}
	return errors.Join(errs...)
}

// ticket stores a ticket. The first one of a provider ends the holds of the apps that wait for it.
func (h providerHandler) ticket(ctx context.Context, provider string, p callback.Push) error {
	first, err := h.Tokens.StoreTicket(ctx, provider, wechat.Secret(p.Provider.Ticket), p.Created)
	if err != nil || !first {
		return err
	}
	h.Log.InfoContext(ctx, "the service provider has a component_verify_ticket", slog.String("app", provider))
	var errs []error
	for _, app := range h.Apps(provider) {
		errs = append(errs, h.Tokens.EndBackoff(ctx, app), h.release(ctx, app))
	}
	return errors.Join(errs...)
}

// authorized takes over an authorization, new or changed, and ends the hold of the app.
func (h providerHandler) authorized(ctx context.Context, provider string, p callback.Push) error {
	app := p.Provider.Authorizer
	if err := h.Redis.HSetNX(ctx, authorizersKey(provider), app, p.Created.Unix()).Err(); err != nil {
		return fmt.Errorf("note the account that authorized %s: %w", provider, err)
	}
	done, err := h.Tokens.Authorize(ctx, provider, app, wechat.Secret(p.Provider.Code), p.Created)
	var api *wechat.APIError
	switch {
	case errors.As(err, &api) && api.Class() == wechat.ClassUnauthorized, errors.Is(err, wechat.ErrUnauthorized):
		h.Log.WarnContext(ctx, "an authorization could not be taken over: WeChat does not know it any more", slog.String("app", app), slog.String("provider", provider), slog.Any("err", err))
		return nil
	case err != nil:
		return fmt.Errorf("take over the authorization of %s: %w", app, err)
	case !done || !h.Uses(app, provider):
		return nil
	}
	return h.release(ctx, app)
}

// release ends the hold that a worker, or the push before, has set on an app: whatever its reason was,
// the next call shows whether it still is. Holds of operators stay.
func (h providerHandler) release(ctx context.Context, app string) error {
	held, active, err := h.Holds.Get(ctx, app, hold.WholeApp)
	if err != nil || !active || !strings.HasPrefix(held.By, hold.ReplicaPrefix) {
		return err
	}
	if _, err := h.Holds.Lift(ctx, app, hold.WholeApp); err != nil {
		return err
	}
	h.Log.InfoContext(ctx, "the hold is lifted", slog.String("app", app), slog.String("reason", held.Reason))
	return nil
}

// firstProbe is how long the hold of an account that took its authorization back lasts at first. At its
// end a task asks WeChat, in case the push about a new authorization is lost.
const firstProbe = time.Minute

// unauthorized holds an app whose account took its authorization back. Its tasks wait.
func (h providerHandler) unauthorized(ctx context.Context, provider string, p callback.Push) error {
	app := p.Provider.Authorizer
	done, err := h.Tokens.Deauthorize(ctx, provider, app, p.Created)
	if err != nil || !done || !h.Uses(app, provider) {
		return err
	}
	h.Log.WarnContext(ctx, "the account has taken its authorization back; its tasks wait", slog.String("app", app), slog.String("provider", provider), slog.String("advice", wechat.Advice(wechat.ErrUnauthorized)))
	_, _, err = h.Holds.SetEnding(ctx, hold.Hold{
		App: app, Scope: hold.WholeApp, Reason: hold.ReasonUnauthorized, By: hold.ReplicaPrefix + "callback",
	}, hold.End{After: firstProbe})
	return err
}
