package wechat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// tokenServer is a WeChat with its token rules: a classic token is new each time, a
// stable or external one stays the same until it is revoked.
type tokenServer struct {
	*httptest.Server
	mu      sync.Mutex
	fetches int
	serial  int
	valid   string
	life    int
	refuse  string // the answer to token requests instead of a token
	before  func() // runs in each token request, without the lock
	queries []string
}

func newTokenServer(t *testing.T) *tokenServer {
	t.Helper()
	s := &tokenServer{life: 7200}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case string(EndpointToken), string(EndpointStableToken), "/external":
		s.serveToken(w, r)
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		if r.URL.Query().Get("access_token") != s.valid {
			_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential, access_token is invalid or not latest"}`)
			return
		}
		_, _ = io.WriteString(w, okAnswer)
	}
}

func (s *tokenServer) serveToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fetches++
	secret := r.URL.Query().Get("secret")
	if r.Method == http.MethodPost {
		var body map[string]string
		if json.NewDecoder(r.Body).Decode(&body) == nil && body["grant_type"] == "client_credential" && body["appid"] == testApp {
			secret = body["secret"]
		}
	}
	s.queries = append(s.queries, r.URL.RawQuery)
	switch {
	case s.refuse != "":
		_, _ = io.WriteString(w, s.refuse)
	case r.URL.Path != "/external" && secret != testSecret:
		_, _ = fmt.Fprintf(w, `{"errcode":40125,"errmsg":"invalid appsecret %s rid: 1-2-3"}`, secret) //nolint:gosec // a test's own answer
	default:
		if s.valid == "" || r.URL.Path == string(EndpointToken) {
			s.serial++
			s.valid = fmt.Sprintf("%s-%d", testToken, s.serial)
		}
		_, _ = fmt.Fprintf(w, `{"access_token":%q,"expires_in":%d}`, s.valid, s.life)
	}
}

func (s *tokenServer) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *tokenServer) revoke() { s.set(func() { s.valid = "" }) }

func (s *tokenServer) fetched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches
}

// clock is a clock that stands until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// replicas are several Tokens of one Redis and one WeChat.
type replicas struct {
	server  *tokenServer
	rdb     redis.UniversalClient
	clock   *clock
	log     *logBuffer
	tokens  []*Tokens
	mu      sync.Mutex
	results map[string]int
	cred    Credential
}

func newReplicas(t *testing.T, rdb redis.UniversalClient, mode string, n int) *replicas {
	t.Helper()
	r := &replicas{
		server:  newTokenServer(t),
		rdb:     rdb,
		clock:   &clock{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)},
		log:     new(logBuffer),
		results: make(map[string]int),
	}
	r.cred = Credential{App: testApp, Secret: testSecret, Mode: mode, URL: r.server.URL + "/external?key=" + testWords}
	for range n {
		tokens := NewTokens(Config{BaseURL: r.server.URL, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, rdb, r.credential,
			WithClock(r.clock.Now),
			WithLogger(slog.New(slog.NewTextHandler(r.log, nil))),
			WithOnRefresh(func(_, result string) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.results[result]++
			}))
		t.Cleanup(tokens.Close)
		r.tokens = append(r.tokens, tokens)
	}
	return r
}

func (r *replicas) credential(app string) (Credential, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cred, app == testApp
}

func (r *replicas) result(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.results[name]
}

// each runs fn in m goroutines for each replica, all starting together.
func (r *replicas) each(m int, fn func(*Tokens)) {
	start := make(chan struct{})
	var running sync.WaitGroup
	for _, tokens := range r.tokens {
		for range m {
			running.Go(func() {
				<-start
				fn(tokens)
			})
		}
	}
	close(start)
	running.Wait()
}

