package sandbox

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

const (
	pushToken = "push-token"
	pushKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
)

// taken is a push as the receiver of a test got it, with the body decrypted.
type taken struct {
	body      string
	openid    string
	encrypted bool
	forged    bool
}

// receiver is an app's service.
type receiver struct {
	*httptest.Server
	answer func(n int, w http.ResponseWriter, r *http.Request) // to the n-th request, from 1; nil: "success"

	mu     sync.Mutex
	pushes []taken
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	got := &receiver{}
	got.Server = httptest.NewServer(got)
	t.Cleanup(got.Close)
	return got
}

// ServeHTTP checks and keeps a push.
func (g *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := readPush(r)
	g.mu.Lock()
	if err != nil {
		p.body = err.Error()
	}
	g.pushes = append(g.pushes, p)
	n := len(g.pushes)
	g.mu.Unlock()
	if g.answer != nil {
		g.answer(n, w, r)
		return
	}
	_, _ = w.Write([]byte("success"))
}

func (g *receiver) all() []taken {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.pushes)
}

// readPush verifies and decrypts a push.
func readPush(r *http.Request) (taken, error) {
	q := r.URL.Query()
	p := taken{openid: q.Get("openid"), encrypted: q.Get("encrypt_type") == "aes"}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return p, err
	}
	p.body = string(body)
	if !p.encrypted {
		p.forged = pushwire.Sign(pushToken, q.Get("timestamp"), q.Get("nonce")) != q.Get("signature")
		return p, nil
	}
	var envelope struct {
		To      string `xml:"ToUserName" json:"ToUserName"`
		Encrypt string `xml:"Encrypt" json:"Encrypt"`
	}
	if err = json.Unmarshal(body, &envelope); err != nil {
		err = xml.Unmarshal(body, &envelope)
	}
	if err != nil || !strings.HasPrefix(envelope.To, "gh_") {
		return p, fmt.Errorf("the envelope %s: %w", body, err)
	}
	p.forged = pushwire.Sign(pushToken, q.Get("timestamp"), q.Get("nonce"), envelope.Encrypt) != q.Get("msg_signature")
	p.body, err = decryptPush(envelope.Encrypt)
	return p, err
}

