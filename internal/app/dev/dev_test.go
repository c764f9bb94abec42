package dev_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/app/dev"
	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/traffic"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	anyPort = "127.0.0.1:0"
	timeout = time.Minute // for each condition: the machine may be loaded
)

// environment is a running Environment.
type environment struct {
	*testing.T
	env    *dev.Environment
	log    *e2e.Output
	client *http.Client
	stop   func() error // ends Run and closes it; it may be called twice
}

// start starts an environment on free ports.
func start(t *testing.T, change func(*dev.Config)) *environment {
	t.Helper()
	e := &environment{T: t, log: &e2e.Output{}, client: &http.Client{Transport: &http.Transport{}}}
	cfg := dev.Config{
		Settings: configs.Default(), Listen: anyPort, Sandbox: anyPort, Command: "wxcourier",
		Log: slog.New(slog.NewTextHandler(e.log, nil)),
	}
	change(&cfg)
	var err error
	if e.env, err = dev.Start(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var failed error
	running.Go(func() { failed = e.env.Run(ctx) })
	e.stop = sync.OnceValue(func() error {
		cancel()
		running.Wait()
		e.env.Close()
		e.client.CloseIdleConnections()
		return failed
	})
	t.Cleanup(func() {
		if err := e.stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if t.Failed() {
			t.Log(e.log.String())
		}
	})
	return e
}

// do makes a request, and returns its answer.
func (e *environment) do(method, address, body string, header ...string) (status int, text string) {
	e.Helper()
	r, err := http.NewRequestWithContext(e.Context(), method, address, strings.NewReader(body))
	if err != nil {
		e.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	response, err := e.client.Do(r)
	if err != nil {
		e.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		e.Fatal(err)
	}
	return response.StatusCode, string(all)
}

func (e *environment) get(address string) (status int, text string) {
	e.Helper()
	return e.do(http.MethodGet, address, "")
}

// task returns a task as the API has it.
func (e *environment) task(app, id string) (r tasks.Result) {
	e.Helper()
	status, text := e.get(e.env.Addresses().Pages + "/v1/tasks/" + app + "/" + id)
	if status == http.StatusOK {
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			e.Fatal(err)
		}
	}
	return r
}

// TestParts: each part answers at its address. The sample tasks are delivered, of the batch of the story
// too, and their receipts come. At the end nothing is reachable any more.
func TestParts(t *testing.T) {
	t.Parallel()
	e := start(t, func(c *dev.Config) { c.Rate = 5 })
	at := e.env.Addresses()
	for address, want := range map[string]string{
		at.Pages + "/healthz":         "",
		at.Pages + "/":                "wxcourier",
		at.Pages + "/start":           at.Redis,
		at.Pages + "/docs/":           "",
		at.Pages + "/openapi.json":    "/v1/tasks",
		at.Pages + "/monitor":         "",
		at.Pages + "/metrics":         "wxcourier_build_info",
		at.Pages + "/v1/holds":        traffic.HeldTemplate,
		at.WeChat + "/sandbox/counts": "",
		at.WeChat + "/sandbox/pushes": "",
	} {
		redistest.Until(t, timeout, address+" answers", func() bool {
			status, text := e.get(address)
			return status == http.StatusOK && strings.Contains(text, want)
		})
	}
	redistest.Until(t, timeout, "it is ready", func() bool { status, _ := e.get(at.Pages + "/readyz"); return status == http.StatusOK })
	campaign := at.Pages + "/v1/batches/" + traffic.Apps()[1] + "/spring-sale"
	var batch struct {
		Receipts map[tasks.DeliveryReceipt]int64
	}
	redistest.Until(t, timeout, "receipts of the campaign come", func() bool {
		_, text := e.get(campaign)
		return json.Unmarshal([]byte(text), &batch) == nil && batch.Receipts[tasks.ReceiptDelivered] > 0
	})
	if err := e.stop(); err != nil {
		t.Error(err)
	}
	for _, address := range []string{at.Listen, at.Redis, hostOf(t, at.WeChat), hostOf(t, at.Pushes)} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s is still open", address)
		}
	}
	if text := e.log.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "panic") {
		t.Error("an error was logged")
	}
}

func hostOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// TestReceiptsOfRequests: the receipt of a message joins its task, whichever way it was sent: by the
// API, by a request to WeChat's own path with an Idempotency-Key, and by one that is only enqueued; also
// if the receipt comes before WeChat's answer. A repetition of the request sends nothing.
func TestReceiptsOfRequests(t *testing.T) {
	t.Parallel()
	e := start(t, func(*dev.Config) {})
	at, app := e.env.Addresses(), traffic.Apps()[0]
	_, text := e.get(at.Pages + "/wechat/cgi-bin/token?grant_type=client_credential&appid=" + app + "&secret=any")
	var ticket struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(text), &ticket); err != nil || ticket.AccessToken == "" {
		t.Fatalf("no ticket: %s", text)
	}
	message := func(openid string) string {
		return fmt.Sprintf(`{"touser":%q,"template_id":"T1","data":{"thing1":{"value":"已发货"}}}`, openid)
	}
	direct := at.Pages + "/wechat/cgi-bin/message/subscribe/send?access_token=" + ticket.AccessToken
	send := func(id, openid string, header ...string) {
		t.Helper()
		for range 2 {
			if status, text := e.do(http.MethodPost, direct, message(openid), append(header, "Idempotency-Key", id)...); status >= http.StatusBadRequest {
				t.Fatalf("%s: %d %s", id, status, text)
			}
		}
	}
	send("direct", "oDirect")
	send("direct-early", "earlyreceipt-oDirect")
	send("direct-blocked", "userblock-oDirect")
	send("direct-none", "noreceipt-oDirect")
	send("async", "oAsync", "Prefer", "respond-async")
	send("async-failed", "systemfailed-oAsync", "Prefer", "respond-async")
	status, text := e.do(http.MethodPost, at.Pages+"/v1/tasks", fmt.Sprintf(`{"type":"send:subscribe","app":%q,"id":"api","body":%s}`, app, message("oAPI")))
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	for id, want := range map[string]tasks.DeliveryReceipt{
		"direct": tasks.ReceiptDelivered, "direct-early": tasks.ReceiptDelivered, "direct-blocked": tasks.ReceiptBlocked, "async": tasks.ReceiptDelivered,
		"async-failed": tasks.ReceiptFailed, "api": tasks.ReceiptDelivered,
	} {
		var r tasks.Result
		redistest.Until(t, timeout, "the receipt of "+id, func() bool { r = e.task(app, id); return r.Receipt != "" })
		if r.Receipt != want || r.Outcome != tasks.OutcomeAccepted || r.ReceiptAt.IsZero() {
			t.Errorf("%s: %+v, want %s", id, r, want)
		}
	}
	if r := e.task(app, "direct-none"); r.Receipt != "" || r.Outcome != tasks.OutcomeAccepted || r.MsgID == "" {
		t.Errorf("%+v", r)
	}
	_, metrics := e.get(at.Pages + "/metrics")
	for _, want := range []string{
		`wxcourier_receipts_expected{app="` + app + `"} 1`,
		`wxcourier_outcomes_total{app="` + app + `",outcome="accepted",type="send:subscribe"} 7`,
		`wxcourier_receipts_total{app="` + app + `",receipt="delivered",type="send:subscribe"} 4`,
		`wxcourier_receipts_total{app="` + app + `",receipt="blocked",type="send:subscribe"} 1`,
		`wxcourier_receipts_total{app="` + app + `",receipt="failed",type="send:subscribe"} 1`,
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// TestExternalRedis: tasks wait in a Redis outside the process, which stays; while the environment runs, the
// list of its apps is there.
func TestExternalRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	e := start(t, func(c *dev.Config) {
		c.ExternalRedis, c.Settings.Redis = true, configs.Redis{Addrs: []string{server.Addr()}}
		c.Settings.Apps = []configs.App{{ID: "wx0123456789abcdef", Secret: "a real secret"}}
	})
	want := append([]string{"wx0123456789abcdef"}, traffic.Apps()...)
	redistest.Until(t, timeout, "the list of the apps is there", func() bool { return slices.Equal(dev.ServedApps(t.Context(), rdb), want) })
	if at := e.env.Addresses().Redis; at != server.Addr() {
		t.Errorf("the Redis is %s, not %s", at, server.Addr())
	}
	status, text := e.do(http.MethodPost, e.env.Addresses().Pages+"/v1/tasks", `{"type":"send:custom","app":"wx0123456789abcdef","id":"a","body":{"touser":"oA","msgtype":"text","text":{"content":"x"}}}`)
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	redistest.Until(t, timeout, "the task of a configured app is delivered", func() bool {
		return e.task("wx0123456789abcdef", "a").Outcome == tasks.OutcomeAccepted
	})
	if err := e.stop(); err != nil {
		t.Error(err)
	}
	if left := dev.ServedApps(t.Context(), rdb); len(left) > 0 {
		t.Errorf("after its end, served: %v", left)
	}
	if r, err := tasks.NewClient(rdb).Result(t.Context(), "wx0123456789abcdef", "a"); err != nil || r.Outcome != tasks.OutcomeAccepted {
		t.Errorf("the record of the task: %+v, %v", r, err)
	}
	if strings.Contains(e.log.String(), "a real secret") || strings.Contains(everything(t, rdb), "a real secret") {
		t.Error("the secret was used")
	}
}

