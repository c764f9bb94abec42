package callback

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

const secret = "a-secret-that-is-long-enough-0123456789"

// service is the user's own service, which checks every signature.
type service struct {
	server *httptest.Server

	mu     sync.Mutex
	answer http.HandlerFunc // guarded by mu
	got    []forwarded      // guarded by mu
}

type forwarded struct{ id, app, contentType, body string }

func newService(t *testing.T) *service {
	t.Helper()
	verify, err := standardwebhooks.NewWebhookRaw([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	s := &service{}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := verify.Verify(body, r.Header); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		s.got = append(s.got, forwarded{r.Header.Get("webhook-id"), r.Header.Get(AppHeader), r.Header.Get("Content-Type"), string(body)})
		answer := s.answer
		s.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(s.server.Close)
	return s
}

func (s *service) set(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

func (s *service) calls() []forwarded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]forwarded(nil), s.got...)
}

// to returns where pushes are forwarded to.
func (s *service) to(all bool, private ...string) func(string) (Forward, bool) {
	return func(string) (Forward, bool) {
		return Forward{Target: webhook.Target{URL: s.server.URL + "/wechat?key=query-secret", Secret: secret, AllowPrivate: private}, All: all}, true
	}
}

// TestForward: a message gets to the service as WeChat wrote it, signed, and its reply back to WeChat,
// encrypted if the message was.
func TestForward(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	h := newHarness(t, rdb, quick(), s.to(false, "127.0.0.1"))
	const reply = "<xml><MsgType>text</MsgType><Content>你好</Content></xml>"
	s.set(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(reply)) })
	message := text(1)
	if status, body := h.send(plainApp, message); status != 200 || body != reply {
		t.Errorf("%d %s", status, body)
	}
	if status, body := h.send(app, message); status != 200 || !strings.HasPrefix(body, "<xml><Encrypt><![CDATA[") {
		t.Errorf("%d %s", status, body)
	} else {
		_, rest, _ := strings.Cut(body, "<Encrypt><![CDATA[")
		encrypted, _, _ := strings.Cut(rest, "]]>")
		keys, _ := keysOf(app)
		if got, err := keys.Decrypt(encrypted); err != nil || string(got) != reply {
			t.Errorf("%s %v", got, err)
		}
	}
	calls := s.calls()
	if len(calls) != 2 || calls[0] != (forwarded{calls[0].id, plainApp, "text/xml; charset=utf-8", message}) || calls[1].app != app || calls[1].body != message {
		t.Errorf("%+v", calls)
	}
	// What wxcourier handles is not forwarded.
	if status, body := h.send(app, receipt(1)); status != 200 || body != callback.Success || h.waiting(app) != 1 {
		t.Errorf("%d %s", status, body)
	}
	// A repetition is forwarded again with its id: the answer may have been lost. A replay is not.
	h.send(app, message)
	if again := s.calls(); len(again) != 3 || again[2].id != calls[1].id || !strings.HasPrefix(again[2].id, "msg_") {
		t.Errorf("%+v", again)
	}
	p, err := callback.Parse([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	key := forwardedKey(app, p.Identity([]byte(message)))
	if err := rdb.PExpire(t.Context(), key, seenFor(callback.DefaultMaxAge)-time.Minute).Err(); err != nil {
		t.Fatal(err) // a minute after the first time
	}
	if status, body := h.send(app, message); status != 200 || body != callback.Success || len(s.calls()) != 3 || h.counted(app, resultDuplicate) != 1 {
		t.Errorf("a replay: %d %s %d", status, body, len(s.calls()))
	}
	h.quiet()
}

// TestForwardBusy: while too many pushes are being forwarded another one is answered without its service,
// and receipts are stored all the same.
func TestForwardBusy(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	h := newHarness(t, rdb, quick(), s.to(false, "127.0.0.1"))
	h.slots, h.forwards = make(chan struct{}, 1), make(chan struct{}, 1)
	entered, proceed := make(chan struct{}), make(chan struct{})
	s.set(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-proceed })
	first := make(chan int)
	go func() { status, _ := h.send(plainApp, text(1)); first <- status }()
	<-entered
	if status, body := h.send(plainApp, text(2)); status != 200 || body != callback.Success {
		t.Errorf("a second message: %d %s", status, body)
	}
	if status, _ := h.send(app, receipt(3)); status != 200 || h.waiting(app) != 1 {
		t.Errorf("a receipt: %d, %d stored", status, h.waiting(app))
	}
	close(proceed)
	if status := <-first; status != 200 || len(s.calls()) != 1 {
		t.Errorf("the first message: %d, %d calls", status, len(s.calls()))
	}
	if got := testutil.ToFloat64(h.metrics.forwards.WithLabelValues(plainApp, resultBusy)); got != 1 {
		t.Errorf("%v counted as busy", got)
	}
}

