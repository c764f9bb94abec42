package callback

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

// TestReceive: a push is stored before its answer, once, and handled; texts of persons are never stored.
func TestReceive(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		h := newHarness(t, rdb, quick(), nil)
		for i, c := range []struct{ app, body, result string }{
			{app, receipt(1), resultStored},
			{app, receipt(1), resultDuplicate},
			{app, receipt(2), resultStored},
			{otherID, receipt(1), resultStored}, // another app
			{plainApp, receipt(1), resultStored},
			{app, text(1), resultIgnored},
		} {
			before := h.counted(c.app, c.result)
			if status, body := h.send(c.app, c.body); status != http.StatusOK || body != callback.Success {
				t.Errorf("%d: %d %s", i, status, body)
			}
			if got := h.counted(c.app, c.result); got != before+1 {
				t.Errorf("%d: %d counted as %s, before %d", i, got, c.result, before)
			}
		}
		for id, want := range map[string]int64{app: 2, otherID: 1, plainApp: 1} {
			if got := rdb.XLen(t.Context(), streamKey(id)).Val(); got != want {
				t.Errorf("%s has %d entries, want %d", id, got, want)
			}
		}
		keys, err := rdb.Keys(t.Context(), "*").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if strings.Contains(key, openid) || strings.Contains(rdb.Dump(t.Context(), key).Val(), "my secret") {
				t.Errorf("%s shows a person, or what one wrote", key)
			}
		}
		h.start()
		redistest.Until(t, long, "all are handled and removed", func() bool {
			return len(h.handler.pushes()) == 4 && h.waiting(app)+h.waiting(otherID)+h.waiting(plainApp) == 0
		})
		h.quiet()
	})
}

// TestRefused has what does not come from WeChat, or is spoilt.
func TestRefused(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	keys, _ := keysOf(app)
	plain, _ := keysOf(plainApp)
	foreign := callback.Keys{App: otherID, Token: token, AESKey: aesKey}
	now := time.Now()
	seal := func(k callback.Keys, message string, at time.Time) (url.Values, []byte) {
		query, body, err := k.Seal([]byte(message), "gh_1", at)
		if err != nil {
			t.Fatal(err)
		}
		return query, body
	}
	with := func(q url.Values, name, value string) url.Values {
		q.Set(name, value)
		return q
	}
	// encrypted signs what is not a valid message.
	encrypted := func(ciphertext string) (url.Values, []byte) {
		query, _ := seal(keys, receipt(1), now)
		query.Set("msg_signature", keys.Sign(query.Get("timestamp"), query.Get("nonce"), ciphertext))
		return query, []byte("<xml><Encrypt>" + ciphertext + "</Encrypt></xml>")
	}
	good, goodBody := seal(keys, receipt(1), now)
	valid, err := keys.Encrypt([]byte(receipt(1)))
	if err != nil {
		t.Fatal(err)
	}
	truncatedQuery, truncated := encrypted(valid[:len(valid)-64])
	foreignQuery, foreignBody := seal(foreign, receipt(1), now)
	plainQuery, plainBody := seal(plain, receipt(1), now)
	oldQuery, oldBody := seal(keys, receipt(1), now.Add(-2*time.Hour))
	futureQuery, futureBody := seal(keys, receipt(1), now.Add(2*time.Hour))
	otherQuery, otherBody := seal(keys, receipt(2), now)
	const entity = `<?xml version="1.0"?><!DOCTYPE xml [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><xml><MsgType>&b;</MsgType></xml>`
	entityQuery, _ := seal(plain, receipt(1), now)
	for _, c := range []struct {
		name, path string
		query      url.Values
		body       []byte
		status     int
		app        string
		result     string
	}{
		{"wrong signature", "/callback/" + app, with(clone(good), "msg_signature", "0"), goodBody, 403, app, resultSignature},
		{"wrong signature of the query", "/callback/" + app, with(clone(good), "signature", "0"), goodBody, 403, app, resultSignature},
		{"another body", "/callback/" + app, clone(good), otherBody, 403, app, resultSignature},
		{"another query", "/callback/" + app, otherQuery, goodBody, 403, app, resultSignature},
		{"foreign app", "/callback/" + app, foreignQuery, foreignBody, 403, app, resultApp},
		{"plain, where safe", "/callback/" + app, plainQuery, plainBody, 403, app, resultPlain},
		{"old", "/callback/" + app, oldQuery, oldBody, 403, app, resultAge},
		{"future", "/callback/" + app, futureQuery, futureBody, 403, app, resultAge},
		{"no query", "/callback/" + app, nil, goodBody, 403, app, resultAge},
		{"truncated", "/callback/" + app, truncatedQuery, truncated, 400, app, resultDecrypt},
		{"entities", "/callback/" + plainApp, entityQuery, []byte(entity), 400, plainApp, resultFormat},
		{"empty", "/callback/" + plainApp, clone(entityQuery), nil, 400, plainApp, resultFormat},
		{"unknown app", "/callback/wx1111111111111111", clone(good), goodBody, 404, otherApp, resultUnknown},
		{"unknown path", "/callback", nil, nil, 404, "", ""},
		{"another path", "/v1/tasks", nil, nil, 404, "", ""},
		{"path below", "/callback/" + app + "/x", nil, nil, 404, "", ""},
	} {
		status, body := h.post(c.path+"?"+c.query.Encode(), c.body)
		if status != c.status || strings.Contains(body, callback.Success) {
			t.Errorf("%s: %d %s", c.name, status, body)
		}
		if c.result != "" && h.counted(c.app, c.result) == 0 {
			t.Errorf("%s was not counted as %s", c.name, c.result)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodOptions} {
		r, err := http.NewRequestWithContext(t.Context(), method, h.url+"/callback/"+app, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _ := h.do(r); status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, status)
		}
	}
	if n := rdb.XLen(t.Context(), streamKey(app)).Val(); n != 0 {
		t.Errorf("%d pushes were stored", n)
	}
	h.quiet()
}