// everything returns the strings and hashes of a Redis.
func everything(t *testing.T, rdb redis.UniversalClient) string {
	t.Helper()
	var all strings.Builder
	keys := rdb.Scan(t.Context(), 0, "*", 1000).Iterator()
	for keys.Next(t.Context()) {
		fmt.Fprintln(&all, keys.Val(), rdb.Get(t.Context(), keys.Val()).Val(), rdb.HGetAll(t.Context(), keys.Val()).Val())
	}
	return all.String()
}

// TestNothingLeavesTheMachine: endpoints of webhooks and of forwarding that are not in the user's own
// network get nothing, since the results and the pushes are those of a stand-in.
func TestNothingLeavesTheMachine(t *testing.T) {
	t.Parallel()
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case got <- r.URL.Path:
		default:
		}
	}))
	t.Cleanup(server.Close)
	app := traffic.Apps()[0]
	e := start(t, func(c *dev.Config) {
		secret := wechat.Secret("a secret of 24 bytes or more")
		c.Settings.Webhooks = []webhook.Endpoint{
			{Name: "production", URL: "https://crm.example.com/hook", Secret: secret},
			{Name: "local", URL: server.URL + "/hook", Secret: secret, AllowPrivate: []string{"127.0.0.0/8"}},
		}
		c.Settings.Apps = []configs.App{
			{ID: app, Callback: configs.Callback{Token: "token", ForwardURL: "https://shop.example.com/wechat", Forward: configs.ForwardAll}},
		}
	})
	status, text := e.do(http.MethodPost, e.env.Addresses().Pages+"/v1/tasks", fmt.Sprintf(
		`{"type":"send:subscribe","app":%q,"id":"a","body":{"touser":"oA","template_id":"T1","data":{"thing1":{"value":"x"}}}}`, app))
	if status != http.StatusAccepted {
		t.Fatalf("%d %s", status, text)
	}
	redistest.Until(t, timeout, "the receipt", func() bool { return e.task(app, "a").Receipt == tasks.ReceiptDelivered })
	select {
	case path := <-got:
		if path != "/hook" {
			t.Errorf("called: %s", path)
		}
	case <-time.After(timeout):
		t.Error("the local webhook got no result")
	}
	for _, want := range []string{"webhook=production", "dev does not forward"} {
		if !strings.Contains(e.log.String(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if _, metrics := e.get(e.env.Addresses().Pages + "/metrics"); strings.Contains(metrics, `"production"`) || strings.Contains(metrics, "wxcourier_callback_forwards_total{") {
		t.Errorf("calls that leave the machine:\n%s", metrics)
	}
}

// TestAddressInUse: without one of its addresses nothing is started, and nothing stays open.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	sandboxAt := free.Addr().String()
	_ = free.Close()
	pushes := configs.Default()
	pushes.Gateway.CallbackListen = taken.Addr().String()
	for what, cfg := range map[string]dev.Config{
		"the pages": {Settings: configs.Default(), Listen: taken.Addr().String(), Sandbox: sandboxAt},
		"WeChat":    {Settings: configs.Default(), Listen: sandboxAt, Sandbox: taken.Addr().String()},
		"pushes":    {Settings: pushes, Listen: anyPort, Sandbox: sandboxAt},
	} {
		cfg.Log = slog.New(slog.DiscardHandler)
		e, err := dev.Start(t.Context(), cfg)
		if err == nil {
			e.Close()
			t.Errorf("%s: started", what)
			continue
		}
		if !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("%s: %v does not name the address", what, err)
		}
		again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", sandboxAt)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		_ = again.Close()
	}
}
