package wechat_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	component       = "wxfedcba9876543210"
	componentSecret = "the-secret-of-the-service-provider"
	account         = "wx0123456789abcdef"

	componentToken  = "/cgi-bin/component/api_component_token"  //nolint:gosec // a path, no credential
	authorizerToken = "/cgi-bin/component/api_authorizer_token" //nolint:gosec // a path, no credential
	authorizerInfo  = "/cgi-bin/component/api_get_authorizer_info"
	queryAuth       = "/cgi-bin/component/api_query_auth"
	startTickets    = "/cgi-bin/component/api_start_push_ticket"
)

// lockedBuffer is a log that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// providerRig is a service provider with several replicas.
type providerRig struct {
	wx     *sandbox.Server
	cfg    wechat.Config
	rdb    redis.UniversalClient
	tokens []*wechat.Tokens
	log    *lockedBuffer
	mu     sync.Mutex
	cred   wechat.Credential // of the account
	errs   []string          // every error text
}

func newProviderRig(t *testing.T, rdb redis.UniversalClient, n int) *providerRig {
	t.Helper()
	r := &providerRig{rdb: rdb, log: &lockedBuffer{}, cred: wechat.Credential{App: account, Mode: wechat.ModeComponent, Provider: component}}
	r.wx = sandbox.New(sandbox.Options{Apps: map[string]string{}, Providers: map[string]string{component: componentSecret}})
	url, stop := r.wx.Start()
	t.Cleanup(stop)
	r.cfg = wechat.Config{BaseURL: url, Timeout: 10 * time.Second, AttemptTimeout: 20 * time.Second}
	for range n {
		tokens := wechat.NewTokens(r.cfg, rdb, r.credential, wechat.WithLogger(slog.New(slog.NewTextHandler(r.log, nil))))
		t.Cleanup(tokens.Close)
		r.tokens = append(r.tokens, tokens)
	}
	t.Cleanup(func() { r.wantNoSecrets(t) })
	return r
}

func (r *providerRig) credential(app string) (wechat.Credential, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch app {
	case account:
		return r.cred, true
	case component:
		return wechat.Credential{App: component, Secret: componentSecret, Mode: wechat.ModeProvider}, true
	}
	return wechat.Credential{}, false
}

// wantNoSecrets checks that no secret is in the log or in an error.
func (r *providerRig) wantNoSecrets(t *testing.T) {
	t.Helper()
	secrets := append(r.wx.ProviderSecrets(component), componentSecret)
	for _, app := range []string{component, account} {
		for _, token := range r.wx.Tokens(app) {
			secrets = append(secrets, token.Value)
		}
	}
	if len(secrets) < 2 {
		t.Error("no secret was made")
	}
	r.mu.Lock()
	text := r.log.String() + strings.Join(r.errs, "\n")
	r.mu.Unlock()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("a secret is in the log or in an error:\n%s", text)
		}
	}
}

func (r *providerRig) failed(err error) error {
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs = append(r.errs, err.Error())
	}
	return err
}

// ticket gives the replicas a valid ticket.
func (r *providerRig) ticket(t *testing.T) {
	t.Helper()
	if err := r.wx.PushTicket(component); err != nil {
		t.Fatal(err)
	}
	secrets := r.wx.ProviderSecrets(component)
	if _, err := r.tokens[0].StoreTicket(t.Context(), component, wechat.Secret(secrets[len(secrets)-1]), time.Now()); err != nil {
		t.Fatal(err)
	}
}

func (r *providerRig) authorize(t *testing.T) (code wechat.Secret) {
	t.Helper()
	text, err := r.wx.Authorize(component, account)
	if err != nil {
		t.Fatal(err)
	}
	return wechat.Secret(text)
}

// send sends a message from a replica.
func (r *providerRig) send(ctx context.Context, tokens *wechat.Tokens) error {
	client := wechat.NewClient(r.cfg, tokens)
	defer client.CloseIdle()
	_, err := client.Call(ctx, account, wechat.Request{
		Path: wechat.EndpointCustom, Body: []byte(`{"touser":"oMe","msgtype":"text","text":{"content":"Hello"}}`),
	})
	return r.failed(err)
}

