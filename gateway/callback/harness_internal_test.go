package callback

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

const (
	app      = "wx0123456789abcdef"
	otherID  = "wxfedcba9876543210"
	plainApp = "wx00000000000000aa"
	token    = "spamtest"
	aesKey   = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"
	openid   = "oPersonWhoseNameIsSecret"
	long     = 60 * time.Second
)

func keysOf(id string) (callback.Keys, bool) {
	switch id {
	case app, otherID:
		return callback.Keys{App: id, Token: token, AESKey: aesKey}, true
	case plainApp:
		return callback.Keys{App: id, Token: token}, true
	}
	return callback.Keys{}, false
}

// output is a log.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// recorder is a handler that keeps what it got.
type recorder struct {
	mu   sync.Mutex
	fail func(batch []callback.Push) error // guarded by mu
	got  []callback.Push                   // guarded by mu; of batches that did not fail
}

func (h *recorder) Handle(_ context.Context, _ string, batch []callback.Push) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		if err := h.fail(batch); err != nil {
			return err
		}
	}
	h.got = append(h.got, batch...)
	return nil
}

func (h *recorder) pushes() []callback.Push {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]callback.Push(nil), h.got...)
}

func (h *recorder) setFail(fail func([]callback.Push) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = fail
}

// harness is a receiver behind a server.
type harness struct {
	*Receiver
	t       testing.TB
	client  *http.Client
	url     string
	log     *output
	handler *recorder
	forward func(app string) (Forward, bool)
}

// quick is the tuning of tests that do not wait for anything, also on a busy machine.
func quick() tuning {
	t := defaultTuning()
	t.answer, t.body = long/2, long/2
	t.sweep, t.gather, t.backoff = 20*time.Millisecond, time.Millisecond, 5*time.Millisecond
	return t
}

func newHarness(t testing.TB, rdb redis.UniversalClient, tune tuning, forward func(string) (Forward, bool)) *harness {
	t.Helper()
	h := &harness{
		t: t, log: &output{}, handler: &recorder{}, forward: forward,
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}},
	}
	var err error
	h.Receiver, err = newReceiver(Deps{
		Redis: rdb, Keys: keysOf, Forward: forward, Handlers: []pushes.Handler{h.handler}, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, tune)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h.Receiver)
	h.url = server.URL
	t.Cleanup(func() {
		h.client.CloseIdleConnections()
		server.Close()
		h.Close()
	})
	return h
}

// start runs the receiver until the test ends.
func (h *harness) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Run(ctx)
	}()
	h.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// send pushes a message to an app, as WeChat does.
func (h *harness) send(id, message string) (status int, body string) {
	h.t.Helper()
	keys, _ := keysOf(id)
	query, sealed, err := keys.Seal([]byte(message), "gh_1", time.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	return h.post("/callback/"+id+"?"+query.Encode(), sealed)
}

func (h *harness) post(path string, body []byte) (status int, text string) {
	h.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.url+path, bytes.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	return h.do(r)
}

func (h *harness) do(r *http.Request) (status int, text string) {
	h.t.Helper()
	response, err := h.client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func (h *harness) counted(id, result string) int {
	return int(testutil.ToFloat64(h.metrics.requests.WithLabelValues(id, result)))
}

// waiting returns how many pushes of an app are stored.
func (h *harness) waiting(id string) int {
	return int(h.deps.Redis.XLen(context.Background(), streamKey(id)).Val())
}

// receipt is a push with the receipt of a message.
func receipt(msgid int) string {
	return fmt.Sprintf(`<xml><ToUserName>gh_1</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime><MsgType>event</MsgType>`+
		`<Event>TEMPLATESENDJOBFINISH</Event><MsgID>%d</MsgID><Status>success</Status></xml>`, openid, time.Now().Unix(), msgid)
}

// text is a push with a text of a person.
func text(msgid int) string {
	return fmt.Sprintf(`<xml><ToUserName>gh_1</ToUserName><FromUserName>%s</FromUserName><CreateTime>%d</CreateTime><MsgType>text</MsgType>`+
		`<Content>my secret</Content><MsgId>%d</MsgId></xml>`, openid, time.Now().Unix(), msgid)
}

// quiet fails the test if the log has something that it must not have.
func (h *harness) quiet() {
	h.t.Helper()
	for _, secret := range []string{openid, token, aesKey, "my secret", "signature=", "nonce"} {
		if strings.Contains(h.log.String(), secret) {
			h.t.Errorf("the log has %q:\n%s", secret, h.log)
		}
	}
}
