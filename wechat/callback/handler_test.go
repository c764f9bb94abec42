package callback_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/wechat/callback"
)

func ExampleHandler() {
	keys := callback.Keys{App: "wx0123456789abcdef", Token: "spamtest", AESKey: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}
	server := httptest.NewServer(&callback.Handler{
		Keys: keys,
		Push: func(_ context.Context, _ callback.Message, p callback.Push) ([]byte, error) {
			for _, r := range p.Receipts {
				fmt.Println(r.MsgID, r.Delivery, r.Status)
			}
			return nil, nil
		},
	})
	defer server.Close()

	// As WeChat does it:
	query, body, _ := keys.Seal([]byte(`{"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":3395159288267931652,"Status":"failed:user block"}`), "gh_1", time.Now())
	answer, err := http.Post(server.URL+"?"+query.Encode(), callback.JSON.ContentType(), bytes.NewReader(body)) //nolint:noctx // an example
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = answer.Body.Close()
	fmt.Println(answer.Status)
	// Output:
	// 3395159288267931652 blocked failed:user block
	// 200 OK
}

func TestHandler(t *testing.T) {
	t.Parallel()
	keys := callback.Keys{App: "wx0123456789abcdef", Token: "spamtest", AESKey: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}
	h := &callback.Handler{Keys: keys, MaxBody: 4096, Push: func(_ context.Context, _ callback.Message, p callback.Push) ([]byte, error) {
		switch p.Event {
		case "fail":
			return nil, errors.New("no")
		case "reply":
			return []byte(`{"reply":1}`), nil
		}
		return nil, nil
	}}
	sealed := func(message string, at time.Time) (url.Values, string) {
		q, body, err := keys.Seal([]byte(message), "gh_1", at)
		if err != nil {
			t.Fatal(err)
		}
		return q, string(body)
	}
	now := time.Now()
	echo, _ := sealed("{}", now)
	echo.Set("echostr", "4375120948345356249")
	wrong, _ := sealed("{}", now)
	wrong.Set("signature", "x")
	ok, okBody := sealed(`{"MsgType":"event","Event":"x"}`, now)
	old, oldBody := sealed(`{"MsgType":"event","Event":"x"}`, now.Add(-2*time.Hour))
	fail, failBody := sealed(`{"MsgType":"event","Event":"fail"}`, now)
	reply, replyBody := sealed(`{"MsgType":"event","Event":"reply"}`, now)
	malformed, malformedBody := sealed(`{"a":1}`, now)
	for _, c := range []struct {
		method string
		query  url.Values
		body   string
		code   int
		want   string
	}{
		{http.MethodGet, echo, "", 200, "4375120948345356249"},
		{http.MethodGet, wrong, "", 403, "Forbidden"},
		{http.MethodPut, echo, "", 405, "Method Not Allowed"},
		{http.MethodPost, ok, okBody, 200, "success"},
		{http.MethodPost, wrong, okBody, 403, "Forbidden"},
		{http.MethodPost, old, oldBody, 403, "Forbidden"},
		{http.MethodPost, fail, failBody, 500, "Internal Server Error"},
		{http.MethodPost, reply, replyBody, 200, `{"Encrypt":"`},
		{http.MethodPost, malformed, malformedBody, 400, "Bad Request"},
		{http.MethodPost, ok, strings.Repeat(" ", 5000), 413, "Request Entity Too Large"},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, "/?"+c.query.Encode(), strings.NewReader(c.body)))
		if w.Code != c.code || !strings.HasPrefix(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s", c.method, c.body, w.Code, w.Body)
		}
	}
}