func (r *replicas) mustToken(t *testing.T, tokens *Tokens) Token {
	t.Helper()
	token, err := tokens.Token(t.Context(), testApp)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (r *replicas) wantFetches(t *testing.T, want int) {
	t.Helper()
	if got := r.server.fetched(); got != want {
		t.Errorf("%d token requests, want %d", got, want)
	}
}

func TestOneRefreshForAll(t *testing.T) {
	for _, mode := range []string{"", ModeStable, ModeClassic, ModeExternal} {
		t.Run("mode "+mode, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, mode, 6)
				r.each(20, func(tokens *Tokens) {
					if _, err := tokens.Token(t.Context(), testApp); err != nil {
						t.Error(err)
					}
				})
				r.wantFetches(t, 1)

				for round := range 3 {
					r.server.revoke()
					r.each(20, func(tokens *Tokens) {
						client := NewClient(Config{BaseURL: r.server.URL, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, tokens)
						defer client.CloseIdle()
						if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
							t.Error(err)
						}
					})
					r.wantFetches(t, round+2)
				}
				if r.result("ok") != 4 {
					t.Errorf("results %v", r.results)
				}
				wantUnseen(t, r.log.String())
			})
		})
	}
}

func TestRefreshAheadOfExpiry(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeClassic, 4)
		first := r.mustToken(t, r.tokens[0])
		if want := r.clock.Now().Add(2 * time.Hour); !first.ExpiresAt.Equal(want) {
			t.Errorf("expires at %v, want %v", first.ExpiresAt, want)
		}
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.clock.Add(2*time.Hour - refreshAhead - time.Second) // not due yet, for no replica
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.wantFetches(t, 1)

		r.clock.Add(2 * time.Minute) // due, for all
		r.each(20, func(tokens *Tokens) {
			if token, err := tokens.Token(t.Context(), testApp); err != nil || token.Value == "" {
				t.Error(err)
			}
		})
		r.settle(t)
		r.clock.Add(firstPause) // when they look again
		for _, tokens := range r.tokens {
			r.mustToken(t, tokens)
		}
		r.settle(t)
		for i, tokens := range r.tokens {
			if r.mustToken(t, tokens).Value == first.Value {
				t.Errorf("replica %d still has the old token", i)
			}
		}
		r.wantFetches(t, 2)
	})
}

// In its last five minutes WeChat may still give the same stable token, with less and
// less life. It is asked again, but not all the time.
func TestSameStableTokenIsNotHammered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 2)
		r.server.set(func() { r.server.life = 310 })
		r.mustToken(t, r.tokens[0])
		for range 60 { // five minutes in steps of 5 s
			r.clock.Add(5 * time.Second)
			r.each(5, func(tokens *Tokens) {
				if _, err := tokens.Token(t.Context(), testApp); err != nil {
					t.Error(err)
				}
			})
			r.settle(t)
		}
		if n := r.server.fetched(); n < 2 || n > 3 {
			t.Errorf("%d token requests within 5 minutes, want 2 or 3", n)
		}
	})
}

