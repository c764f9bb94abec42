package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	app    = "wx0123456789abcdef"
	other  = "wxfedcba9876543210"
	secret = "0123456789abcdef0123456789abcdef"
)

// keyRing is the keys of a gateway.
type keyRing struct {
	mu   sync.Mutex
	keys map[string]*apikey.Key // by the key itself
}

func (k *keyRing) Authenticate(key string) (*apikey.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if found, ok := k.keys[key]; ok {
		return found, nil
	}
	return nil, errors.New("no such key")
}

func (k *keyRing) Get(id string) (*apikey.Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.keys {
		if key.ID == id {
			return key, true
		}
	}
	return nil, false
}

// add adds a key with the scope call, and returns it.
func (k *keyRing) add(key apikey.Key) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	text := "wxc_" + key.ID + "_abcdefghijklmnop"
	key.Fingerprint = fmt.Sprintf("%x", sha256.Sum256([]byte(text)))[:24]
	if key.Scopes == nil {
		key.Scopes = []apikey.Scope{apikey.Call}
	}
	k.keys[text] = &key
	return text
}

func (k *keyRing) remove(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, text)
}

// shop is a WeChat, and what is configured in front of it.
type shop struct {
	t      testing.TB
	wx     *sandbox.Server
	url    string // of WeChat
	rdb    redis.UniversalClient
	keys   *keyRing
	key    string // with the scope call
	limits map[string]ratelimit.Limit
	pace   ratelimit.Config
	apps   map[string]proxy.App
	log    *logText
	wait   time.Duration
	seen   *recorder
}

// logText is what was logged.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// recorder passes requests on, and remembers the last ones as WeChat got them.
type recorder struct {
	next http.Handler
	mu   sync.Mutex
	all  []recorded
	says map[string]int // by path: errcodes that are answered in place of the sandbox

	forget bool // nothing is remembered
}

type recorded struct {
	method, path, contentType string
	query                     url.Values
	body                      []byte
}

func (s *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.forget {
		s.next.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.all = append(s.all, recorded{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.URL.Query(), body})
	code := s.says[r.URL.Path]
	s.mu.Unlock()
	if code != 0 {
		_, _ = fmt.Fprintf(w, `{"errcode":%d,"errmsg":"refused rid: 6500-1"}`, code)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	s.next.ServeHTTP(w, r)
}

// say makes calls to a path get an errcode; 0 ends that.
func (s *recorder) say(path string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.says == nil {
		s.says = make(map[string]int)
	}
	s.says[path] = code
}

// of returns the requests for a path.
func (s *recorder) of(path string) []recorded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(r recorded) bool { return r.path != path })
}

func newShop(t testing.TB, rdb redis.UniversalClient) *shop {
	t.Helper()
	s := &shop{
		t: t, wx: sandbox.New(sandbox.Options{Apps: map[string]string{app: secret, other: secret}}), rdb: rdb,
		keys: &keyRing{keys: make(map[string]*apikey.Key)}, log: &logText{}, wait: 10 * time.Second,
		apps: map[string]proxy.App{app: {}, other: {}}, limits: make(map[string]ratelimit.Limit), pace: ratelimit.DefaultConfig(),
	}
	s.seen = &recorder{next: s.wx}
	server := httptest.NewServer(s.seen)
	t.Cleanup(server.Close)
	s.url = server.URL
	s.key = s.keys.add(apikey.Key{ID: "shop"})
	return s
}

// gateway is one gateway of a shop.
type gateway struct {
	*shop
	url      string
	limiter  *ratelimit.Limiter
	registry *prometheus.Registry
	series   *series.Recorder
	proxy    *proxy.Proxy
}

// start starts a gateway, as a process of its own would have it.
func (s *shop) start() *gateway {
	s.t.Helper()
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = s.url
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	tokens := wechat.NewTokens(cfg, s.rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: secret}, true
	}, wechat.WithLogger(log))
	client := wechat.NewClient(cfg, tokens)
	limiter := ratelimit.NewLimiter(s.rdb, s.pace, func(string) map[string]ratelimit.Limit { return s.limits })
	registry, outcomes := prometheus.NewRegistry(), series.NewRecorder(s.rdb, log)
	p, err := proxy.New(proxy.Config{Wait: s.wait}, proxy.Deps{
		Redis: s.rdb, Tasks: tasks.NewClient(s.rdb), Limiter: limiter, WeChat: client, Tokens: tokens, Keys: s.keys,
		App:    func(id string) (proxy.App, bool) { a, ok := s.apps[id]; return a, ok },
		Policy: ledger.Policy{Retention: time.Hour, DeadAfter: time.Minute, LostLimit: 3, IndexOpenIDs: true}, Registry: registry, Log: log,
		CountOutcome: func(r tasks.Result) { outcomes.Add(r.App, r.Type, string(r.Outcome), r.ErrCode) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	server := httptest.NewServer(http.StripPrefix("/wechat", p))
	s.t.Cleanup(func() {
		server.Close()
		p.Close()
		_ = limiter.Close(context.Background())
		tokens.Close()
		client.CloseIdle()
	})
	return &gateway{s, server.URL + "/wechat", limiter, registry, outcomes, p}
}

// reply is an answer to a client.
type reply struct {
	status      int
	header      http.Header
	body        []byte
	ErrCode     int    `json:"errcode"`
	ErrMsg      string `json:"errmsg"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	OpenLink    string `json:"openlink"`
	MsgID       json.Number
	OpenID      string `json:"openid"`
	Task        struct{ App, ID string }
}

func (r reply) String() string {
	return fmt.Sprintf("%d %s %.300q", r.status, r.header.Get("Content-Type"), r.body)
}

// send sends a request; header is a list of names and values.
func (g *gateway) send(method, path string, query url.Values, body string, header ...string) reply {
	g.t.Helper()
	target := g.url + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(g.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	a := reply{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		g.t.Fatal(err)
	}
	_ = json.Unmarshal(a.body, &a) // images are none
	return a
}

// ticketOf returns the answer to a request for a ticket.
func (g *gateway) ticketOf(key, app string) reply {
	return g.send(http.MethodGet, "/cgi-bin/token", url.Values{"grant_type": {"client_credential"}, "appid": {app}, "secret": {key}}, "")
}

// tokenOf returns a token of WeChat's.
func (g *gateway) tokenOf() string {
	direct := &gateway{shop: g.shop, url: g.shop.url}
	return direct.ticketOf(secret, app).AccessToken
}

// ticket returns a ticket of the shop's key.
func (g *gateway) ticket() string {
	g.t.Helper()
	a := g.ticketOf(g.key, app)
	if a.AccessToken == "" {
		g.t.Fatalf("no ticket: %v", a)
	}
	return a.AccessToken
}

// post calls a path with a ticket.
func (g *gateway) post(ticket, path, body string, header ...string) reply {
	g.t.Helper()
	return g.send(http.MethodPost, path, url.Values{"access_token": {ticket}}, body, header...)
}

func wantRefused(t *testing.T, what string, a reply, code int) {
	t.Helper()
	if a.ErrCode != code || !strings.Contains(a.ErrMsg, "wxcourier") {
		t.Errorf("%s: %v, want %d of wxcourier", what, a, code)
	}
}

// decode decodes the body of an answer.
func (r reply) decode(t *testing.T, into any) {
	t.Helper()
	if err := json.Unmarshal(r.body, into); err != nil {
		t.Fatalf("%v: %v", err, r)
	}
}

// inParallel calls do for 0 to n-1 at once.
func inParallel(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}
