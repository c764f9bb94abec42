package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	app   = "wx0123456789abcdef"
	other = "wx00000000000000ff" // configured; the key of onlyApp may not use it
	alien = "wxffffffffffffffff" // not configured
	queue = app + ":" + tasks.TypeCustom
)

// The values of requests that no answer and no log may contain.
const (
	openid  = "oSecretPerson"
	message = "a-message-to-a-person"
)

// fixture is an API on a Redis, served over HTTP.
type fixture struct {
	*testing.T
	rdb    redis.UniversalClient
	client *tasks.Client
	api    *api.API
	url    string
	log    *e2e.Output

	mu  sync.Mutex
	key *apikey.Key // guarded by mu
}

func newFixture(t *testing.T, rdb redis.UniversalClient, change ...func(*api.Deps)) *fixture {
	t.Helper()
	f := &fixture{T: t, rdb: rdb, client: tasks.NewClient(rdb), log: &e2e.Output{}, key: apikey.Local()}
	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return nil })
	holds := hold.NewStore(rdb)
	deps := api.Deps{
		Redis: rdb, Tasks: f.client, Inspector: tasks.NewInspector(rdb), Holds: holds,
		Reader:     inspect.NewReader(rdb, limiter, holds),
		Apps:       func() []api.App { return []api.App{{ID: app}, {ID: other}} },
		Log:        slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		SyncPauses: func(context.Context, string) error { return nil },
		AskQuotas:  func(context.Context, string, []string) error { return nil },
		RefreshTemplates: func(ctx context.Context, app string) (*templates.Registry, error) {
			return templates.Read(ctx, rdb, app)
		},
	}
	for _, c := range change {
		c(&deps)
	}
	f.api = api.New(deps)
	t.Cleanup(func() { _ = limiter.Close(context.WithoutCancel(t.Context())) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		key := f.key
		f.mu.Unlock()
		f.api.ServeHTTP(w, r.WithContext(apikey.NewContext(r.Context(), key)))
	}))
	f.url = server.URL
	t.Cleanup(func() {
		f.api.EndWaits()
		server.Close()
		f.api.Close()
		f.clean("the log", f.log.String())
	})
	return f
}

// impatient returns a client that does not try again while Redis is away.
func impatient(t *testing.T, server *redistest.Server) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// as makes the requests from now on have a key.
func (f *fixture) as(key *apikey.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.key = key
}

// clean fails the test if a text has a value of a request.
func (f *fixture) clean(where, text string) {
	f.Helper()
	for _, hidden := range []string{openid, message} {
		if strings.Contains(text, hidden) {
			f.Errorf("%s contains %q:\n%s", where, hidden, text)
		}
	}
}

// answer is the answer to a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; the test fails if the answer has a value of a request.
func (f *fixture) do(method, path, body string, header ...string) answer {
	f.Helper()
	a, err := f.try(method, path, strings.NewReader(body), header...)
	if err != nil {
		f.Fatal(err)
	}
	return a
}

func (f *fixture) try(method, path string, body io.Reader, header ...string) (answer, error) {
	r, err := http.NewRequestWithContext(f.Context(), method, f.url+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	f.clean("an answer", string(text))
	return answer{response.StatusCode, response.Header, string(text)}, nil
}

// problem decodes an answer, which must be a problem of a status.
func (f *fixture) problem(a answer, status int) problem.Problem {
	f.Helper()
	p := decode[problem.Problem](f, a.body)
	if a.status != status || p.Status != status || p.Title != http.StatusText(status) || a.header.Get("Content-Type") != problem.ContentType {
		f.Fatalf("want a problem of %d, got %d %s: %s", status, a.status, a.header.Get("Content-Type"), a.body)
	}
	return p
}

func decode[T any](f *fixture, text string) (v T) {
	f.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		f.Fatalf("%v: %s", err, text)
	}
	return v
}

// envelope returns the JSON of a task; without an id if id is empty.
func envelope(id string) string { return envelopeOf(app, id, message) }

func envelopeOf(app, id, text string) string {
	field := ""
	if id != "" {
		field = fmt.Sprintf(`"id":%q,`, id)
	}
	return fmt.Sprintf(`{"type":"send:custom","app":%q,%s"body":{"touser":%q,"msgtype":"text","text":{"content":%q}}}`, app, field, openid, text)
}

// end ends a task as a worker does.
func (f *fixture) end(id string, outcome tasks.Outcome) { f.endGeneration(id, outcome, 0) }

func (f *fixture) endGeneration(id string, outcome tasks.Outcome, generation int) {
	f.Helper()
	now := time.Now()
	r := tasks.Result{
		ID: id, App: app, Type: tasks.TypeCustom, State: tasks.StateDone, Outcome: outcome, Attempts: 1,
		Generation: generation, EnqueuedAt: now, FinishedAt: now,
	}
	_, err := newLedger(f.rdb).Settle(f.Context(), ledger.Ref{App: app, ID: id}, ledger.SettleRequest{
		Outcome: string(outcome), Result: r.Encode(), Queue: queue, Generation: generation,
		Content: ledger.TaskContent{Payload: []byte(envelope(id))},
	})
	if err != nil {
		f.Fatal(err)
	}
}

func newLedger(rdb redis.UniversalClient) *ledger.Ledger {
	return ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 1000, DeadAfter: time.Minute, LostLimit: 3})
}
