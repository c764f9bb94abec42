package sandbox

import (
	"encoding/json"
	"strings"
	"testing"
)

// session is an answer of jscode2session.
type session struct {
	Key    string `json:"session_key"`
	OpenID string `json:"openid"`
}

func login(t *testing.T, s *Server, code string) (session, answer) {
	t.Helper()
	a := do(t, s, "GET", pathSession+loginQuery(code), "")
	var got session
	if err := json.Unmarshal([]byte(a.raw), &got); err != nil {
		t.Fatalf("%s: %v", a.raw, err)
	}
	return got, a
}

func TestSession(t *testing.T) {
	clock := newClock()
	s := New(Options{Apps: map[string]string{testApp: testSecret}, Clock: clock.Now})
	first, a := login(t, s, "0a3Kfp1w3XYZ")
	if a.ErrCode != 0 || strings.Contains(a.raw, "errcode") || len(first.Key) != 24 || len(first.OpenID) != 28 || !validOpenID(first.OpenID) {
		t.Errorf("login: %s", a.raw)
	}
	if other, _ := login(t, s, "0a3Kfp1w3XYz"); other.OpenID == first.OpenID || other.Key == first.Key {
		t.Error("two codes give the same openid or key")
	}
	if _, a := login(t, s, "0a3Kfp1w3XYZ"); a.ErrCode != 40163 {
		t.Errorf("code used twice: %s", a.raw)
	}
	if again, _ := login(t, New(Options{}), "0a3Kfp1w3XYZ"); again != first {
		t.Errorf("another sandbox: %+v, want %+v", again, first)
	}
	for query, code := range map[string]int{
		"?js_code=c&grant_type=authorization_code&secret=" + testSecret:                               41002,
		"?js_code=c&grant_type=authorization_code&appid=" + testApp:                                   41004,
		"?js_code=c&grant_type=client_credential&appid=" + testApp + "&secret=" + testSecret:          40002,
		"?js_code=c&grant_type=authorization_code&appid=wx1&secret=" + testSecret:                     40013,
		"?js_code=c&grant_type=authorization_code&appid=" + testApp + "&secret=x":                     40125,
		"?grant_type=authorization_code&appid=" + testApp + "&secret=" + testSecret:                   41008,
		"?js_code=%E6%B1%89&grant_type=authorization_code&appid=" + testApp + "&secret=" + testSecret: 40029,
	} {
		if a := do(t, s, "GET", pathSession+query, ""); a.ErrCode != code {
			t.Errorf("%s: %s, want %d", query, a.raw, code)
		}
	}
	s.BlockIP(testApp, true)
	if _, a := login(t, s, "c2"); a.ErrCode != 0 {
		t.Errorf("a login from an IP that is not on the whitelist: %s", a.raw)
	}
}

// The code names the fault. A login whose answer was lost has used up its code.
func TestLoginFaults(t *testing.T) {
	s := New(Options{})
	if _, a := login(t, s, "busy-c1"); a.ErrCode != -1 {
		t.Errorf("busy: %s", a.raw)
	}
	if _, a := login(t, s, "busy-c1"); a.ErrCode != 0 {
		t.Errorf("busy, once more: %s", a.raw)
	}
	if _, err := s.AddFault(Fault{ErrCode: 45011, Path: pathPhone}); err != nil {
		t.Fatal(err)
	}
	if a := post(t, s, pathPhone, goodBody(pathPhone, "")); a.ErrCode != 45011 {
		t.Errorf("rule: %s", a.raw)
	}
	o := startSandbox(t, Options{})
	if _, err := o.send(t.Context(), t, pathPhone, `{"code":"lost-c1"}`); err == nil {
		t.Error("the fault lost did not suppress the answer")
	}
	if a, err := o.send(t.Context(), t, pathPhone, `{"code":"lost-c1"}`); err != nil || a.ErrCode != 40029 {
		t.Errorf("after a lost answer: %s %v", a.raw, err)
	}
}

func TestPhoneNumber(t *testing.T) {
	s := New(Options{})
	number := func(s *Server, body string) (phoneInfo, int) {
		t.Helper()
		var got struct {
			ErrCode int       `json:"errcode"`
			Info    phoneInfo `json:"phone_info"`
		}
		if err := json.Unmarshal([]byte(post(t, s, pathPhone, body).raw), &got); err != nil {
			t.Fatal(err)
		}
		return got.Info, got.ErrCode
	}
	one, code := number(s, `{"code":"c1"}`)
	if code != 0 || len(one.PhoneNumber) != 11 || one.PurePhoneNumber != one.PhoneNumber || one.Watermark.AppID != testApp {
		t.Errorf("%d %+v", code, one)
	}
	if same, _ := number(New(Options{}), `{"code":"c1"}`); same.PhoneNumber != one.PhoneNumber {
		t.Error("another sandbox gives another number")
	}
	for body, want := range map[string]int{`{"code":"c1"}`: 40029, `{}`: 41008, `{"code":"!"}`: 40029, `{"code":1}`: 47001} {
		if _, code := number(s, body); code != want {
			t.Errorf("%s: %d, want %d", body, code, want)
		}
	}
}

// Secrets are not kept, neither from the query nor from the body.
func TestSecretsAreNotKept(t *testing.T) {
	s := New(Options{})
	login(t, s, "c1")
	for _, body := range []string{"", `{"appid":"` + testApp + `","appsecret":"` + testSecret + `"}`} {
		query := ""
		if body == "" {
			query = "?appid=" + testApp + "&appsecret=" + testSecret
		}
		if a := do(t, s, "POST", pathClearQuotaV2+query, body); a.ErrCode != 0 {
			t.Errorf("clearing by %q%q: %s", query, body, a.raw)
		}
	}
	for _, c := range s.Calls(Filter{}) {
		if len(c.Body) > 0 || c.App != testApp {
			t.Errorf("%s of app %q: body %q", c.Path, c.App, c.Body)
		}
	}
}

func TestClearQuotaWithSecret(t *testing.T) {
	s := New(Options{Apps: map[string]string{testApp: testSecret}})
	if err := s.SetQuota(testApp, pathToken, 2_000); err != nil {
		t.Fatal(err)
	}
	token := func() int {
		return do(t, s, "GET", pathToken+"?grant_type=client_credential&appid="+testApp+"&secret="+testSecret, "").ErrCode
	}
	if got := token(); got != 45009 {
		t.Fatalf("token: %d", got)
	}
	for query, code := range map[string]int{
		"?appid=wx1&appsecret=" + testSecret:     40013,
		"?appid=" + testApp + "&appsecret=wrong": 40125,
		"?appid=" + testApp:                      41004,
		"":                                       41002,
	} {
		if a := do(t, s, "POST", pathClearQuotaV2+query, ""); a.ErrCode != code {
			t.Errorf("%q: %s, want %d", query, a.raw, code)
		}
	}
	if a := do(t, s, "POST", pathClearQuotaV2+"?appid="+testApp+"&appsecret="+testSecret, ""); a.ErrCode != 0 {
		t.Errorf("clearing: %s", a.raw)
	}
	if got := token(); got != 0 {
		t.Errorf("token after clearing: %d", got)
	}
}