// each sends m messages from each replica at the same time.
func (r *providerRig) each(t *testing.T, m int) {
	t.Helper()
	var all sync.WaitGroup
	for _, tokens := range r.tokens {
		for range m {
			all.Go(func() {
				if err := r.send(t.Context(), tokens); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
}

func (r *providerRig) calls(path string) int64 {
	var n int64
	for _, c := range r.wx.Counts() {
		if c.Path == path {
			n += int64(c.Calls)
		}
	}
	return n
}

func (r *providerRig) wantCalls(t *testing.T, want map[string]int64) {
	t.Helper()
	for path, n := range want {
		if got := r.calls(path); got != n {
			t.Errorf("%d calls of %s, want %d", got, path, n)
		}
	}
}

func (r *providerRig) stored(t *testing.T) string {
	t.Helper()
	text, err := r.rdb.HGet(t.Context(), "wxcourier:{"+account+"}:authorization", "refresh_token").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return text
}

func (r *providerRig) wantStored(t *testing.T) {
	t.Helper()
	if valid := r.wx.RefreshToken(component, account); valid == "" || r.stored(t) != valid {
		t.Error("Redis does not have the valid refresh token")
	}
}

// TestOneRefreshOfAnAuthorization: however many replicas and calls need a token of the account, and of
// its provider, each is asked for once, also when WeChat revoked them and changes the refresh token.
func TestOneRefreshOfAnAuthorization(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 4)
		r.ticket(t)
		if done, err := r.tokens[0].Authorize(t.Context(), component, account, r.authorize(t), time.Now()); !done || err != nil {
			t.Fatal(done, err)
		}
		if err := r.wx.RotateRefreshTokens(component, true); err != nil {
			t.Fatal(err)
		}
		r.each(t, 10)
		r.wantCalls(t, map[string]int64{componentToken: 1, queryAuth: 1, authorizerToken: 0})
		for round := range int64(2) {
			r.wx.Revoke(account)
			r.each(t, 10)
			r.wantCalls(t, map[string]int64{componentToken: 1, authorizerToken: round + 1})
			r.wantStored(t)
		}
		r.wx.Revoke(account)
		r.wx.Revoke(component)
		r.each(t, 10)
		r.wantCalls(t, map[string]int64{componentToken: 2, authorizerToken: 4, authorizerInfo: 0}) // one of the four met the revoked token
		r.wantStored(t)
	})
}

// TestNoTicket: without a ticket there is an error that says so, and of all replicas one asks WeChat to
// push it. The first ticket ends that.
func TestNoTicket(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 3)
		r.authorize(t)
		for _, tokens := range r.tokens {
			_, err := tokens.Token(t.Context(), account)
			var token *wechat.TokenError
			if _ = r.failed(err); !errors.As(err, &token) || !errors.Is(err, wechat.ErrNoTicket) || wechat.Written(err) || wechat.Advice(err) == "" {
				t.Fatalf("without a ticket: %v", err)
			}
		}
		r.wantCalls(t, map[string]int64{startTickets: 1, componentToken: 0})
		r.ticket(t)
		if err := r.tokens[0].EndBackoff(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		r.each(t, 2)
		at, err := r.tokens[1].TicketTime(t.Context(), component)
		if err != nil || time.Since(at) > time.Minute {
			t.Errorf("the ticket is of %v, %v", at, err)
		}
		// An older one, which came late, changes nothing; nor does one that has expired.
		for _, age := range []time.Duration{time.Hour, 13 * time.Hour} {
			if first, err := r.tokens[0].StoreTicket(t.Context(), component, "older", time.Now().Add(-age)); first || err != nil {
				t.Error(first, err)
			}
		}
		if again, err := r.tokens[1].TicketTime(t.Context(), component); err != nil || !again.Equal(at) {
			t.Errorf("the ticket is of %v, %v", again, err)
		}
	})
}

// TestRefusedTicket: a ticket that WeChat refuses counts as none.
func TestRefusedTicket(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newProviderRig(t, rdb, 1)
	if first, err := r.tokens[0].StoreTicket(t.Context(), component, "of another provider", time.Now()); !first || err != nil {
		t.Fatal(first, err)
	}
	_, err := r.tokens[0].Token(t.Context(), account)
	if _ = r.failed(err); !errors.Is(err, wechat.ErrNoTicket) {
		t.Errorf("with a wrong ticket: %v", err)
	}
	r.wantCalls(t, map[string]int64{startTickets: 1, componentToken: 1})
}

