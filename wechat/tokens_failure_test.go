package wechat

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestFailedRefreshKeepsTheToken(t *testing.T) {
	for name, refuse := range map[string]string{"busy": `{"errcode":-1,"errmsg":"system error"}`, "not an answer from WeChat": `<html>`} {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, ModeStable, 3)
				first := r.mustToken(t, r.tokens[0])
				r.server.set(func() { r.server.refuse = refuse })
				r.clock.Add(2*time.Hour - 2*time.Minute) // due
				wantKept := func() {
					t.Helper()
					r.each(10, func(tokens *Tokens) {
						if token, err := tokens.Token(t.Context(), testApp); err != nil || token.Value != first.Value {
							t.Errorf("got %v, %v", token, err)
						}
					})
					r.waitIdle(t)
				}
				wantKept()
				wantKept()
				r.wantFetches(t, 2) // one refresh was tried; the others wait for its backoff
				r.clock.Add(firstBackoff + time.Second)
				wantKept()
				r.wantFetches(t, 3)
				if r.result("kept") != 2 {
					t.Errorf("results %v", r.results)
				}
				if n := strings.Count(r.log.String(), "token refresh failed"); n == 0 || n > len(r.tokens) {
					t.Errorf("logged %d times:\n%s", n, r.log)
				}

				r.clock.Add(3 * time.Minute) // the token has expired
				if _, err := r.tokens[0].Token(t.Context(), testApp); err == nil || Written(err) {
					t.Errorf("an expired token and Redis' failure: %v", err)
				}
				r.server.set(func() { r.server.refuse = "" })
				r.clock.Add(time.Minute)
				r.mustToken(t, r.tokens[0])
			})
		})
	}
}

func TestConfigFailure(t *testing.T) {
	tests := []struct {
		name   string
		mode   string
		refuse string
		secret Secret
		code   int
		advice string
	}{
		{"wrong secret", ModeStable, "", "0123456789abcdef0123456789abcdef", 40125, "secret"},
		{"wrong secret, classic", ModeClassic, "", "0123456789abcdef0123456789abcdef", 40125, "secret"},
		{"40001 of a token endpoint", ModeStable, `{"errcode":40001,"errmsg":"invalid credential"}`, testSecret, 40001, "secret"},
		{"IP blocked", ModeClassic, `{"errcode":40164,"errmsg":"invalid ip 1.2.3.4 ipv6 ::ffff:1.2.3.4, not in whitelist rid: 1-2-3"}`, testSecret, 40164, "whitelist"},
		{"account frozen", ModeStable, `{"errcode":50007,"errmsg":"account is frozen"}`, testSecret, 50007, "frozen"},
		{"refused by the administrator", ModeStable, `{"errcode":89506,"errmsg":"x"}`, testSecret, 89506, "24 hours"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, tt.mode, 4)
				r.cred.Secret = tt.secret
				r.server.set(func() { r.server.refuse = tt.refuse })
				r.each(20, func(tokens *Tokens) {
					_, err := tokens.Token(t.Context(), testApp)
					var tokenErr *TokenError
					var apiErr *APIError
					if !errors.As(err, &tokenErr) || !errors.As(err, &apiErr) || apiErr.Code != tt.code || apiErr.Class() != ClassConfig || Written(err) {
						t.Errorf("got %v", err)
					}
					if !strings.Contains(Advice(err), tt.advice) {
						t.Errorf("the advice is %q", Advice(err))
					}
					wantNoSecrets(t, err.Error())
				})
				r.wantFetches(t, 1)
				if r.result("config") != 1 || strings.Count(r.log.String(), "level=WARN") != 1 {
					t.Errorf("results %v, log:\n%s", r.results, r.log)
				}
				if strings.Contains(r.log.String(), "0123456789abcdef0123") {
					t.Errorf("the secret is in the log:\n%s", r.log)
				}
				wantNoSecrets(t, r.log.String())

				r.mu.Lock()
				r.cred.Secret = testSecret
				r.mu.Unlock()
				r.server.set(func() { r.server.refuse = "" })
				r.clock.Add(time.Minute)
				for _, tokens := range r.tokens {
					r.mustToken(t, tokens)
				}
				r.wantFetches(t, 2)
			})
		})
	}
}

