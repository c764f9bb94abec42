package sandbox

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	testApp    = "wx0123456789abcdef"
	testSecret = "0123456789abcdef0123456789abcdef"
)

// fakeClock is a clock that only move and set change.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *fakeClock {
	return &fakeClock{now: time.Date(2026, 12, 1, 12, 0, 0, 0, time.FixedZone("Asia/Shanghai", 8*3600))}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *fakeClock) set(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = at
}

// answer is a decoded answer of the sandbox.
type answer struct {
	status  int
	kind    string
	header  http.Header
	raw     string
	ErrCode int         `json:"errcode"`
	ErrMsg  string      `json:"errmsg"`
	MsgID   json.Number `json:"msgid"`
	Token   string      `json:"access_token"`
	Expires int         `json:"expires_in"`
	Open    string      `json:"openlink"`
	Link    string      `json:"url_link"`
	Trace   string      `json:"trace_id"`
	Result  verdict     `json:"result"`
}

// do sends a request straight to the handler.
func do(t *testing.T, s *Server, method, target, body string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if strings.HasPrefix(body, "--") {
		r.Header.Set("Content-Type", "multipart/form-data; boundary="+strings.TrimSpace(body[2:strings.Index(body, "\n")]))
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return readAnswer(t, w.Result())
}

func readAnswer(t *testing.T, res *http.Response) answer {
	t.Helper()
	raw, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Fatalf("read the answer: %v", err)
	}
	a := answer{status: res.StatusCode, kind: res.Header.Get("Content-Type"), header: res.Header, raw: string(raw)}
	if bytes.HasPrefix(raw, []byte("{")) {
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Fatalf("answer %s: %v", raw, err)
		}
	}
	return a
}

func stableToken(t *testing.T, s *Server) string {
	t.Helper()
	a := do(t, s, "POST", pathStableToken, `{"grant_type":"client_credential","appid":"`+testApp+`","secret":"`+testSecret+`"}`)
	if a.Token == "" {
		t.Fatalf("no token: %s", a.raw)
	}
	return a.Token
}

// post calls an endpoint with a valid token.
func post(t *testing.T, s *Server, path, body string) answer {
	t.Helper()
	return do(t, s, "POST", path+"?access_token="+stableToken(t, s), body)
}

// waitFor waits until condition is true, and fails the test after 10 s.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func upload(fileName, content string) string {
	return "--b0und\r\nContent-Disposition: form-data; name=\"media\"; filename=\"" + fileName + "\"\r\nContent-Type: image/png\r\n\r\n" + content + "\r\n--b0und--\r\n"
}

const tinyPNG = "\x89PNG\r\n\x1a\n..."

// goodBodies returns a valid body for each business endpoint; %s stands for the openid or another fault source.
func goodBodies() map[string]string {
	return map[string]string{
		pathSubscribe:    `{"touser":"%s","template_id":"T1","page":"pages/index/index?a=1","data":{"thing1":{"value":"订单已发货"}}}`,
		pathTemplate:     `{"touser":"%s","template_id":"T1","data":{"keyword1":{"value":"订单已发货","color":"#173177"}}}`,
		pathBizSubscribe: `{"touser":"%s","template_id":"T1","data":{"thing1":{"value":"订单已发货"}}}`,
		pathCustom:       `{"touser":"%s","msgtype":"text","text":{"content":"Hello"}}`,
		pathUniform:      `{"touser":"%s","mp_template_msg":{"appid":"wx1","template_id":"T1","data":{}}}`,
		pathScheme:       `{"jump_wxa":{"path":"pages/index/index","query":"%s"},"expire_type":1,"expire_interval":30}`,
		pathURLLink:      `{"path":"pages/index/index","query":"%s","expire_type":1,"expire_interval":1}`,
		pathUnlimited:    `{"scene":"%s","page":"pages/index/index"}`,
		pathCode:         `{"path":"pages/index/index?fault=%s"}`,
		pathQRCode:       `{"path":"pages/index/index?fault=%s"}`,
		pathTextCheck:    `{"content":"你好","version":2,"scene":2,"openid":"%s"}`,
		pathNFCScheme:    `{"jump_wxa":{"path":"pages/index/index","query":"%s"},"model_id":"m1","sn":"s1"}`,
		pathShortLink:    `{"page_url":"pages/index/index?fault=%s","page_title":"首页"}`,
		pathImageCheck:   upload("%s", tinyPNG),
		pathMediaCheck:   `{"media_url":"https://example.com/a.png","media_type":2,"version":2,"scene":1,"openid":"%s"}`,
	}
}

// otherGoodBodies returns valid bodies for endpoints without a fault source, or with a code that can be used once. Their days are
// long past.
func otherGoodBodies() map[string]string {
	return map[string]string{
		pathPhone:      `{"code":"c1"}`,
		pathVisitTrend: `{"begin_date":"20250101","end_date":"20250101"}`,
		pathPortrait:   `{"begin_date":"20250101","end_date":"20250107"}`,
		pathLive:       `{"start":0,"limit":10}`,
	}
}

func goodBody(path, source string) string {
	if body, ok := otherGoodBodies()[path]; ok {
		return body
	}
	return strings.Replace(goodBodies()[path], "%s", source, 1)
}

// loginQuery returns the query of a valid jscode2session request.
func loginQuery(code string) string {
	return "?appid=" + testApp + "&secret=" + testSecret + "&grant_type=authorization_code&js_code=" + code
}
