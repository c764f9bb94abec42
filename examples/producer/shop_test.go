package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wxcouriertest"
)

const app = wxcouriertest.App

// newShop returns a shop with a Redis, a stand-in for WeChat and a worker of its own.
func newShop(t *testing.T) (*shop, *wxcouriertest.Kit) {
	t.Helper()
	kit := wxcouriertest.Start(t, wxcouriertest.Options{})
	return &shop{
		tasks: kit.Client(), app: app, template: "TEMPLATE_ID", linkTimeout: 20 * time.Second, now: kit.Now,
	}, kit
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
	s, kit := newShop(t)
	kit.StopWorker() // so that the task waits
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
	s, kit := newShop(t)

	status, got := request(t, s, "POST", "/link", `{"path":"pages/index/index","query":"id=123"}`)
	if link, _ := got["openlink"].(string); status != http.StatusOK || !strings.HasPrefix(link, "weixin://dl/business/") {
		t.Errorf("link: %d %v", status, got)
	}

	request(t, s, "POST", "/orders/42/shipped", shipped42)
	kit.Result(shippedID("42"))
	if status, got := request(t, s, "GET", "/orders/42/shipped", ""); status != http.StatusOK || got["outcome"] != "accepted" || got["msgid"] == nil {
		t.Errorf("result: %d %v", status, got)
	}
	if n := kit.WeChat.Delivered(app, "oSubscriber42", "TEMPLATE_ID"); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// A buyer who has not subscribed is no error of the shop.
func TestRefused(t *testing.T) {
	s, kit := newShop(t)
	request(t, s, "POST", "/orders/43/shipped", `{"openid":"unsubscribed-oBuyer43","tracking":"SF1"}`)
	if got := kit.Result(shippedID("43")); got.Outcome != tasks.OutcomeRefused || got.ErrCode != 43101 {
		t.Errorf("%+v", got)
	}
}

// A message that could not be sent for a day is not sent.
func TestTooLate(t *testing.T) {
	s, kit := newShop(t)
	kit.StopWorker()
	request(t, s, "POST", "/orders/42/shipped", shipped42)
	kit.Advance(25 * time.Hour)
	kit.StartWorker()
	if got := kit.Result(shippedID("42")); got.Outcome != tasks.OutcomeExpired {
		t.Errorf("%+v", got)
	}
	if n := len(kit.WeChat.Calls(sandbox.Filter{OpenID: "oSubscriber42"})); n != 0 {
		t.Errorf("%d calls to WeChat", n)
	}
}

func TestLinkNotGiven(t *testing.T) {
	s, kit := newShop(t)
	if _, err := kit.WeChat.AddFault(sandbox.Fault{ErrCode: 40165, Path: "/wxa/generatescheme"}); err != nil {
		t.Fatal(err)
	}
	status, got := request(t, s, "POST", "/link", `{"path":"pages/nowhere"}`)
	if status != http.StatusBadGateway || got["outcome"] != "rejected" {
		t.Errorf("%d %v", status, got)
	}
}

func TestLinkTakesTooLong(t *testing.T) {
	s, kit := newShop(t)
	kit.StopWorker()
	s.linkTimeout = 20 * time.Millisecond
	status, got := request(t, s, "POST", "/link", `{"path":"pages/index/index"}`)
	if id, _ := got["id"].(string); status != http.StatusAccepted || id == "" {
		t.Errorf("%d %v", status, got)
	}
}
