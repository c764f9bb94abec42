package wechat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// countedCalls serves a tokenServer's API and counts the calls with a message. A custom message
// is refused for its token, whatever that is.
func countedCalls(t *testing.T, server *tokenServer) (url string, calls *atomic.Int64) {
	t.Helper()
	calls = new(atomic.Int64)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case string(EndpointSubscribe):
			calls.Add(1)
		case string(EndpointCustom):
			_, _ = io.WriteString(w, `{"errcode":40001,"errmsg":"invalid credential"}`)
			return
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, calls
}

// waitingCalls are calls that have a token and wait for the rate limit.
type waitingCalls struct {
	goOn    chan struct{}
	running sync.WaitGroup
	errs    []error
}

func waitWithToken(t *testing.T, client *Client, n int) *waitingCalls {
	t.Helper()
	w := &waitingCalls{goOn: make(chan struct{}), errs: make([]error, n)}
	var waiting atomic.Int64
	wait := func(ctx context.Context) error {
		waiting.Add(1)
		select {
		case <-w.goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for i := range n {
		w.running.Go(func() {
			_, w.errs[i] = client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody), BeforeWrite: wait})
		})
	}
	redistest.Until(t, 10*time.Second, "the calls wait", func() bool { return waiting.Load() == int64(n) })
	return w
}

// end lets the calls go on, and returns their errors.
func (w *waitingCalls) end() []error {
	close(w.goOn)
	w.running.Wait()
	return w.errs
}

// TestARefusedTokenIsNotUsedAgain: the secret is changed and the tokens are revoked. The first
// call is refused; the calls that have the same token already are not written, and no later call
// is. The corrected secret works at once.
func TestARefusedTokenIsNotUsedAgain(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 1)
		url, calls := countedCalls(t, r.server)
		client := NewClient(Config{BaseURL: url, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, r.tokens[0])
		t.Cleanup(client.CloseIdle)
		call := func() error {
			_, err := client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
			return err
		}
		r.mustToken(t, r.tokens[0])
		waiting := waitWithToken(t, client, 50)

		r.server.revoke()
		r.setSecret("changed-" + testSecret)
		wantRefused := func(err error) {
			t.Helper()
			var token *TokenError
			var api *APIError
			if !errors.As(err, &token) || !errors.As(err, &api) || api.Code != 40125 {
				t.Errorf("got %v, want no token for errcode 40125", err)
			}
		}
		wantRefused(call())
		for _, err := range waiting.end() {
			wantRefused(err)
		}
		for range 5 { // as after the end of a hold
			r.clock.Add(time.Minute)
			wantRefused(call())
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls with the refused token, want 1", n)
		}
		r.setSecret(testSecret)
		if err := call(); err != nil {
			t.Errorf("with the right secret: %v", err)
		}
	})
}

func (r *replicas) setSecret(secret Secret) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cred.Secret = secret
}

// TestAReplacedTokenIsNotUsedAgain: the tokens are revoked. The calls that have the old one get
// the new one before they are written.
func TestAReplacedTokenIsNotUsedAgain(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 1)
		url, calls := countedCalls(t, r.server)
		client := NewClient(Config{BaseURL: url, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, r.tokens[0])
		t.Cleanup(client.CloseIdle)
		r.mustToken(t, r.tokens[0])
		waiting := waitWithToken(t, client, 20)
		r.server.revoke()
		if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)}); err != nil {
			t.Fatal(err)
		}
		for _, err := range waiting.end() {
			if err != nil {
				t.Error(err)
			}
		}
		if n := calls.Load(); n != 2+20 { // refused, repeated; the others
			t.Errorf("%d calls, want 22", n)
		}
		r.wantFetches(t, 2)
	})
}

// TestATokenRefusedByOneAPIServesTheOthers: WeChat refuses the token for one API, and issues the
// same one again. Calls of another API are written with it, once.
func TestATokenRefusedByOneAPIServesTheOthers(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newReplicas(t, rdb, ModeStable, 1)
		url, calls := countedCalls(t, r.server)
		client := NewClient(Config{BaseURL: url, Timeout: 5 * time.Second, AttemptTimeout: 10 * time.Second}, r.tokens[0])
		t.Cleanup(client.CloseIdle)
		r.mustToken(t, r.tokens[0])
		waiting := waitWithToken(t, client, 20)
		if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointCustom, Body: []byte(testBody)}); !errors.Is(err, ErrTokenRejected) {
			t.Errorf("the refusing API: %v", err)
		}
		errs := waiting.end()
		_, err := client.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
		for _, err := range append(errs, err) {
			if err != nil {
				t.Error(err)
			}
		}
		if n := calls.Load(); n != 21 {
			t.Errorf("%d calls, want 21", n)
		}
	})
}