func TestRefreshFailureIsLoggedOnce(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	r.server.set(func() { r.server.refuse = `{"errcode":40164,"errmsg":"invalid ip 1.2.3.4"}` })
	for range 10 {
		_, _ = r.tokens[0].Token(t.Context(), testApp)
		r.clock.Add(time.Minute)
	}
	r.server.set(func() { r.server.refuse = `{"errcode":40243,"errmsg":"frozen"}` })
	_, _ = r.tokens[0].Token(t.Context(), testApp)
	r.clock.Add(time.Minute)
	r.server.set(func() { r.server.refuse = "" })
	r.mustToken(t, r.tokens[0])
	r.wantFetches(t, 12)
	log := r.log.String()
	if strings.Count(log, "level=WARN") != 2 || strings.Count(log, "level=INFO") != 1 || !strings.Contains(log, "1.2.3.4") || !strings.Contains(log, "whitelist") {
		t.Errorf("log:\n%s", log)
	}
}

func TestRejectedTokenComesBack(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 4)
		token := r.mustToken(t, r.tokens[0])
		renew := func() {
			t.Helper()
			r.each(20, func(tokens *Tokens) {
				if _, err := tokens.Renew(t.Context(), testApp, token); !errors.Is(err, ErrTokenRejected) || Written(err) {
					t.Errorf("got %v", err)
				}
			})
		}
		renew()
		r.wantFetches(t, 2)
		renew()
		r.wantFetches(t, 2) // the failure is stored
		r.clock.Add(firstBackoff + time.Second)
		renew()
		r.wantFetches(t, 3) // one more request
		r.clock.Add(firstBackoff + time.Second)
		renew()
		r.wantFetches(t, 3) // the backoff has grown
		if got := r.mustToken(t, r.tokens[1]); got.Value != token.Value {
			t.Error("the token was dropped without a replacement")
		}

		r.clock.Add(time.Minute)
		r.server.revoke()
		renewed, err := r.tokens[2].Renew(t.Context(), testApp, token)
		if err != nil || renewed.Value == token.Value {
			t.Errorf("got %v, %v", renewed, err)
		}
		adopted, err := r.tokens[3].Renew(t.Context(), testApp, token)
		if err != nil || adopted.Value != renewed.Value {
			t.Errorf("got %v, %v: not the shared token", adopted, err)
		}
		r.wantFetches(t, 4)
	})
}

func TestInvalidTokenAnswers(t *testing.T) {
	for _, answer := range []string{`{}`, `{"access_token":"x"}`, `{"access_token":"x","expires_in":0}`, `{"access_token":"x","expires_in":-5}`, `{"access_token":"x","expires_in":9223372036854775807}`, `{"expires_in":7200}`, `<html>`, ` `} {
		_, rdb := redistest.Mini(t)
		r := newReplicas(t, rdb, ModeStable, 1)
		r.server.set(func() { r.server.refuse = answer })
		_, err := r.tokens[0].Token(t.Context(), testApp)
		var answerErr *AnswerError
		if !errors.As(err, &answerErr) || Written(err) {
			t.Errorf("%s: %v", answer, err)
		}
	}
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	r.server.set(func() { r.server.refuse = `{"access_token":"x","expires_in":"7200"}` })
	if token := r.mustToken(t, r.tokens[0]); token.Value != "x" || !token.ExpiresAt.Equal(r.clock.Now().Add(2*time.Hour)) {
		t.Errorf("expires_in as string: %v", token)
	}
}

func TestFailureRoundTripsThroughRedis(t *testing.T) {
	_, rdb := redistest.Mini(t)
	store := tokenStore{rdb}
	until := time.UnixMilli(1_800_000_000_000)
	for _, err := range []error{
		&APIError{Endpoint: EndpointToken, Code: 40164, Msg: "invalid ip", RID: "1-2-3"},
		&AnswerError{Endpoint: EndpointToken, Status: 502, Reason: "not an answer from WeChat"},
		&TransportError{Endpoint: EndpointToken, Op: "connect", Err: errors.New("connection refused")},
		ErrTokenRejected,
		errors.New("something else"),
	} {
		want := newFailure(err, "rejected-token")
		want.tries, want.until = 3, until
		if _, err := store.lock(t.Context(), testApp, "me", time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := store.fail(t.Context(), testApp, "me", want); err != nil {
			t.Fatal(err)
		}
		_, got, loadErr := store.load(t.Context(), testApp)
		if loadErr != nil || got != want || got.err().Error() != err.Error() {
			t.Errorf("got %+v, %v, want %+v", got, loadErr, want)
		}
	}
}