// TestUnauthorizedDuringRefresh: an account takes its authorization back while its token is refreshed.
// Neither the token nor the refresh token of the answer is kept.
func TestUnauthorizedDuringRefresh(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 2)
		r.ticket(t)
		code := r.authorize(t)
		if _, err := r.tokens[0].Authorize(t.Context(), component, account, code, time.Now().Add(-time.Minute)); r.failed(err) != nil {
			t.Fatal(err)
		}
		if err := r.wx.RotateRefreshTokens(component, true); err != nil {
			t.Fatal(err)
		}
		r.wx.Revoke(account)
		if _, err := r.wx.AddFault(sandbox.Fault{Name: "slow", Path: authorizerToken, Delay: time.Second}); err != nil {
			t.Fatal(err)
		}
		sent := make(chan error)
		go func() { sent <- r.send(t.Context(), r.tokens[0]) }()
		redistest.Until(t, 20*time.Second, "the token is asked for", func() bool { return r.calls(authorizerToken) == 1 })
		if err := r.wx.Unauthorize(component, account); err != nil {
			t.Fatal(err)
		}
		if done, err := r.tokens[1].Deauthorize(t.Context(), component, account, time.Now()); !done || err != nil {
			t.Fatal(done, err)
		}
		_ = r.failed(<-sent) // the token is WeChat's to refuse
		key := "wxcourier:{" + account + "}:token"
		if n := rdb.Exists(t.Context(), key).Val(); n != 0 || r.stored(t) != "" {
			t.Errorf("%d tokens, refresh token kept: %v", n, r.stored(t) != "")
		}
	})
}

// TestLostRefreshToken: WeChat changed the refresh token, and the answer never came, as when the process
// dies before it stored it. The next refresh asks WeChat for it.
func TestLostRefreshToken(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 2)
		r.ticket(t)
		r.authorize(t)
		r.each(t, 1) // nobody exchanged the code: WeChat tells the refresh token
		r.wantCalls(t, map[string]int64{authorizerInfo: 1, authorizerToken: 1})
		r.wantStored(t)
		if err := r.wx.RotateRefreshTokens(component, true); err != nil {
			t.Fatal(err)
		}
		if _, err := r.wx.AddFault(sandbox.Fault{Name: "lost", Path: authorizerToken, Count: 1}); err != nil {
			t.Fatal(err)
		}
		r.wx.Revoke(account)
		if err := r.send(t.Context(), r.tokens[0]); err == nil || wechat.Written(err) {
			t.Fatalf("without the answer: %v", err)
		}
		if err := r.tokens[0].EndBackoff(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		r.each(t, 3)
		r.wantCalls(t, map[string]int64{authorizerInfo: 2, authorizerToken: 4})
		r.wantStored(t)
	})
}

// failingScripts makes the scripts that write a key fail, while on.
type failingScripts struct {
	key string
	mu  sync.Mutex
	on  bool
}

func (f *failingScripts) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

func (f *failingScripts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *failingScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *failingScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.mu.Lock()
		on := f.on
		f.mu.Unlock()
		if args := cmd.Args(); on && strings.HasPrefix(strings.ToLower(cmd.Name()), "eval") && len(args) > 3 && args[3] == f.key {
			cmd.SetErr(errors.New("redis: gone"))
			return cmd.Err()
		}
		return next(ctx, cmd)
	}
}

// TestRefreshTokenWithoutRedis: a changed refresh token that Redis does not take stays in memory, is
// used, and is stored when Redis takes it again.
func TestRefreshTokenWithoutRedis(t *testing.T) {
	_, rdb := redistest.Mini(t)
	gone := &failingScripts{key: "wxcourier:{" + account + "}:authorization"}
	rdb.AddHook(gone)
	r := newProviderRig(t, rdb, 1)
	r.ticket(t)
	r.authorize(t)
	r.each(t, 1)
	if err := r.wx.RotateRefreshTokens(component, true); err != nil {
		t.Fatal(err)
	}
	gone.set(true)
	for range 2 {
		r.wx.Revoke(account)
		r.each(t, 1)
		if r.stored(t) == r.wx.RefreshToken(component, account) {
			t.Error("the refresh token was stored")
		}
	}
	r.wantCalls(t, map[string]int64{authorizerInfo: 1, authorizerToken: 3})
	if !strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("nothing was logged:\n%s", r.log.String())
	}
	gone.set(false)
	for deadline := time.Now().Add(30 * time.Second); r.stored(t) != r.wx.RefreshToken(component, account); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the refresh token was not stored")
		}
	}
	r.tokens[0].Close() // waits for the attempts
}

