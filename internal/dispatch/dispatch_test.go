package dispatch_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

const (
	app    = "wx0123456789abcdef"
	secret = "0123456789abcdef0123456789abcdef"
)

// newDispatcher returns a Dispatcher for the sandbox, as one process has it.
func newDispatcher(t *testing.T, rdb redis.UniversalClient, url string, limits map[string]ratelimit.Limit) *dispatch.Dispatcher {
	t.Helper()
	cfg := wechat.DefaultConfig()
	cfg.BaseURL = url
	log := slog.New(slog.DiscardHandler)
	tokens := wechat.NewTokens(cfg, rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: secret}, true
	}, wechat.WithLogger(log))
	client := wechat.NewClient(cfg, tokens)
	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return limits })
	d := dispatch.New(dispatch.Deps{Redis: rdb, WeChat: client, Limiter: limiter, Logger: log, Replica: "r"})
	t.Cleanup(func() {
		d.Close()
		_ = limiter.Close(context.Background())
		tokens.Close()
		client.CloseIdle()
	})
	return d
}

// makeCall makes one call as a caller without a lane does.
func makeCall(t *testing.T, d *dispatch.Dispatcher, c dispatch.Call) (wechat.Answer, dispatch.Verdict, error) {
	t.Helper()
	ctx := t.Context()
	c.App, c.Type, c.Endpoint = app, tasks.TypeScheme, wechat.EndpointScheme
	c.Log = func(more ...any) []any { return more }
	defer d.Release(ctx, &c)
	err := d.FetchToken(ctx, &c)
	if err == nil {
		err = d.AcquirePermit(ctx, &c)
	}
	var answer wechat.Answer
	if err == nil {
		answer, err = d.Send(ctx, ctx, &c, wechat.Request{Path: c.Endpoint, Body: []byte(`{}`)})
	}
	return answer, d.Judge(ctx, &c, dispatch.Attempt{Err: err, Repeat: tasks.Never, Budget: 8}), err
}

func onEach(t *testing.T, fn func(t *testing.T, wx *sandbox.Server, rdb redis.UniversalClient, url string)) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		wx := sandbox.New(sandbox.Options{Apps: map[string]string{app: secret}})
		url, stop := wx.Start()
		t.Cleanup(stop)
		fn(t, wx, rdb, url)
	})
}

// TestACall: a call gets its answer, uses one permit, and WeChat counts it once.
func TestACall(t *testing.T) {
	onEach(t, func(t *testing.T, wx *sandbox.Server, rdb redis.UniversalClient, url string) {
		d := newDispatcher(t, rdb, url, map[string]ratelimit.Limit{tasks.TypeScheme: {PerDay: 2}})
		for range 2 {
			answer, v, err := makeCall(t, d, dispatch.Call{})
			if err != nil || answer.OpenLink == "" || v.Outcome != tasks.OutcomeAccepted {
				t.Fatalf("%+v, %v, %+v", answer, err, v)
			}
		}
		_, v, err := makeCall(t, d, dispatch.Call{})
		if !errors.Is(err, dispatch.ErrNoPermit) || v.Outcome != "" || v.Counts || v.Delay <= 0 {
			t.Errorf("the third call of two: %v, %+v", err, v)
		}
		if n := wx.Count(sandbox.Filter{Path: string(wechat.EndpointScheme)}); n != 2 {
			t.Errorf("WeChat got %d calls", n)
		}
	})
}

// TestARefusalReachesAllProcesses: a hold that one process sets after a refusal keeps another
// one from calling; a refusal for the pace lowers it.
func TestARefusalReachesAllProcesses(t *testing.T) {
	onEach(t, func(t *testing.T, wx *sandbox.Server, rdb redis.UniversalClient, url string) {
		d, other := newDispatcher(t, rdb, url, nil), newDispatcher(t, rdb, url, nil)
		if _, err := wx.AddFault(sandbox.Fault{Path: string(wechat.EndpointScheme), ErrCode: 48001, Count: 1}); err != nil {
			t.Fatal(err)
		}
		_, v, err := makeCall(t, d, dispatch.Call{})
		var api *wechat.APIError
		if !errors.As(err, &api) || api.Code != 48001 || v.Outcome != "" || v.Delay < time.Minute {
			t.Fatalf("%v, %+v", err, v)
		}
		c := dispatch.Call{App: app, Type: tasks.TypeScheme}
		if !other.Held(t.Context(), &c) {
			t.Error("the other process knows no hold")
		}
		if _, _, err := makeCall(t, other, dispatch.Call{}); !errors.Is(err, dispatch.ErrNoPermit) {
			t.Errorf("the other process: %v", err)
		}
		if n := wx.Count(sandbox.Filter{Path: string(wechat.EndpointScheme)}); n != 1 {
			t.Errorf("WeChat got %d calls", n)
		}
	})
}

// TestATokenIsRefreshedOnce: a token that WeChat refuses is refreshed, and the call repeated,
// inside of Send.
func TestATokenIsRefreshedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, wx *sandbox.Server, rdb redis.UniversalClient, url string) {
		d := newDispatcher(t, rdb, url, nil)
		if _, _, err := makeCall(t, d, dispatch.Call{}); err != nil {
			t.Fatal(err)
		}
		wx.Revoke(app)
		if answer, v, err := makeCall(t, d, dispatch.Call{}); err != nil || answer.OpenLink == "" || v.Outcome != tasks.OutcomeAccepted {
			t.Errorf("%+v, %v, %+v", answer, err, v)
		}
		if n := wx.TokensIssued(app, sandbox.Stable); n != 2 {
			t.Errorf("%d tokens were issued", n)
		}
	})
}

// TestBeforeWrite: an error of BeforeWrite keeps the request from being written, and the call
// from being counted; a panic there leaves no permit behind and no answer.
func TestBeforeWrite(t *testing.T) {
	onEach(t, func(t *testing.T, wx *sandbox.Server, rdb redis.UniversalClient, url string) {
		d := newDispatcher(t, rdb, url, nil)
		closed := &dispatch.NotSentError{Reason: "closed", Delay: time.Hour}
		_, v, err := makeCall(t, d, dispatch.Call{BeforeWrite: func() error { return closed }})
		if !errors.Is(err, closed) || v.Outcome != "" || v.Delay != time.Hour {
			t.Errorf("%v, %+v", err, v)
		}
		_, v, err = makeCall(t, d, dispatch.Call{BeforeWrite: func() error { panic("secret") }})
		if !dispatch.NoAnswer(err) || v.Outcome != tasks.OutcomeUnknown {
			t.Errorf("after a panic: %v, %+v", err, v)
		}
		if n := wx.Count(sandbox.Filter{Path: string(wechat.EndpointScheme)}); n != 0 {
			t.Errorf("WeChat got %d calls", n)
		}
	})
}
