package pushes_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

const (
	provider       = "wxfedcba9876543210"
	providerSecret = "the-secret-of-the-service-provider"
	otherProvider  = "wx00000000000000bb"
	account        = "wx00000000000000aa"
	otherAccount   = "wx00000000000000ac" // with a token mode of its own
)

// platform is a service provider, with WeChat and the handler of its pushes.
type platform struct {
	pushes.Handler
	t      *testing.T
	wx     *sandbox.Server
	rdb    redis.UniversalClient
	tokens *wechat.Tokens
	holds  *hold.Store
	start  time.Time // of the first push
	mu     sync.Mutex
	log    bytes.Buffer // guarded by mu
}

func (p *platform) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

func newPlatform(t *testing.T, rdb redis.UniversalClient) *platform {
	t.Helper()
	p := &platform{t: t, rdb: rdb, holds: hold.NewStore(rdb), start: time.Now().Add(-time.Hour).Truncate(time.Second)}
	p.wx = sandbox.New(sandbox.Options{Apps: map[string]string{}, Providers: map[string]string{provider: providerSecret}})
	url, stop := p.wx.Start()
	log := slog.New(slog.NewTextHandler(p, nil))
	p.tokens = wechat.NewTokens(wechat.Config{BaseURL: url, Timeout: 10 * time.Second, AttemptTimeout: 20 * time.Second}, rdb,
		func(app string) (wechat.Credential, bool) {
			switch app {
			case account:
				return wechat.Credential{App: account, Mode: wechat.ModeComponent, Provider: provider}, true
			case provider:
				return wechat.Credential{App: provider, Secret: providerSecret, Mode: wechat.ModeProvider}, true
			}
			return wechat.Credential{}, false
		}, wechat.WithLogger(log))
	p.Handler = pushes.NewProvider(pushes.ProviderDeps{
		Redis: rdb, Tokens: p.tokens, Holds: p.holds, Log: log,
		Apps: func(id string) []string { return map[string][]string{provider: {account}}[id] },
		Uses: func(app, id string) bool { return app == account && id == provider },
	})
	t.Cleanup(func() {
		p.tokens.Close()
		stop()
		text := p.log.String()
		secrets := append(p.wx.ProviderSecrets(provider), providerSecret)
		for _, app := range []string{provider, account} {
			for _, token := range p.wx.Tokens(app) {
				secrets = append(secrets, token.Value)
			}
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("a secret was logged:\n%s", text)
			}
		}
	})
	return p
}

// push is a push about the provider, seconds after the first.
func (p *platform) push(event string, after int, what callback.Provider) callback.Push {
	what.App = provider
	return callback.Push{Event: event, Created: p.start.Add(time.Duration(after) * time.Second), Provider: &what}
}

// ticket is a push with a ticket of WeChat's.
func (p *platform) ticket(after int) callback.Push {
	p.t.Helper()
	if err := p.wx.PushTicket(provider); err != nil {
		p.t.Fatal(err)
	}
	secrets := p.wx.ProviderSecrets(provider)
	return p.push("component_verify_ticket", after, callback.Provider{Ticket: secrets[len(secrets)-1]})
}

// authorized lets an account authorize the provider, and is the push about it.
func (p *platform) authorized(event, app string, after int) callback.Push {
	p.t.Helper()
	code, err := p.wx.Authorize(provider, app)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.push(event, after, callback.Provider{Authorizer: app, Code: code})
}

// unauthorized lets an account take its authorization back, and is the push about it.
func (p *platform) unauthorized(app string, after int) callback.Push {
	p.t.Helper()
	if err := p.wx.Unauthorize(provider, app); err != nil {
		p.t.Fatal(err)
	}
	return p.push("unauthorized", after, callback.Provider{Authorizer: app})
}

// handle handles pushes, which succeeds.
func (p *platform) handle(all ...callback.Push) {
	p.t.Helper()
	if err := p.Handle(p.t.Context(), provider, all); err != nil {
		p.t.Fatal(err)
	}
}

// hold holds an app.
func (p *platform) hold(app, by, reason string) {
	p.t.Helper()
	h := hold.Hold{App: app, Scope: hold.WholeApp, Reason: reason, By: by}
	if _, _, err := p.holds.SetEnding(p.t.Context(), h, hold.End{After: time.Hour}); err != nil {
		p.t.Fatal(err)
	}
}

