package console

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

// The apps of the tests.
const (
	testApp  = "wx0123456789abcdef"
	otherApp = "wxfedcba9876543210" // the key oneApp may not use it
)

// The keys of the tests, by their ids.
const (
	readKey    = "reader"    // read
	operateKey = "operator"  // read, operate, enqueue
	oneAppKey  = "one-app"   // read, operate, enqueue, of testApp
	sendKey    = "sender"    // enqueue: it may not sign in
	script     = "<script>x" // has to be escaped wherever it is shown
)

func testKeys() []apikey.Key {
	all := []apikey.Scope{apikey.Read, apikey.Operate, apikey.Enqueue}
	return []apikey.Key{
		{ID: readKey, Scopes: []apikey.Scope{apikey.Read}},
		{ID: operateKey, Scopes: all},
		{ID: oneAppKey, Scopes: all, Apps: []string{testApp}},
		{ID: sendKey, Scopes: []apikey.Scope{apikey.Enqueue}},
	}
}

// site is a console on a Redis, served over HTTP and protected as the gateway does.
type site struct {
	*testing.T
	Deps
	console *Console
	server  *httptest.Server
	log     *e2e.Output
	file    string            // of the keys
	keys    map[string]string // by id
}

// newSite starts a console. change changes its dependencies.
func newSite(t *testing.T, rdb redis.UniversalClient, change ...func(*Deps)) *site {
	t.Helper()
	s := &site{T: t, log: &e2e.Output{}, file: filepath.Join(t.TempDir(), "keys"), keys: make(map[string]string)}
	for _, key := range testKeys() {
		text, err := apikey.Add(s.file, key)
		if err != nil {
			t.Fatal(err)
		}
		s.keys[key.ID] = text
	}
	log := slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	limiter, holds := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil), hold.NewStore(rdb)
	tokens := wechat.NewTokens(wechat.DefaultConfig(), rdb, func(string) (wechat.Credential, bool) { return wechat.Credential{}, false })
	t.Cleanup(tokens.Close)
	t.Cleanup(func() { _ = limiter.Close(context.WithoutCancel(t.Context())) })
	s.Deps = Deps{
		Redis: rdb, Tasks: tasks.NewClient(rdb), Inspector: tasks.NewInspector(rdb), Limiter: limiter, Holds: holds, Tokens: tokens,
		Reader:     inspect.NewReader(rdb, limiter, holds),
		Apps:       func() []App { return []App{{ID: testApp}, {ID: otherApp}} },
		Keys:       apikey.NewSet(s.file, log),
		SyncPauses: func(context.Context, string) error { return nil },
		AskQuotas:  func(context.Context, string, []string) error { return nil },
		Log:        log,
	}
	for _, c := range change {
		c(&s.Deps)
	}
	if err := s.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.console, err = New(s.Deps); err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(httpguard.New("127.0.0.1:0").Protect(s.console))
	t.Cleanup(func() {
		s.console.Drain()
		s.server.Close()
		for id, key := range s.keys {
			if strings.Contains(s.log.String(), key) {
				t.Errorf("the log has the key %s:\n%s", id, s.log.String())
			}
		}
	})
	return s
}

// openKeys lets a site have no keys, as dev does.
func openKeys(d *Deps) { d.Keys = apikey.NewSet("", d.Log) }

// user is a browser.
type user struct {
	*site
	client *http.Client
	lang   string // of Accept-Language
}

// answered is the answer to a request of a browser. Redirects are not followed.
type answered struct {
	status   int
	location string
	header   http.Header
	body     string
}

// visitor returns a browser that has not signed in.
func (s *site) visitor() *user {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	client := s.server.Client()
	return &user{site: s, lang: "en", client: &http.Client{
		Transport: client.Transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// as returns a browser that has signed in with a key.
func (s *site) as(id string) *user {
	s.Helper()
	u := s.visitor()
	if a := u.send(http.MethodPost, "/signin", url.Values{"key": {s.keys[id]}}); a.status != http.StatusSeeOther {
		s.Fatalf("signing in with %s: status %d\n%s", id, a.status, a.body)
	}
	return u
}

// speaking returns the same browser with another language.
func (u *user) speaking(lang string) *user { return &user{u.site, u.client, lang} }

// get opens a page.
func (u *user) get(path string) answered {
	u.Helper()
	return u.send(http.MethodGet, path, nil)
}

// post sends a form with the token of the session.
func (u *user) post(path string, form url.Values) answered {
	u.Helper()
	if form == nil {
		form = url.Values{}
	}
	form.Set("token", u.token())
	return u.send(http.MethodPost, path, form)
}

var tokenField = regexp.MustCompile(`name="token" value="([^"]*)"`)

// token returns the token of the forms of the browser's session.
func (u *user) token() string {
	u.Helper()
	found := tokenField.FindStringSubmatch(u.get("/").body)
	if found == nil {
		u.Fatal("the overview has no form with a token")
	}
	return found[1]
}

// send sends a request as a browser does.
func (u *user) send(method, path string, form url.Values) answered {
	u.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(u.Context(), method, u.server.URL+path, body)
	if err != nil {
		u.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r.Header.Set("Accept", "text/html,*/*;q=0.8")
	r.Header.Set("Accept-Language", u.lang)
	return u.do(r)
}

func (u *user) do(r *http.Request) answered {
	u.Helper()
	res, err := u.client.Do(r)
	if err != nil {
		u.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		u.Fatal(err)
	}
	return answered{res.StatusCode, res.Header.Get("Location"), res.Header, string(text)}
}
