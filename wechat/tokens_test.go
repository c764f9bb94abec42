package wechat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// tokenServer is a fake WeChat with its token rules: each request for a classic token issues a
// new one; a stable or external token stays the same until it is revoked.
type tokenServer struct {
	*httptest.Server
	mu      sync.Mutex
	fetches int
	serial  int
	valid   string
	life    int
	refuse  string // when set, the answer to token requests
	before  func() // called in each token request, without mu held
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

// clock is a fake clock that only Add advances.
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

// logBuffer is a buffer for logs that is safe for concurrent use.
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

// replicas are several Tokens that share a Redis and a WeChat.
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
	r.cred = Credential{App: testApp, Secret: testSecret, Mode: mode, URL: r.server.URL + "/external?key=" + testText}
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

// each runs fn in m goroutines per replica, all started together.
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

// waitIdle waits until no refresh is in progress.
func (r *replicas) waitIdle(t *testing.T) {
	t.Helper()
	redistest.Until(t, 10*time.Second, "no refresh is in progress", func() bool {
		for _, tokens := range r.tokens {
			tokens.mu.Lock()
			n := len(tokens.refreshes)
			tokens.mu.Unlock()
			if n > 0 {
				return false
			}
		}
		return true
	})
}