func decryptPush(text string) (string, error) {
	key, err := base64.StdEncoding.DecodeString(pushKey + "=")
	if err != nil {
		return "", err
	}
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(plain)%32 != 0 {
		return "", fmt.Errorf("%d bytes: %w", len(plain), err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", err
	}
	cipher.NewCBCDecrypter(block, key[:16]).CryptBlocks(plain, plain)
	plain = plain[:len(plain)-int(plain[len(plain)-1])]
	size := binary.BigEndian.Uint32(plain[16:])
	if app := string(plain[20+size:]); app != testApp {
		return "", fmt.Errorf("encrypted for %q", app)
	}
	return string(plain[20 : 20+size]), nil
}

// withReceiver returns a sandbox that pushes the events of testApp.
func withReceiver(t *testing.T, opts Options, c Callback) (*Server, *receiver) {
	t.Helper()
	got := newReceiver(t)
	c.URL, c.Token = got.URL+"/callback", pushToken
	opts.Callbacks = map[string]Callback{testApp: c}
	s := New(opts)
	t.Cleanup(s.Close)
	return s, got
}

func waitPushes(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.WaitPushes(ctx); err != nil {
		t.Fatalf("%v, the pushes: %+v", err, s.Pushes(PushFilter{}))
	}
}

func subscribeTo(openid string) string {
	return `{"touser":"` + openid + `","template_id":"T1","data":{"thing1":{"value":"雨伞"}}}`
}

func TestReceiptFormats(t *testing.T) {
	clock := newClock()
	created := clock.Now().Unix()
	message := `{"touser":"oOne","template_id":"T1","data":{"thing1":{"value":"雨伞"}}}`
	media := `{"media_url":"https://example.com/a.png","media_type":2,"version":2,"scene":1,"openid":"oOne"}`
	lost := `{"media_url":"https://cdn.invalid/a.png","media_type":2,"version":2,"scene":1,"openid":"oOne"}`
	common := func(event string) string {
		return fmt.Sprintf("<ToUserName><![CDATA[{gh}]]></ToUserName><FromUserName><![CDATA[oOne]]></FromUserName><CreateTime>%d</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[%s]]></Event>", created, event)
	}
	commonJSON := func(event, quote string) string {
		return fmt.Sprintf(`{"ToUserName":"{gh}","FromUserName":"oOne","CreateTime":%[2]s%[3]d%[2]s,"MsgType":"event","Event":"%[1]s",`, event, quote, created)
	}
	sent := "<xml>" + common(eventSubscribeSent) + "<SubscribeMsgSentEvent><List><TemplateId><![CDATA[T1]]></TemplateId><MsgID>{id}</MsgID><ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List></SubscribeMsgSentEvent></xml>"
	job := "<xml>" + common(eventTemplateSent) + "<MsgID>{id}</MsgID><Status><![CDATA[success]]></Status></xml>"
	tests := []struct {
		name, path, request, format, want string
	}{
		{"subscribe in XML", pathSubscribe, message, FormatXML, sent},
		{
			"subscribe in JSON", pathSubscribe, message, FormatJSON,
			commonJSON(eventSubscribeSent, `"`) + `"List":{"TemplateId":"T1","MsgID":"{id}","ErrorCode":"0","ErrorStatus":"success"}}`,
		},
		{"official account's subscribe is in XML", pathBizSubscribe, message, FormatJSON, sent},
		{"template", pathTemplate, message, "", job},
		{"template is in XML", pathTemplate, message, FormatJSON, job},
		{
			"media in XML", pathMediaCheck, media, FormatXML,
			"<xml>" + common(eventMediaCheck) + "<appid><![CDATA[" + testApp + "]]></appid><trace_id><![CDATA[{trace}]]></trace_id><version>2</version><detail><strategy><![CDATA[content_model]]></strategy><errcode>0</errcode><suggest><![CDATA[pass]]></suggest><label>100</label><prob>90</prob></detail><errcode>0</errcode><errmsg><![CDATA[ok]]></errmsg><result><suggest><![CDATA[pass]]></suggest><label>100</label></result></xml>",
		},
		{
			"media in JSON", pathMediaCheck, media, FormatJSON,
			commonJSON(eventMediaCheck, "") + `"appid":"` + testApp + `","trace_id":"{trace}","version":2,"detail":[{"strategy":"content_model","errcode":0,"suggest":"pass","label":100,"prob":90}],"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100}}`,
		},
		{
			"media that cannot be downloaded", pathMediaCheck, lost, FormatJSON,
			commonJSON(eventMediaCheck, "") + `"appid":"` + testApp + `","trace_id":"{trace}","version":2,"errcode":-1008,"errmsg":"download failed"}`,
		},
	}
	for _, tt := range tests {
		for _, key := range []string{"", pushKey} {
			s, got := withReceiver(t, Options{Clock: clock.Now}, Callback{AESKey: key, Format: tt.format})
			a := post(t, s, tt.path, tt.request)
			waitPushes(t, s)
			pushes := got.all()
			if len(pushes) != 1 {
				t.Fatalf("%s: %d pushes: %+v", tt.name, len(pushes), s.Pushes(PushFilter{}))
			}
			want := strings.NewReplacer("{gh}", originalID(testApp), "{id}", a.MsgID.String(), "{trace}", a.Trace).Replace(tt.want)
			if p := pushes[0]; p.body != want || p.forged || p.encrypted != (key != "") || p.openid != "oOne" {
				t.Errorf("%s: %+v\nwant %s", tt.name, p, want)
			}
			log := s.Pushes(PushFilter{})
			if p := log[0]; len(log) != 1 || p.Status != PushTaken || p.Attempts != 1 || p.MsgID != a.MsgID.String() || p.TraceID != a.Trace || p.Answer != 200 || p.OpenID != "oOne" {
				t.Errorf("%s: the log %+v", tt.name, log)
			}
		}
	}
}

// Nothing is pushed for a call that was refused, a message that was not sent again, or an app without a callback.
func TestNoReceipt(t *testing.T) {
	s, got := withReceiver(t, Options{}, Callback{})
	post(t, s, pathSubscribe, subscribeTo("unsubscribed-oOne"))
	post(t, s, pathCustom, `{"touser":"oOne","msgtype":"text","text":{"content":"a"}}`)
	first := post(t, s, pathTemplate, `{"touser":"oOne","template_id":"T1","client_msg_id":"1","data":{"thing1":{"value":"雨伞"}}}`)
	again := post(t, s, pathTemplate, `{"touser":"oOne","template_id":"T1","client_msg_id":"1","data":{"thing1":{"value":"雨伞"}}}`)
	if first.MsgID != again.MsgID {
		t.Fatalf("%s and %s", first.raw, again.raw)
	}
	waitPushes(t, s)
	if err := s.SetCallback(testApp, Callback{}); err != nil {
		t.Fatal(err)
	}
	post(t, s, pathSubscribe, subscribeTo("oOne"))
	waitPushes(t, s)
	if pushes := got.all(); len(pushes) != 1 || !strings.Contains(pushes[0].body, first.MsgID.String()) {
		t.Errorf("%+v", pushes)
	}
}

// A push whose answer is not what WeChat expects is sent three times.
func TestPushAttempts(t *testing.T) {
	tests := []struct {
		name     string
		answer   func(n int, w http.ResponseWriter, r *http.Request)
		attempts int
		status   PushStatus
		http     int
	}{
		{"nothing", func(int, http.ResponseWriter, *http.Request) {}, 1, PushTaken, 200},
		{"a reply", func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<xml></xml>")) }, 1, PushTaken, 200},
		{"another text", func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("fail")) }, 3, PushFailed, 200},
		{"a redirect", func(_ int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, 3, PushFailed, 302},
		{"no answer", func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 3, PushFailed, 0},
		{"an error, then success", func(n int, w http.ResponseWriter, _ *http.Request) {
			if n < 2 {
				w.WriteHeader(http.StatusBadGateway)
			}
		}, 2, PushTaken, 200},
	}
	for _, tt := range tests {
		opts := PushOptions{Timeout: 30 * time.Second, Interval: time.Millisecond}
		if tt.name == "no answer" {
			opts.Timeout = 20 * time.Millisecond
		}
		s, got := withReceiver(t, Options{Pushes: opts}, Callback{})
		got.answer = tt.answer
		post(t, s, pathSubscribe, subscribeTo("oOne"))
		waitPushes(t, s)
		log := s.Pushes(PushFilter{})
		if p := log[0]; len(log) != 1 || p.Attempts != tt.attempts || p.Status != tt.status || p.Answer != tt.http {
			t.Errorf("%s: %+v", tt.name, log)
		}
		if n := s.PushCounts(); n[tt.status] != 1 || len(n) != 1 {
			t.Errorf("%s: counts %v", tt.name, s.PushCounts())
		}
	}
}

func TestCallbackErrors(t *testing.T) {
	good := Callback{URL: "http://127.0.0.1:1/callback", Token: pushToken, AESKey: pushKey, Format: FormatJSON}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	tests := []struct {
		name   string
		change func(*Callback)
		want   string
	}{
		{"no host", func(c *Callback) { c.URL = "http:///callback" }, "the URL of a callback"},
		{"another scheme", func(c *Callback) { c.URL = "ftp://127.0.0.1/" }, "the URL of a callback"},
		{"no token", func(c *Callback) { c.Token = "" }, "the token of a callback is missing"},
		{"a short key", func(c *Callback) { c.AESKey = "secretkey" }, "the AES key of a callback must have 43"},
		{"another format", func(c *Callback) { c.Format = "yaml" }, `neither "xml" nor "json"`},
	}
	s := New(Options{Apps: map[string]string{testApp: testSecret}})
	for _, tt := range tests {
		c := good
		tt.change(&c)
		err := s.SetCallback(testApp, c)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secretkey") || strings.Contains(err.Error(), pushToken) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := s.SetCallback("wxother", good); err == nil {
		t.Error("a callback of an app that the sandbox does not know")
	}
	defer func() {
		if recover() == nil {
			t.Error("New accepts an invalid callback")
		}
	}()
	New(Options{Callbacks: map[string]Callback{testApp: {}}})
}

// Close ends pushes that wait and that are under way, and leaves no goroutine.
func TestClose(t *testing.T) {
	s, got := withReceiver(t, Options{}, Callback{})
	got.answer = func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	if _, err := s.AddPushFault(PushFault{Name: "latereceipt", OpenID: "oLate", Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	post(t, s, pathSubscribe, subscribeTo("oLate"))
	post(t, s, pathSubscribe, subscribeTo("oNow"))
	waitFor(t, "the push", func() bool { return len(got.all()) == 1 })
	s.Close()
	waitPushes(t, s)
	if n := s.PushCounts(); n[PushDiscarded] != 2 || len(n) != 1 {
		t.Errorf("%v", n)
	}
	post(t, s, pathSubscribe, subscribeTo("oAfter"))
	if len(s.Pushes(PushFilter{OpenID: "oAfter"})) != 0 {
		t.Error("an event after Close is pushed")
	}
}

func TestPushQueueIsBounded(t *testing.T) {
	s, _ := withReceiver(t, Options{Pushes: PushOptions{MaxQueue: 2, Delay: time.Hour}, KeepCalls: 3}, Callback{})
	for i := range 5 {
		post(t, s, pathSubscribe, subscribeTo(fmt.Sprintf("o%d", i)))
	}
	if n := s.PushCounts(); n[PushQueued] != 2 || n[PushDiscarded] != 3 {
		t.Errorf("%v", n)
	}
	if log := s.Pushes(PushFilter{}); len(log) != 3 || log[0].OpenID != "o2" || log[2].Seq != 5 {
		t.Errorf("the latest three: %+v", log)
	}
	s.Reset()
	waitPushes(t, s)
	if log := s.Pushes(PushFilter{}); len(log) != 0 || len(s.PushCounts()) != 0 {
		t.Errorf("after a reset: %+v", log)
	}
	post(t, s, pathSubscribe, subscribeTo("oNext"))
	if log := s.Pushes(PushFilter{}); len(log) != 1 || log[0].OpenID != "oNext" || log[0].Status != PushQueued {
		t.Errorf("%+v", log)
	}
}

// The control API sets a callback, verifies it, and reports its pushes without its secrets.
func TestPushControl(t *testing.T) {
	got := newReceiver(t)
	echo := true
	got.answer = func(_ int, w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); echo && q.Get("signature") == pushwire.Sign(pushToken, q.Get("timestamp"), q.Get("nonce")) {
			_, _ = w.Write([]byte(q.Get("echostr"))) //nolint:gosec // WeChat demands it, and the reader is no browser
		}
	}
	s := New(Options{})
	t.Cleanup(s.Close)
	set := `{"app":"` + testApp + `","url":"` + got.URL + `","token":"` + pushToken + `","aes_key":"` + pushKey + `","verify":true}`
	if a := do(t, s, "POST", "/sandbox/callback", set); a.status != 200 {
		t.Errorf("%d %s", a.status, a.raw)
	}
	echo = false
	if a := do(t, s, "POST", "/sandbox/callback", set); a.status != 400 || !strings.Contains(a.raw, "not the echostr alone") {
		t.Errorf("a URL that does not verify: %d %s", a.status, a.raw)
	}
	if a := do(t, s, "POST", "/sandbox/pushfaults", `{"fault":"latereceipt","delay":"1ms","event":"subscribe_msg_popup_event"}`); a.raw != `{"id":1,"fault":"latereceipt","event":"subscribe_msg_popup_event","delay":"1ms"}` {
		t.Error(a.raw)
	}
	if a := do(t, s, "GET", "/sandbox/pushfaults", ""); !strings.Contains(a.raw, `"delay":"1ms"`) {
		t.Error(a.raw)
	}
	do(t, s, "POST", "/sandbox/popup", `{"app":"`+testApp+`","openid":"oOne","choices":[{"template":"T1","status":"accept"}]}`)
	if a := do(t, s, "GET", "/sandbox/credits?app="+testApp+"&openid=oOne&template=T1", ""); a.raw != `{"credits":1}` {
		t.Error(a.raw)
	}
	post(t, s, pathSubscribe, subscribeTo("oOne"))
	waitPushes(t, s)
	if a := do(t, s, "GET", "/sandbox/pushcounts", ""); a.raw != `{"taken":2}` {
		t.Error(a.raw)
	}
	a := do(t, s, "GET", "/sandbox/pushes?status=taken", "")
	if strings.Count(a.raw, `"status":"taken"`) != 2 || strings.Contains(a.raw, pushToken) || strings.Contains(a.raw, pushKey) || strings.Contains(a.raw, got.URL) {
		t.Error(a.raw)
	}
	if a := do(t, s, "GET", "/sandbox/pushes?limit=1", ""); !strings.Contains(a.raw, eventSubscribeSent) {
		t.Error(a.raw)
	}
	if a := do(t, s, "GET", "/sandbox/templates?app="+testApp, ""); !strings.Contains(a.raw, "enum2") {
		t.Error(a.raw)
	}
	do(t, s, "DELETE", "/sandbox/pushfaults", "")
	do(t, s, "DELETE", "/sandbox/callback?app="+testApp, "")
	post(t, s, pathSubscribe, subscribeTo("oTwo"))
	if len(s.PushFaults()) != 0 || len(s.Pushes(PushFilter{OpenID: "oTwo"})) != 0 {
		t.Errorf("%+v, %+v", s.PushFaults(), s.Pushes(PushFilter{}))
	}
}