// settle waits until nobody is looking for a token.
func (r *replicas) settle(t *testing.T) {
	t.Helper()
	redistest.Until(t, 10*time.Second, "no flight is under way", func() bool {
		for _, tokens := range r.tokens {
			tokens.mu.Lock()
			n := len(tokens.flights)
			tokens.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}

func TestFailedRefreshKeepsTheToken(t *testing.T) {
	for name, refuse := range map[string]string{"busy": `{"errcode":-1,"errmsg":"system error"}`, "no answer of WeChat's": `<html>`} {
		t.Run(name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				r := newReplicas(t, rdb, ModeStable, 3)
				first := r.mustToken(t, r.tokens[0])
				r.server.set(func() { r.server.refuse = refuse })
				r.clock.Add(2*time.Hour - 2*time.Minute) // due
				hold := func() {
					t.Helper()
					r.each(10, func(tokens *Tokens) {
						if token, err := tokens.Token(t.Context(), testApp); err != nil || token.Value != first.Value {
							t.Errorf("got %v, %v", token, err)
						}
					})
					r.settle(t)
				}
				hold()
				hold()
				r.wantFetches(t, 2) // one refresh was tried, and nobody tries again at once
				r.clock.Add(firstPause + time.Second)
				hold()
				r.wantFetches(t, 3)
				if r.result("kept") != 2 {
					t.Errorf("results %v", r.results)
				}
				if n := strings.Count(r.log.String(), "token refresh failed"); n == 0 || n > len(r.tokens) {
					t.Errorf("told %d times:\n%s", n, r.log)
				}

				r.clock.Add(3 * time.Minute) // it has run out
				if _, err := r.tokens[0].Token(t.Context(), testApp); err == nil || Written(err) {
					t.Errorf("no token, and no error: %v", err)
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
					wantUnseen(t, err.Error())
				})
				r.wantFetches(t, 1)
				if r.result("config") != 1 || strings.Count(r.log.String(), "level=WARN") != 1 {
					t.Errorf("results %v, log:\n%s", r.results, r.log)
				}
				if strings.Contains(r.log.String(), "0123456789abcdef0123") {
					t.Errorf("the secret is in the log:\n%s", r.log)
				}
				wantUnseen(t, r.log.String())

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

func TestFailureIsToldOnceAndItsEnd(t *testing.T) {
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
		r.wantFetches(t, 2) // remembered
		r.clock.Add(firstPause + time.Second)
		renew()
		r.wantFetches(t, 3) // asked again, once
		r.clock.Add(firstPause + time.Second)
		renew()
		r.wantFetches(t, 3) // the pause has grown
		if got := r.mustToken(t, r.tokens[1]); got.Value != token.Value {
			t.Error("the token has gone, although nothing better is there")
		}

		r.clock.Add(time.Minute)
		r.server.revoke()
		renewed, err := r.tokens[2].Renew(t.Context(), testApp, token)
		if err != nil || renewed.Value == token.Value {
			t.Errorf("got %v, %v", renewed, err)
		}
		adopted, err := r.tokens[3].Renew(t.Context(), testApp, token)
		if err != nil || adopted.Value != renewed.Value {
			t.Errorf("got %v, %v: not the shared one", adopted, err)
		}
		r.wantFetches(t, 4)
	})
}

func TestExternalTokens(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeExternal, 1)
	r.cred.Secret = ""
	token := r.mustToken(t, r.tokens[0])
	r.server.revoke()
	if _, err := r.tokens[0].Renew(t.Context(), testApp, token); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"app=" + testApp + "&key=" + testWords, "app=" + testApp + "&key=" + testWords + "&rejected=" + tokenHash(token.Value)} {
		if r.server.queries[i] != want {
			t.Errorf("asked with %s, want %s", r.server.queries[i], want)
		}
	}
	r.cred.URL = "nothing"
	r.server.Close()
	r.clock.Add(3 * time.Hour)
	_, err := r.tokens[0].Token(t.Context(), testApp)
	if err == nil || Written(err) {
		t.Errorf("got %v", err)
	}
	r.clock.Add(time.Hour)
	r.cred.URL = r.server.URL + "/external?key=" + testWords
	_, err = r.tokens[0].Token(t.Context(), testApp)
	if err == nil || Written(err) {
		t.Errorf("got %v", err)
	}
	wantUnseen(t, err.Error()+r.log.String())
}

func TestLockOfADeadReplica(t *testing.T) {
	t.Run("redis", func(t *testing.T) {
		rdb := redistest.Start(t).Client(t)
		r := newReplicas(t, rdb, ModeStable, 2)
		if err := rdb.Set(t.Context(), lockKey(testApp), "the dead", 200*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		r.each(5, func(tokens *Tokens) {
			if _, err := tokens.Token(t.Context(), testApp); err != nil {
				t.Error(err)
			}
		})
		r.wantFetches(t, 1)
	})
	t.Run("miniredis", func(t *testing.T) {
		m, rdb := redistest.Mini(t)
		r := newReplicas(t, rdb, ModeStable, 1)
		locked, err := tokenStore{rdb}.lock(t.Context(), testApp, "the dead", r.tokens[0].lockTTL)
		if err != nil || !locked {
			t.Fatal(locked, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := r.tokens[0].Token(ctx, testApp)
			gaveUp <- err
		}()
		cancel() // a caller that leaves does not take the others' flight with it
		if err := <-gaveUp; !errors.Is(err, context.Canceled) || Written(err) {
			t.Errorf("got %v", err)
		}
		r.wantFetches(t, 0)
		m.FastForward(r.tokens[0].lockTTL + time.Second)
		r.mustToken(t, r.tokens[0])
		r.wantFetches(t, 1)
	})
}

// A refresh that took longer than its lock must not overwrite the newer token that
// another replica got meanwhile.
func TestLateRefreshDoesNotOverwrite(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeClassic, 1)
		var once sync.Once
		r.server.set(func() {
			r.server.before = func() {
				once.Do(func() { // the lock goes to another, who is done before we are
					store := tokenStore{rdb}
					if err := rdb.Set(t.Context(), lockKey(testApp), "another", 0).Err(); err != nil {
						t.Error(err)
					}
					newer := sharedToken{Token: Token{Value: "newer", ExpiresAt: r.clock.Now().Add(time.Hour)}, fetchedAt: r.clock.Now(), life: time.Hour}
					if saved, err := store.save(t.Context(), testApp, "another", newer); err != nil || !saved {
						t.Error(saved, err)
					}
				})
			}
		})
		if got := r.mustToken(t, r.tokens[0]); got.Value != "newer" {
			t.Errorf("got %s", got.Value.Reveal())
		}
	})
}