// TestForwardAll: what wxcourier handles is stored, and forwarded as well.
func TestForwardAll(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	h := newHarness(t, rdb, quick(), s.to(true, "127.0.0.1"))
	if status, body := h.send(app, receipt(1)); status != 200 || body != callback.Success {
		t.Errorf("%d %s", status, body)
	}
	if h.waiting(app) != 1 || len(s.calls()) != 1 {
		t.Errorf("%d stored, %d forwarded", h.waiting(app), len(s.calls()))
	}
	// A push that cannot be parsed is the service's own matter, if there is one.
	if status, _ := h.send(app, `{"of":"another kind"}`); status != 200 || len(s.calls()) != 2 {
		t.Errorf("%d %d", status, len(s.calls()))
	}
}

// TestForwardFails: WeChat is answered in time with success, whatever the service does.
func TestForwardFails(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	h := newHarness(t, rdb, quick(), s.to(false, "127.0.0.1"))
	for i, c := range []struct {
		class  string
		calls  int
		answer http.HandlerFunc
	}{
		{"server_error", 2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }},
		{"network", 2, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"refused", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(400) }},
		{"endpoint", 1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }},
		{"redirect", 1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Location", "/x"); w.WriteHeader(302) }},
		{resultBadReply, 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"ok":true}`)) }},
		{"protocol", 1, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 70_000)) }},
	} {
		s.set(c.answer)
		before := len(s.calls())
		status, body := h.send(app, text(100+i))
		if status != 200 || body != callback.Success {
			t.Errorf("%s: %d %s", c.class, status, body)
		}
		if got := testutil.ToFloat64(h.metrics.forwards.WithLabelValues(app, c.class)); got != 1 {
			t.Errorf("%s: %v counted; %s", c.class, got, h.log)
		}
		if got := len(s.calls()) - before; got != c.calls {
			t.Errorf("%s: %d calls", c.class, got)
		}
	}
	if strings.Contains(h.log.String(), "query-secret") {
		t.Error("the log has the URL")
	}
	h.quiet()
}

// TestForwardLate: a service that is late is not waited for.
func TestForwardLate(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	tune := quick()
	tune.answer = 300 * time.Millisecond
	h := newHarness(t, rdb, tune, s.to(false, "127.0.0.1"))
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s.set(func(http.ResponseWriter, *http.Request) { <-release })
	if status, body := h.send(app, text(1)); status != 200 || body != callback.Success {
		t.Errorf("%d %s", status, body)
	}
	if got := testutil.ToFloat64(h.metrics.forwards.WithLabelValues(app, string(webhook.ClassTimeout))); got != 1 {
		t.Errorf("%v counted; %s", got, h.log)
	}
}

// TestForwardPrivate: addresses that are not public are not reached unless they are allowed.
func TestForwardPrivate(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	s := newService(t)
	h := newHarness(t, rdb, quick(), func(string) (Forward, bool) {
		port := s.server.URL[strings.LastIndex(s.server.URL, ":"):]
		return Forward{Target: webhook.Target{URL: "https://localhost" + port, Secret: secret}}, true
	})
	if status, body := h.send(app, text(1)); status != 200 || body != callback.Success || len(s.calls()) != 0 {
		t.Errorf("%d %s", status, body)
	}
	if got := testutil.ToFloat64(h.metrics.forwards.WithLabelValues(app, string(webhook.ClassAddress))); got != 1 {
		t.Error(h.log)
	}
}

// TestForwardChanges: a new URL is used at once.
func TestForwardChanges(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	one, two := newService(t), newService(t)
	to := one.to(false, "127.0.0.1")
	h := newHarness(t, rdb, quick(), func(id string) (Forward, bool) { return to(id) })
	h.send(app, text(1))
	to = two.to(false, "127.0.0.1")
	h.send(app, text(2))
	if len(one.calls()) != 1 || len(two.calls()) != 1 {
		t.Errorf("%d and %d calls", len(one.calls()), len(two.calls()))
	}
}