// TestImportedRefreshToken: a configured refresh token is used where Redis has none.
func TestImportedRefreshToken(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newProviderRig(t, rdb, 1)
	r.ticket(t)
	r.authorize(t)
	r.cred.RefreshToken = wechat.Secret(r.wx.RefreshToken(component, account))
	r.each(t, 1)
	r.wantCalls(t, map[string]int64{authorizerInfo: 0, authorizerToken: 1})
	r.wantStored(t)
}

// TestAuthorizationEvents: events come again, late and out of order.
func TestAuthorizationEvents(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 2)
		r.ticket(t)
		start := time.Now().Truncate(time.Second)
		authorize := func(code wechat.Secret, at time.Duration) bool {
			t.Helper()
			done, err := r.tokens[0].Authorize(t.Context(), component, account, code, start.Add(at))
			if r.failed(err) != nil {
				t.Fatal(err)
			}
			return done
		}
		deauthorize := func(provider string, at time.Duration) bool {
			t.Helper()
			done, err := r.tokens[1].Deauthorize(t.Context(), provider, account, start.Add(at))
			if err != nil {
				t.Fatal(err)
			}
			return done
		}
		first := r.authorize(t)
		once, again := authorize(first, 0), authorize(first, 0)
		if !once || !again {
			t.Error("the same authorization again is done, too")
		}
		r.wantCalls(t, map[string]int64{queryAuth: 1})
		r.each(t, 1)

		if deauthorize("wx00000000000000aa", time.Second) {
			t.Error("another provider's event counts")
		}
		if err := r.wx.Unauthorize(component, account); err != nil {
			t.Fatal(err)
		}
		if deauthorize(component, 0) || !deauthorize(component, 2*time.Second) || r.stored(t) != "" {
			t.Error("the later event counts")
		}
		var api *wechat.APIError
		for _, tokens := range r.tokens {
			if err := r.send(t.Context(), tokens); !errors.As(err, &api) || api.Class() != wechat.ClassUnauthorized || wechat.Written(err) && api.Endpoint != wechat.EndpointCustom {
				t.Errorf("after the account took its authorization back: %v", err)
			}
		}
		if authorize(first, time.Second) {
			t.Error("an event that came late counts")
		}

		second := r.authorize(t)
		if !authorize(second, 3*time.Second) || deauthorize(component, 2*time.Second) || deauthorize(component, 3*time.Second) {
			t.Error("the new authorization counts")
		}
		r.wantStored(t)
		for _, tokens := range r.tokens {
			if _, err := tokens.Renew(t.Context(), account, wechat.Token{}); err != nil {
				t.Error(err)
			}
		}
		r.each(t, 2)

		// The code was used, by a process that died before it stored the answer.
		third := r.authorize(t)
		other := newProviderRig(t, redistestClient(t), 1)
		other.wx, other.cfg = r.wx, r.cfg
		other.tokens = []*wechat.Tokens{wechat.NewTokens(r.cfg, other.rdb, r.credential, wechat.WithLogger(slog.New(slog.DiscardHandler)))}
		t.Cleanup(other.tokens[0].Close)
		other.ticket(t)
		if done, err := other.tokens[0].Authorize(t.Context(), component, account, third, start); !done || err != nil {
			t.Fatal(done, err)
		}
		r.ticket(t)
		if !authorize(third, 4*time.Second) {
			t.Error("WeChat tells the refresh token of a code that was used")
		}
		r.wantStored(t)
	})
}

func redistestClient(t *testing.T) redis.UniversalClient {
	t.Helper()
	_, rdb := redistest.Mini(t)
	return rdb
}

// TestAskAuthorization: asking shows whether the authorization works now, and stores the new token.
func TestAskAuthorization(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newProviderRig(t, rdb, 1)
	r.ticket(t)
	if err := r.failed(r.tokens[0].Ask(t.Context(), account)); err == nil {
		t.Error("an account that authorized nothing has a token")
	}
	r.authorize(t)
	for _, app := range []string{account, component} {
		if err := r.tokens[0].Ask(t.Context(), app); err != nil {
			t.Error(err)
		}
	}
	r.each(t, 1)
	r.wantCalls(t, map[string]int64{authorizerToken: 1, componentToken: 2})
}
