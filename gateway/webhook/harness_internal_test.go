package webhook

import (
	"bytes"
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
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	app      = "wx0123456789abcdef"
	otherApp = "wxfedcba9876543210"
	secret   = "a-secret-that-is-long-enough-0123456789"
	long     = 60 * time.Second
)

// message is a call that an endpoint has got.
type message struct {
	id   string // webhook-id
	body []byte
	typ  string
	app  string
	ids  []string // of the results
	from string   // of a gap
	to   string
	code int // of the answer
}

// endpoint is a receiver of webhooks, which checks every signature.
type endpoint struct {
	t      *testing.T
	server *httptest.Server
	verify *standardwebhooks.Webhook

	mu       sync.Mutex
	answer   func(m message, w http.ResponseWriter) int // guarded by mu
	messages []message                                  // guarded by mu
}

// newEndpoint starts an endpoint that answers 200.
func newEndpoint(t *testing.T) *endpoint {
	t.Helper()
	verify, err := standardwebhooks.NewWebhookRaw([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{t: t, verify: verify}
	e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
	e.server = httptest.NewServer(e)
	t.Cleanup(e.server.Close)
	return e
}

func (e *endpoint) answers(answer func(m message, w http.ResponseWriter) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if err := e.verify.Verify(body, r.Header); err != nil {
		e.t.Errorf("the signature: %v", err)
	}
	if err := e.verify.Verify(append([]byte(" "), body...), r.Header); err == nil {
		e.t.Error("the signature fits another body")
	}
	var envelope struct {
		Type, Timestamp string
		Data            struct {
			App, From, To string
			Results       []tasks.Result
		}
	}
	if err := json.Unmarshal(body, &envelope); err != nil || envelope.Timestamp == "" || r.Header.Get("Content-Type") != "application/json" {
		e.t.Errorf("%v: %s", err, body)
	}
	m := message{id: r.Header.Get("webhook-id"), body: body, typ: envelope.Type, app: envelope.Data.App, from: envelope.Data.From, to: envelope.Data.To}
	for _, result := range envelope.Data.Results {
		m.ids = append(m.ids, result.ID)
	}
	e.mu.Lock()
	answer := e.answer
	e.mu.Unlock()
	m.code = answer(m, w)
	e.mu.Lock()
	e.messages = append(e.messages, m)
	e.mu.Unlock()
	w.WriteHeader(m.code)
}

// got returns the calls so far.
func (e *endpoint) got() []message {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]message(nil), e.messages...)
}

// accepted returns the ids of the results of an app that were answered 200, in their order; an id
// twice if it was accepted twice.
func (e *endpoint) accepted(app string) []string {
	var ids []string
	for _, m := range e.got() {
		if m.code == http.StatusOK && m.app == app {
			ids = append(ids, m.ids...)
		}
	}
	return ids
}

// config returns the configuration of the endpoint.
func (e *endpoint) config(name string) Endpoint {
	return Endpoint{Name: name, URL: e.server.URL + "/results?key=query-secret", Secret: secret, AllowPrivate: []string{"127.0.0.1"}}
}

// logs collects a log.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newSender makes a sender with short pauses. Its log must not show a secret.
func newSender(t *testing.T, rdb redis.UniversalClient, endpoints ...Endpoint) *Sender {
	t.Helper()
	log := &logs{}
	t.Cleanup(func() {
		for _, hidden := range []string{secret, "query-secret", "a-message-text"} {
			if strings.Contains(log.String(), hidden) {
				t.Errorf("the log shows %q:\n%s", hidden, log)
			}
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	s, err := New(endpoints, Deps{Redis: rdb, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), StreamMaxLen: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	s.tuning.poll, s.tuning.apps, s.tuning.recheck = 5*time.Millisecond, 10*time.Millisecond, 10*time.Millisecond
	s.tuning.schedule = []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}
	return s
}

// run runs a sender until the test ends, or stop is called.
func run(t *testing.T, s *Sender) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// started runs a sender and waits until it has readers for an app.
func started(t *testing.T, rdb redis.UniversalClient, s *Sender) (stop func()) {
	t.Helper()
	stop = run(t, s)
	redistest.Until(t, long, "the sender has its readers", func() bool {
		readers, err := ledger.Readers(t.Context(), rdb, app)
		return err == nil && len(readers) > 0
	})
	return stop
}

// newLedger returns a ledger with a maximum length of the stream, and makes the apps known.
func newLedger(t *testing.T, rdb redis.UniversalClient, most int64) *ledger.Ledger {
	t.Helper()
	rdb.SAdd(t.Context(), ledger.AppsKey, app)
	return ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: most})
}

// settle records outcomes of tasks with the ids prefix0, prefix1 ….
func settle(t *testing.T, l *ledger.Ledger, of, prefix string, n int, change func(i int, r *tasks.Result)) {
	t.Helper()
	for i := range n {
		r := tasks.Result{
			ID: fmt.Sprintf("%s%d", prefix, i), App: of, Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted,
			ErrMsg: "ok & a-message-text", MsgID: "3395159288267931652", EnqueuedAt: time.Now(), FinishedAt: time.Now(),
		}
		if change != nil {
			change(i, &r)
		}
		if _, err := l.Settle(t.Context(), ledger.Ref{App: of, ID: r.ID}, ledger.SettleRequest{
			Outcome: string(r.Outcome), Result: r.Encode(), Queue: of + ":" + r.Type, NoBlob: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// names returns prefix0, prefix1 ….
func names(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s%d", prefix, i))
	}
	return all
}

// status returns the state of an endpoint for the app.
func status(t *testing.T, rdb redis.UniversalClient, e Endpoint) Status {
	t.Helper()
	all, err := List(t.Context(), rdb, []Endpoint{e})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.App == app {
			return s
		}
	}
	return Status{}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// contextOfProcess ends with the process.
func contextOfProcess() context.Context { return context.Background() }

func TestMain(m *testing.M) {
	if addr, url, ok := strings.Cut(os.Getenv(gatewayVariable), " "); ok {
		os.Exit(gatewayMain(addr, url))
	}
	os.Exit(redistest.Run(m))
}