// held returns the reason of the hold of an app, "" for none.
func (p *platform) held(app string) string {
	p.t.Helper()
	h, active, err := p.holds.Get(p.t.Context(), app, hold.WholeApp)
	if err != nil {
		p.t.Fatal(err)
	}
	if !active {
		return ""
	}
	return h.Reason
}

// want checks the hold of the account, and whether Redis has the refresh token that is valid.
func (p *platform) want(what, reason string, authorized bool) {
	p.t.Helper()
	if got := p.held(account); got != reason {
		p.t.Errorf("%s: the hold is %q, want %q", what, got, reason)
	}
	stored, err := p.rdb.HGet(p.t.Context(), "wxcourier:{"+account+"}:authorization", "refresh_token").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		p.t.Fatal(err)
	}
	if authorized != (stored != "") || authorized && stored != p.wx.RefreshToken(provider, account) {
		p.t.Errorf("%s: authorized %v, want %v with WeChat's refresh token", what, stored != "", authorized)
	}
}

func (p *platform) calls(path string) (n int) {
	for _, c := range p.wx.Counts() {
		if c.Path == path {
			n += c.Calls
		}
	}
	return n
}

const (
	pathQueryAuth      = "/cgi-bin/component/api_query_auth"
	pathComponentToken = "/cgi-bin/component/api_component_token" //nolint:gosec // a path, no credential
)

// TestProviderTickets: the last ticket by WeChat's clock counts, in whatever order they come. The first
// one ends what waits for it, and no other hold.
func TestProviderTickets(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		p := newPlatform(t, rdb)
		at := func() time.Duration {
			t.Helper()
			created, err := p.tokens.TicketTime(t.Context(), provider)
			if err != nil {
				t.Fatal(err)
			}
			return created.Sub(p.start)
		}
		if _, err := p.tokens.Token(t.Context(), account); !errors.Is(err, wechat.ErrNoTicket) {
			t.Fatalf("without a ticket: %v", err)
		}
		p.hold(account, hold.ReplicaPrefix+"r1", "token_unavailable")
		p.hold(otherAccount, hold.ReplicaPrefix+"r1", "token_unavailable")
		first, second, third := p.ticket(10), p.ticket(20), p.ticket(30)
		foreign := p.ticket(40)
		foreign.Provider.App = otherProvider
		old := p.ticket(int(-12 * time.Hour / time.Second))
		p.handle(old, foreign)
		if got := at(); got > 0 || p.held(account) == "" {
			t.Errorf("an old ticket, or a foreign one, counts: it is of %v", got)
		}
		p.handle(second, first)
		if got := at(); got != 20*time.Second {
			t.Errorf("of two tickets the one after %v counts", got)
		}
		if got := p.held(account); got != "" || p.held(otherAccount) == "" {
			t.Errorf("after the first ticket the hold is %q; that of a foreign app %q", got, p.held(otherAccount))
		}
		p.hold(account, hold.ReplicaPrefix+"r1", "app_config")
		p.handle(first, second) // again
		p.handle(third)
		if got := at(); got != 30*time.Second || p.held(account) != "app_config" {
			t.Errorf("a later ticket, after %v, ends the hold of another reason: %q", got, p.held(account))
		}
		if _, err := p.tokens.Token(t.Context(), provider); err != nil || p.calls(pathComponentToken) != 1 {
			t.Errorf("the provider's token: %v, after %d calls", err, p.calls(pathComponentToken))
		}
	})
}

// TestProviderAuthorizations: what the account did last counts, in whatever order and however often
// WeChat tells it.
func TestProviderAuthorizations(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		p := newPlatform(t, rdb)
		p.handle(p.ticket(0))
		p.hold(account, hold.ReplicaPrefix+"r1", hold.ReasonUnauthorized)
		first := p.authorized("authorized", account, 10)
		p.handle(first)
		p.want("authorized", "", true)
		p.handle(first, first)
		p.want("authorized again", "", true)
		if n := p.calls(pathQueryAuth); n != 1 {
			t.Errorf("the code was exchanged %d times", n)
		}

		update := p.authorized("updateauthorized", account, 20)
		p.handle(update, first)
		p.want("updated", "", true)

		gone := p.unauthorized(account, 30)
		p.handle(gone)
		p.want("unauthorized", hold.ReasonUnauthorized, false)
		p.handle(update, gone)
		p.handle(first)
		p.want("events from before", hold.ReasonUnauthorized, false)

		back := p.authorized("authorized", account, 40)
		p.handle(back, gone)
		p.want("authorized anew", "", true)
		p.handle(gone)
		p.want("unauthorized, late", "", true)

		again := p.unauthorized(account, 50)
		p.handle(again, back)
		p.want("unauthorized anew", hold.ReasonUnauthorized, false)
		if apps, err := pushes.Authorizers(t.Context(), rdb, provider); err != nil || !slices.Equal(apps, []string{account}) {
			t.Errorf("the accounts are %v, %v", apps, err)
		}
	})
}