func clone(q url.Values) url.Values {
	c := make(url.Values)
	for name, values := range q {
		c[name] = values
	}
	return c
}

// TestLarge: a push of 10 MB is refused, also if it does not say how long it is.
func TestLarge(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	keys, _ := keysOf(app)
	query, _, err := keys.Seal([]byte(receipt(1)), "gh_1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int64{10 << 20, -1} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.url+"/callback/"+app+"?"+query.Encode(), strings.NewReader(strings.Repeat("x", 10<<20)))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = length
		before := h.counted(app, resultLarge)
		response, err := http.DefaultClient.Do(r)
		if err == nil { // else the connection was closed while the body was being sent
			_ = response.Body.Close()
			if response.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", response.StatusCode)
			}
		}
		redistest.Until(t, long, "it is counted", func() bool { return h.counted(app, resultLarge) == before+1 })
	}
}

// TestVerifyURL: WeChat's check of the URL gets its text back.
func TestVerifyURL(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), nil)
	get := func(q url.Values) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+"/callback/"+app+"?"+q.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return h.do(r)
	}
	keys, _ := keysOf(app)
	query, _, err := keys.Seal([]byte("{}"), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	query.Set("echostr", "4375120948345356249")
	if status, body := get(query); status != http.StatusOK || body != "4375120948345356249" {
		t.Errorf("%d %s", status, body)
	}
	query.Set("nonce", "1")
	if status, body := get(query); status != http.StatusForbidden || strings.Contains(body, "4375") {
		t.Errorf("%d %s", status, body)
	}
	if h.counted(app, resultVerified) != 1 || h.counted(app, resultSignature) != 1 {
		t.Error("not counted")
	}
}

// TestRedisDoesNotAnswer: WeChat gets an answer in time that makes it repeat, and the repetition is
// stored once, also if the first push was stored late.
func TestRedisDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	tune := quick()
	tune.answer = 300 * time.Millisecond
	h := newHarness(t, rdb, tune, nil)
	first := receipt(1)
	redistest.Until(t, long, "the first push is stored", func() bool {
		status, _ := h.send(app, first)
		return status == http.StatusOK
	})
	thaw := server.Freeze()
	message := receipt(2)
	if status, body := h.send(app, message); status != http.StatusServiceUnavailable || strings.Contains(body, callback.Success) {
		t.Errorf("%d %s", status, body)
	}
	thaw()
	redistest.Until(t, long, "the repetition is stored", func() bool {
		status, _ := h.send(app, message)
		return status == http.StatusOK
	})
	if n := rdb.XLen(t.Context(), streamKey(app)).Val(); n != 2 {
		t.Errorf("%d entries", n)
	}
	server.Kill()
	if status, _ := h.send(app, receipt(3)); status != http.StatusServiceUnavailable {
		t.Error(status)
	}
	server.Restart() // its data was not saved
	third := receipt(3)
	redistest.Until(t, long, "pushes are stored again", func() bool {
		status, _ := h.send(app, third)
		return status == http.StatusOK
	})
	if h.counted(app, resultRedis) < 2 {
		t.Error("not counted")
	}
	h.quiet()
}

// TestSlowClient: a client that does not send its body is not waited for, whether its request is refused
// or not: its connection is closed.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	tune := quick()
	tune.body = 50 * time.Millisecond
	h := newHarness(t, rdb, tune, nil)
	keys, _ := keysOf(app)
	query, _, err := keys.Seal([]byte(receipt(1)), "gh_1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/callback/" + app + "?" + query.Encode(), "/callback/" + app + "?timestamp=1", "/callback/wx9999999999999999", "/elsewhere"} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("POST " + target + " HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n<xml>")); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(long))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open", strings.Split(target, "?")[0])
		}
		_ = conn.Close()
	}
	redistest.Until(t, long, "it is refused", func() bool { return h.counted(app, resultClient) == 1 })
}

// TestPanic: a request that panics is answered, and what it had is not logged.
func TestPanic(t *testing.T) {
	t.Parallel()
	_, rdb := redistest.Mini(t)
	h := newHarness(t, rdb, quick(), func(string) (Forward, bool) { panic("my secret") })
	if status, _ := h.send(app, text(1)); status != http.StatusInternalServerError {
		t.Error(status)
	}
	if h.counted(app, resultPanic) != 1 || !strings.Contains(h.log.String(), "panic: string") {
		t.Error(h.log)
	}
	h.quiet()
}

// TestNewNeedsItsDeps and does no I/O.
func TestNewNeedsItsDeps(t *testing.T) {
	t.Parallel()
	if _, err := New(Deps{}); err == nil {
		t.Error("no error")
	}
}