func TestRedisAway(t *testing.T) {
	m, _ := redistest.Mini(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), MaxRetries: -1, DialerRetries: 1}) // it shall give up soon
	t.Cleanup(func() { _ = rdb.Close() })
	r := newReplicas(t, rdb, ModeStable, 2)
	first := r.mustToken(t, r.tokens[0])
	m.Close()
	r.clock.Add(time.Hour) // it would look at Redis now
	for range 3 {
		if got := r.mustToken(t, r.tokens[0]); got.Value != first.Value {
			t.Error("another token")
		}
		r.settle(t)
		r.clock.Add(2 * lookEvery)
	}
	_, err := r.tokens[1].Token(t.Context(), testApp)
	var tokenErr *TokenError
	if !errors.As(err, &tokenErr) || Written(err) {
		t.Errorf("got %v", err)
	}
	if _, err := r.tokens[0].Renew(t.Context(), testApp, first); err == nil {
		t.Error("renewed without Redis")
	}
	r.wantFetches(t, 1)
}

func TestNoCredentials(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	if _, err := r.tokens[0].Token(t.Context(), "wxffffffffffffffff"); !errors.Is(err, ErrNoCredentials) || Advice(err) == "" {
		t.Errorf("got %v", err)
	}
}

func TestCloseEndsFlights(t *testing.T) {
	_, rdb := redistest.Mini(t)
	r := newReplicas(t, rdb, ModeStable, 1)
	reached := make(chan struct{})
	release := make(chan struct{})
	r.server.set(func() {
		r.server.before = func() {
			close(reached)
			<-release
		}
	})
	ended := make(chan error, 1)
	go func() {
		_, err := r.tokens[0].Token(t.Context(), testApp)
		ended <- err
	}()
	<-reached
	r.tokens[0].Close()
	if err := <-ended; err == nil {
		t.Error("a token after Close")
	}
	close(release)
	if _, err := r.tokens[0].Token(t.Context(), testApp); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if n, err := rdb.Exists(t.Context(), lockKey(testApp), failKey(testApp)).Result(); err != nil || n != 0 {
		t.Errorf("%d keys left behind, %v", n, err)
	}
}

func TestTokenAnswersThatAreNone(t *testing.T) {
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

func TestFailureSurvivesRedis(t *testing.T) {
	_, rdb := redistest.Mini(t)
	store := tokenStore{rdb}
	until := time.UnixMilli(1_800_000_000_000)
	for _, err := range []error{
		&APIError{Endpoint: EndpointToken, Code: 40164, Msg: "invalid ip", RID: "1-2-3"},
		&AnswerError{Endpoint: EndpointToken, Status: 502, Reason: "not an answer of WeChat's"},
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
