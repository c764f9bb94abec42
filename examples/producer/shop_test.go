package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

const app = "wx0123456789abcdef"

// newShop returns a shop with its own Redis, and a function that returns further clients of
// that Redis.
func newShop(t *testing.T) (s *shop, newRedis func() redis.UniversalClient) {
	t.Helper()
	m, rdb := redistest.Mini(t)
	newRedis = func() redis.UniversalClient {
		rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = rdb.Close() })
		return rdb
	}
	return &shop{
		tasks: tasks.NewClient(rdb), app: app, template: "TEMPLATE_ID", linkTimeout: 20 * time.Second, now: time.Now,
	}, newRedis
}

// deliver runs a worker against a sandbox of WeChat until the test ends.
func deliver(t *testing.T, rdb redis.UniversalClient) *sandbox.Server {
	t.Helper()
	wx := sandbox.New(sandbox.Options{})
	url, stop := wx.Start()
	t.Cleanup(stop)
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = url
	quiet := slog.New(slog.DiscardHandler)
	tokens := wechat.NewTokens(cfg, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: "secret"}, true
	}, wechat.WithLogger(quiet))
	t.Cleanup(tokens.Close)
	replica, err := worker.New(worker.DefaultConfig(), worker.Deps{
		Redis: rdb, WeChat: wechat.NewClient(cfg, tokens), Attempt: cfg.AttemptTimeout,
		Limiter: ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil),
		Apps:    []worker.App{{ID: app}}, Results: worker.DefaultResultsConfig(), Logger: quiet,
	}, worker.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- replica.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return wx
}

func request(t *testing.T, s *shop, method, path, body string) (status int, answer map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	raw, err := io.ReadAll(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("%s %s: %d %s", method, path, w.Code, raw)
	}
	return w.Code, answer
}

const shipped42 = `{"openid":"oSubscriber42","tracking":"SF1234567890"}`

func TestShippedIsEnqueuedOnce(t *testing.T) {
	s, _ := newShop(t)
	if status, got := request(t, s, "POST", "/orders/42/shipped", shipped42); status != http.StatusAccepted || got["id"] != "order-42-shipped" {
		t.Errorf("first: %d %v", status, got)
	}
	if status, got := request(t, s, "POST", "/orders/42/shipped", shipped42); status != http.StatusOK || got["already"] != true {
		t.Errorf("again: %d %v", status, got)
	}
	if status, got := request(t, s, "GET", "/orders/42/shipped", ""); status != http.StatusOK || got["state"] != "waiting" {
		t.Errorf("result: %d %v", status, got)
	}
}

func TestErrorAnswers(t *testing.T) {
	s, _ := newShop(t)
	tests := []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"not JSON", "POST", "/orders/42/shipped", `{`, http.StatusBadRequest, "unexpected EOF"},
		{"unknown field", "POST", "/orders/42/shipped", `{"open_id":"o"}`, http.StatusBadRequest, "open_id"},
		{"no openid", "POST", "/orders/42/shipped", `{"tracking":"SF1"}`, http.StatusUnprocessableEntity, "body.touser"},
		{"Chinese in a tracking number", "POST", "/orders/42/shipped", `{"openid":"o42","tracking":"顺丰"}`, http.StatusUnprocessableEntity, "character_string3"},
		{"Chinese in a query", "POST", "/link", `{"query":"订单"}`, http.StatusUnprocessableEntity, "body.jump_wxa.query"},
		{"never enqueued", "GET", "/orders/43/shipped", ``, http.StatusNotFound, "no such task"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, got := request(t, s, tt.method, tt.path, tt.body)
			text, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if status != tt.status || !strings.Contains(string(text), tt.says) {
				t.Errorf("%d %s, want %d and %q", status, text, tt.status, tt.says)
			}
		})
	}
}

func TestDelivered(t *testing.T) {
	s, newRedis := newShop(t)
	wx := deliver(t, newRedis())

	status, got := request(t, s, "POST", "/link", `{"path":"pages/index/index","query":"id=123"}`)
	if link, _ := got["openlink"].(string); status != http.StatusOK || !strings.HasPrefix(link, "weixin://dl/business/") {
		t.Errorf("link: %d %v", status, got)
	}

	request(t, s, "POST", "/orders/42/shipped", shipped42)
	if _, err := s.tasks.Wait(t.Context(), app, shippedID("42")); err != nil {
		t.Fatal(err)
	}
	if status, got := request(t, s, "GET", "/orders/42/shipped", ""); status != http.StatusOK || got["outcome"] != "accepted" || got["msgid"] == nil {
		t.Errorf("result: %d %v", status, got)
	}
	if n := wx.Delivered(app, "oSubscriber42", "TEMPLATE_ID"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

func TestLinkNotGiven(t *testing.T) {
	s, newRedis := newShop(t)
	wx := deliver(t, newRedis())
	if _, err := wx.AddFault(sandbox.Fault{ErrCode: 40165, Path: "/wxa/generatescheme"}); err != nil {
		t.Fatal(err)
	}
	status, got := request(t, s, "POST", "/link", `{"path":"pages/nowhere"}`)
	if status != http.StatusBadGateway || got["outcome"] != "rejected" {
		t.Errorf("%d %v", status, got)
	}
}

func TestLinkTakesTooLong(t *testing.T) {
	s, _ := newShop(t) // there is no worker
	s.linkTimeout = 20 * time.Millisecond
	status, got := request(t, s, "POST", "/link", `{"path":"pages/index/index"}`)
	if id, _ := got["id"].(string); status != http.StatusAccepted || id == "" {
		t.Errorf("%d %v", status, got)
	}
}