// TestProviderLeavesAlone: holds of operators, accounts that are configured otherwise, and pushes that
// are not for this provider.
func TestProviderLeavesAlone(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		p := newPlatform(t, rdb)
		p.handle(p.ticket(0))
		p.hold(account, "alice", "maintenance")
		p.handle(p.authorized("authorized", account, 10))
		p.want("authorized during a hold of an operator", "maintenance", true)

		p.hold(otherAccount, hold.ReplicaPrefix+"r1", "app_config")
		p.handle(p.authorized("authorized", otherAccount, 10))
		if got := p.held(otherAccount); got != "app_config" {
			t.Errorf("the hold of an account of another mode is %q", got)
		}
		if _, err := p.holds.Lift(t.Context(), otherAccount, hold.WholeApp); err != nil {
			t.Fatal(err)
		}
		p.handle(p.unauthorized(otherAccount, 20))
		if got := p.held(otherAccount); got != "" {
			t.Errorf("the account of another mode is held: %q", got)
		}

		before := p.calls(pathQueryAuth)
		foreign := p.push("unauthorized", 30, callback.Provider{Authorizer: account})
		foreign.Provider.App = otherProvider
		p.handle(
			foreign,
			callback.Push{Event: "unauthorized", Created: p.start.Add(time.Minute)}, // of no provider
			p.push("authorized", 30, callback.Provider{Authorizer: "no app", Code: "x"}),
			p.push("notify_third_fasteregister", 30, callback.Provider{Authorizer: account}),
			p.push("component_verify_ticket", 30, callback.Provider{}),
		)
		p.want("pushes that say nothing", "maintenance", true)
		if n := p.calls(pathQueryAuth); n != before {
			t.Errorf("%d codes were exchanged", n-before)
		}
		if n, err := pushes.CountAuthorizers(t.Context(), rdb, provider); err != nil || n != 2 {
			t.Errorf("%d accounts, %v", n, err)
		}

		// An account that authorized a provider which is not configured here.
		if err := p.Handle(t.Context(), otherProvider, []callback.Push{{
			Event: "unauthorized", Created: p.start.Add(time.Minute), Provider: &callback.Provider{App: otherProvider, Authorizer: account},
		}}); err != nil {
			t.Error(err)
		}
		p.want("another provider's event", "maintenance", true)
	})
}

// TestProviderFailures: pushes that WeChat's failure kept from being handled come again, and one whose
// authorization is gone does not.
func TestProviderFailures(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		p := newPlatform(t, rdb)
		push := p.authorized("authorized", account, 10)
		err := p.Handle(t.Context(), provider, []callback.Push{push})
		if !errors.Is(err, wechat.ErrNoTicket) || strings.Contains(err.Error(), push.Provider.Code) {
			t.Fatalf("without a ticket: %v", err)
		}
		p.handle(push, p.ticket(0)) // the ticket is handled first
		p.want("with a ticket", "", true)

		if _, err := p.wx.AddFault(sandbox.Fault{ErrCode: -1, Path: pathQueryAuth, Count: 1}); err != nil {
			t.Fatal(err)
		}
		update := p.authorized("updateauthorized", account, 20)
		if err := p.Handle(t.Context(), provider, []callback.Push{update}); err == nil {
			t.Error("a failure of WeChat is no error")
		}
		p.handle(update)
		p.want("after the failure", "", true)

		late := p.authorized("updateauthorized", account, 30)
		if err := p.wx.Unauthorize(provider, account); err != nil { // its push is still to come
			t.Fatal(err)
		}
		p.handle(late)
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Handle(canceled, provider, []callback.Push{p.ticket(60)}); !errors.Is(err, context.Canceled) {
			t.Errorf("a ticket that could not be stored: %v", err)
		}
	})
}
