package app

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/wechat"
)

// authorizersEvery is the interval at which accounts are looked for that have authorized a service
// provider: one command per provider, which does not grow with their number.
const authorizersEvery = 3 * time.Second

// FollowAuthorizers adds the accounts that authorize a service provider with add_apps, until ctx ends.
// changed is called after each change of [Parts.Current].
func (p *Parts) FollowAuthorizers(ctx context.Context, changed func()) {
	failing := false
	for background.Sleep(ctx, authorizersEvery) {
		before := len(p.Current().Apps)
		err := p.readAuthorizers(ctx)
		switch {
		case err != nil && !failing && ctx.Err() == nil:
			p.Log.Warn("new accounts of service providers are not found", slog.Any("err", err))
		case err == nil && failing:
			p.Log.Info("new accounts of service providers are found again")
		}
		failing = err != nil
		if len(p.Current().Apps) != before {
			changed()
		}
	}
}

// readAuthorizers reads the accounts that have authorized the service providers with add_apps, where
// their number has changed: they are added only.
func (p *Parts) readAuthorizers(ctx context.Context) error {
	for _, provider := range p.Current().Providers {
		if !provider.AddApps {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		err := p.readAuthorizersOf(ctx, provider.ID)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *Parts) readAuthorizersOf(ctx context.Context, provider string) error {
	known := p.live.addedOf(provider)
	n, err := pushes.CountAuthorizers(ctx, p.Redis, provider)
	if err != nil || n == int64(len(known)) {
		return err
	}
	apps, err := pushes.Authorizers(ctx, p.Redis, provider)
	if err != nil {
		return err
	}
	p.live.add(provider, apps, p.Config.Worker.ShutdownTimeout)
	for _, app := range apps {
		if !slices.Contains(known, app) {
			p.Log.Info("an account of a service provider is served", slog.String("app", app), slog.String("provider", provider))
		}
	}
	return nil
}

// providersChanged makes the tokens of the service providers whose secrets have changed be asked for
// anew.
func (p *Parts) providersChanged(before, after configs.Config) {
	for _, now := range after.Providers {
		if was, known := before.Provider(now.ID); known && was.Secret != now.Secret {
			p.Tokens.CredentialsChanged(now.ID)
		}
	}
}

// add replaces the accounts of a service provider that are added to the apps.
func (l *live) add(provider string, apps []string, keep time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.added[provider] = apps
	l.store(keep)
}

func (l *live) addedOf(provider string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.added[provider]
}

// withAdded returns the configured apps, and the accounts of service providers with add_apps that are
// not among them. The caller holds l.mu.
func (l *live) withAdded() []configs.App {
	apps := slices.Clone(l.base.Apps)
	known := make(map[string]bool, len(apps))
	for _, app := range apps {
		known[app.ID] = true
	}
	for _, provider := range l.base.Providers {
		if !provider.AddApps {
			continue
		}
		for _, id := range l.added[provider.ID] {
			if !known[id] {
				known[id] = true
				apps = append(apps, provider.App(id))
			}
		}
	}
	return apps
}

// uses reports whether an app gets its tokens through a service provider.
func (l *live) uses(app, provider string) bool {
	found, ok := (*l.apps.Load())[app]
	if !ok || !found.leftUntil.IsZero() {
		// An account that is to be added, but is not yet.
		p, known := l.config.Load().Provider(provider)
		return known && p.AddApps
	}
	return found.Token.Mode == wechat.ModeComponent && found.Token.Provider == provider
}

// authorizersOf returns the apps that get their tokens through a service provider.
func (l *live) authorizersOf(provider string) []string {
	var apps []string
	for _, app := range l.config.Load().Apps {
		if app.Token.Mode == wechat.ModeComponent && app.Token.Provider == provider {
			apps = append(apps, app.ID)
		}
	}
	return apps
}
