package wechat

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The example of WeChat's page about the API security mode, whose keys are public:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/getting_started/api_signature.html
const (
	pageApp         = "wxba6223c06417af7b"
	pageAddress     = "https://api.weixin.qq.com/wxa/getuserriskrank"
	pageSymmetricSN = "fa05fe1e5bcc79b81ad5ad4b58acf787"
	pageKey         = "otUpngOjU+nVQaWJIC3D/yMLV17RKaP6t4Ot9tbnzLY="
	pageCertificate = "79ba700ea147819f640941bceb38b1d1"
	pagePlain       = `{"_n":"o89QaPVsRu1yppIZzvSZc4","_appid":"wxba6223c06417af7b","_timestamp":1635927954,"appid":"wxba6223c06417af7b","openid":"oEWzBfmdLqhFS2mTXCo2E4Y9gJAM","scene":0,"client_ip":"127.0.0.1"}`
	pageRequest     = `{"iv":"fmW/zNxXlytUZBgj","data":"0IDVdrPtSPF/Oe2CTXCV2vVNPbVJdJlP2WaTMQnoYLh5iCrrSNfQFh25EnStDMf0hLlVNBCZQtf9NaV0m4aRA4AAYIO7oR/Ge+4yY4EmZp5EVPB42xjScgMx5X3D4VdLCfynXIUKUtZHZvk1zmLVE3RauzJgiM1BB1CPmwcENo3MTJ0z8Vfkf5tMv54kOXobDLlV5rfqKdAX7gM/rP82DgZdt9vvZX44ipdbHIjJvw83ZXAFtvftdVw2Qd8=","authtag":"5qeM/2vZv+6KtScN94IpMg=="}`
	pageSignature   = `wcSSWHZunjz9VKl9q+If9deiyECXDAELfAJNZ4+5T+NhFr8zfhkwdQtlgQ7nN5xs99R57La9UjBTRBGge2KYyshWtw7HIMPAqWNsnpHvx0b2f7s6Bt7OpfOQLlIfNgepgTVmUwrqW8/7A12szj7tCe/bRFilwnaX6N0w4duHlfL7ic7IIZXouvy9dLRAa5GtEk1eD/LPWRiKh0SvJ3znPY/pSiQW9zSkXVdj9UGGM8qcKLzPGJ7gSmt3ZOPkFapk9wqFmhJwQj//xN5+hUlr2UiNPMNSHve5Y2ADLsNHqk5t7RfAZ8nW9/8lzhVt4t+toy1FeehxCGIC8qgmjIl1hg==`
	pageAnswer      = `{"iv":"r2WDQt56rEAmMuoR","data":"HExs66Ik3el+iM4IpeQ7SMEN934FRLFYOd3EmeaIrpP4EPTHckoco6O+PaoRZRa3lqaPRZT7r52f7LUok6gLxc6cdR8C4vpIIfh4xfLC4L7FNy9GbuMK1hcoi8b7gkWJcwZMkuCFNEDmqn3T49oWzAQOrY4LZnnnykv6oUJotdAsnKvmoJkLK7hRh7M2B1d2UnTnRuoIyarXc5Iojwoghx4BOvnV","authtag":"z2BFD8QctKXTuBlhICGOjQ=="}`
	pageAnswerSign  = `Ht0VfQkkEweJ4hU266C14Aj64H9AXfkwNi5zxUZETCvR2svU1ZYdosDhFX/voLj1TyszqKsVxAlENGt7PPZZ8RQX7jnA4SKhiPUhW4LTbyTenisHJ+ohSfDjYnXavjQsBHspFS+BlPHuSSJ2xyQzw1+HuC6nid09ZL4FnGSYo4OI5MJrSb9xLzIVZMIDuUQchGKi/KaB1KzxECLEZcfjqbAgmxC7qOmuBLyO1WkHYDM95NJrHJWba5xv4wrwPru9yYTJSNRnlM+zrW5w9pOubC4Jtj3szTAEuOz9AcqUmgaAvMLNAIa8hfODLRe3n/cu4SgYlN/ZkNRU4QXVNbPGMg==`
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path) //nolint:gosec // of testdata
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func pageConfig(t *testing.T) SecurityConfig {
	t.Helper()
	return SecurityConfig{
		SymmetricSN: pageSymmetricSN, SymmetricKey: pageKey, PrivateSN: "97845f6ed842ea860df6fdf65941ff56",
		PrivateKey:   Secret(readText(t, "testdata/security_private.pem")),
		Certificates: []PlatformCertificate{{SN: pageCertificate, PEM: readText(t, "testdata/security_platform.pem")}},
	}
}

func newTestSecurity(t *testing.T, app string, c SecurityConfig) *Security {
	t.Helper()
	s, err := NewSecurity(app, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSecurityExample: what WeChat's page computes.
func TestSecurityExample(t *testing.T) {
	s := newTestSecurity(t, pageApp, pageConfig(t))
	nonce, err := base64.StdEncoding.DecodeString("fmW/zNxXlytUZBgj")
	if err != nil {
		t.Fatal(err)
	}
	sealed, header, err := s.sealWith(pageAddress, "1635927954", []byte(pagePlain), nonce)
	if err != nil || string(sealed) != pageRequest {
		t.Fatalf("%s, %v", sealed, err)
	}
	for _, signature := range []string{header.Get("Wechatmp-Signature"), pageSignature} { // ours differs with each signing
		raw, err := base64.StdEncoding.DecodeString(signature)
		if err != nil {
			t.Fatal(err)
		}
		options := &rsa.PSSOptions{SaltLength: 32}
		if err := rsa.VerifyPSS(&s.private.PublicKey, crypto.SHA256, s.digest(pageAddress, "1635927954", sealed), raw, options); err != nil {
			t.Error(err)
		}
	}
	if header.Get("Wechatmp-Appid") != pageApp || header.Get("Wechatmp-TimeStamp") != "1635927954" || header.Get("Wechatmp-Serial") != s.privateSN {
		t.Errorf("headers %v", header)
	}

	if sum := hex.EncodeToString(s.digest(pageAddress, "1635927956", []byte(pageAnswer))); sum != "f797cafd9e323df336fb427569fbe67e20d5bc96dd68a3f54d66b54e6e08bb27" {
		t.Errorf("hash of the answer: %s", sum)
	}
	answer := http.Header{}
	answer.Set("Wechatmp-Appid", pageApp)
	answer.Set("Wechatmp-TimeStamp", "1635927956")
	answer.Set("Wechatmp-Serial", pageCertificate)
	answer.Set("Wechatmp-Signature", pageAnswerSign)
	answer.Set("Wechatmp-Serial-Deprecated", "2171af9cdf1d7404423852e7e183d852")
	plain, deprecated, err := s.open(pageAddress, answer, []byte(pageAnswer), time.Unix(1635927956, 0))
	if want := `{"errcode":0,"errmsg":"getuserriskrank succ","risk_rank":0,"unoin_id":2258658297}`; err != nil || deprecated || string(plain) != want {
		t.Errorf("%s, %v, %v", plain, deprecated, err)
	}
}

// securedWeChat is a stand-in that requires the API security mode, with the key of the page.
type securedWeChat struct {
	*httptest.Server
	t        *testing.T
	app      string
	security *Security // its AEAD and its digest
	private  *rsa.PrivateKey
	serial   string
	old      *rsa.PrivateKey // of the certificate that is being replaced; nil: none
	oldSN    string
	answer   string
	mutate   func(h http.Header, body []byte) []byte // what goes wrong with the answer
	plain    []string                                // bodies, decrypted
	query    string                                  // of the last request
}

// certificate makes a certificate, and returns its key and its PEM.
func certificate(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (f *securedWeChat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	f.query = r.URL.RawQuery
	address, timestamp := f.URL+r.URL.Path, r.Header.Get("Wechatmp-TimeStamp")
	signature, err := base64.StdEncoding.DecodeString(r.Header.Get("Wechatmp-Signature"))
	if err != nil || rsa.VerifyPSS(&f.security.private.PublicKey, crypto.SHA256, f.security.digest(address, timestamp, body), signature, nil) != nil {
		_, _ = io.WriteString(w, `{"errcode":40234,"errmsg":"API_Invalid_Signature"}`)
		return
	}
	var m sealedMessage
	if err := json.Unmarshal(body, &m); err != nil {
		f.t.Error(err)
	}
	plain, err := f.security.decrypt(address, timestamp, m)
	if err != nil || !json.Valid(plain) {
		f.t.Error(err, string(plain))
	}
	f.plain = append(f.plain, string(plain))
	f.reply(w, address)
}

func (f *securedWeChat) reply(w http.ResponseWriter, address string) {
	now := fmt.Sprint(time.Now().Unix())
	body, err := f.security.addMembers(nil, []byte(f.answer), now)
	if err != nil {
		f.t.Error(err)
	}
	nonce := make([]byte, gcmNonceSize)
	_, _ = rand.Read(nonce)
	sealed, _, err := f.security.sealWith(address, now, body, nonce)
	if err != nil {
		f.t.Error(err)
	}
	sign := func(key *rsa.PrivateKey) string {
		signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, f.security.digest(address, now, sealed), &rsa.PSSOptions{SaltLength: sha256.Size})
		if err != nil {
			f.t.Error(err)
		}
		return base64.StdEncoding.EncodeToString(signature)
	}
	h := w.Header()
	h.Set("Wechatmp-Appid", f.app)
	h.Set("Wechatmp-TimeStamp", now)
	h.Set("Wechatmp-Serial", f.serial)
	h.Set("Wechatmp-Signature", sign(f.private))
	if f.old != nil {
		h.Set("Wechatmp-Serial-Deprecated", f.oldSN)
		h.Set("Wechatmp-Signature-Deprecated", sign(f.old))
	}
	if f.mutate != nil {
		sealed = f.mutate(h, sealed)
	}
	_, _ = w.Write(sealed) //nolint:gosec // the test reads it
}

func newSecuredWeChat(t *testing.T) (*securedWeChat, SecurityConfig) {
	t.Helper()
	c := pageConfig(t)
	f := &securedWeChat{t: t, app: testApp, serial: "aa01", answer: `{"errcode":0,"errmsg":"ok","trace_id":"t-1","result":{"suggest":"pass","label":100}}`}
	key, text := certificate(t)
	f.private = key
	c.Certificates = []PlatformCertificate{{SN: f.serial, PEM: text}}
	f.security = newTestSecurity(t, testApp, c)
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f, c
}

func (f *securedWeChat) client(s *Security, deprecated func(string)) *Client {
	c := NewClient(Config{BaseURL: f.URL, Timeout: 20 * time.Second, AttemptTimeout: 20 * time.Second}, &fixedTokens{token: testToken},
		WithSecurity(func(app string) *Security {
			if app == testApp {
				return s
			}
			return nil
		}, deprecated))
	f.t.Cleanup(c.CloseIdle)
	return c
}

const checkBody = `{"content":"文字","version":2,"scene":1,"openid":"` + testOpenID + `"}`

// TestSecuredCall: a request to an endpoint that supports it is encrypted and signed, and its answer
// verified and decrypted; requests to others, and of other apps, are as without it.
func TestSecuredCall(t *testing.T) {
	f, c := newSecuredWeChat(t)
	client := f.client(newTestSecurity(t, testApp, c), func(string) { t.Error("no certificate is being replaced") })
	answer, err := client.Call(t.Context(), testApp, Request{Path: EndpointTextCheck, Body: []byte(checkBody)})
	if err != nil || answer.TraceID != "t-1" || answer.Suggest != "pass" {
		t.Fatalf("%+v, %v", answer, err)
	}
	if got := f.plain[0]; !strings.HasPrefix(got, `{"_n":"`) || !strings.HasSuffix(got, checkBody[1:]) || !strings.Contains(got, `"_appid":"`+testApp+`","_timestamp":`) || strings.Contains(got, testToken) {
		t.Errorf("the request was %s", got)
	}
	for _, other := range []struct {
		app  string
		path Endpoint
	}{{testApp, EndpointSubscribe}, {"wx00000000000000ff", EndpointTextCheck}} {
		var api *APIError // the stand-in wants a signature
		if _, err := client.Call(t.Context(), other.app, Request{Path: other.path, Body: []byte(checkBody)}); !errors.As(err, &api) || api.Code != 40234 || api.Class() != ClassConfig {
			t.Errorf("%v: %v", other, err)
		}
	}
}

// TestSecuredRawCall: the members of a query are encrypted with the body, and the answer is the one
// that WeChat gives without the API security mode.
func TestSecuredRawCall(t *testing.T) {
	f, c := newSecuredWeChat(t)
	c.Paths = []string{"/wxa/getuserriskrank"}
	f.answer = `{"errcode":0,"errmsg":"ok","risk_rank":3,"unoin_id":2258658297}`
	client := f.client(newTestSecurity(t, testApp, c), nil)
	answer, err := client.CallRaw(t.Context(), testApp, RawRequest{
		Path: "/wxa/getuserriskrank", Method: http.MethodPost, Query: url.Values{"lang": {"zh"}}, ContentType: contentJSON, Body: []byte(`{}`),
	})
	if err != nil || string(answer.Body) != f.answer || !strings.Contains(f.plain[0], `"lang":"zh"`) || strings.Contains(f.query, "lang") {
		t.Errorf("%s, %v; the request was %s", answer.Body, err, f.plain)
	}
	if _, err := client.CallRaw(t.Context(), testApp, RawRequest{Path: "/wxa/getuserriskrank", Method: http.MethodPost, Body: []byte("no JSON")}); err == nil || Written(err) {
		t.Errorf("a body that is no object: %v", err)
	}
}

// TestSecuredAnswers: an answer that is not WeChat's, or is not for this call, is no answer.
func TestSecuredAnswers(t *testing.T) {
	tests := map[string]struct {
		mutate func(h http.Header, body []byte) []byte
		want   string
	}{
		"unsigned": {func(h http.Header, _ []byte) []byte {
			h.Del("Wechatmp-Signature")
			return []byte(`{"errcode":0,"errmsg":"ok","trace_id":"t","result":{"suggest":"pass"}}`)
		}, "not signed"},
		"an unsigned image": {func(h http.Header, _ []byte) []byte {
			h.Del("Wechatmp-Signature")
			return []byte("\x89PNG\r\n\x1a\n")
		}, "not signed"},
		"an unsigned verdict": {func(h http.Header, _ []byte) []byte {
			h.Del("Wechatmp-Signature")
			return []byte(`{"errcode":87014,"errmsg":"risky content"}`)
		}, "not signed"},
		"an old answer": {func(h http.Header, b []byte) []byte {
			h.Set("Wechatmp-TimeStamp", strconv.FormatInt(time.Now().Add(-6*time.Minute).Unix(), 10))
			return b
		}, "differs from this machine's clock"},
		"another app":         {func(h http.Header, b []byte) []byte { h.Set("Wechatmp-Appid", "wx00000000000000ff"); return b }, "another app"},
		"another certificate": {func(h http.Header, b []byte) []byte { h.Set("Wechatmp-Serial", "bb02"); return b }, `"bb02", which is not configured`},
		"a serial that is none": {func(h http.Header, b []byte) []byte {
			h.Set("Wechatmp-Serial", "<script>")
			return b
		}, `"", which is not configured`},
		"another time": {func(h http.Header, b []byte) []byte {
			h.Set("Wechatmp-TimeStamp", strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10))
			return b
		}, "signature of the answer is wrong"},
		"no base64": {func(h http.Header, b []byte) []byte { h.Set("Wechatmp-Signature", "%"); return b }, "not base64"},
		"changed":   {func(_ http.Header, b []byte) []byte { b[20] ^= 1; return b }, "signature of the answer is wrong"},
		"truncated": {func(_ http.Header, b []byte) []byte { return b[:40] }, "signature of the answer is wrong"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, c := newSecuredWeChat(t)
			f.mutate = tt.mutate
			_, err := f.client(newTestSecurity(t, testApp, c), nil).Call(t.Context(), testApp, Request{Path: EndpointTextCheck, Body: []byte(checkBody)})
			var bad *AnswerError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) || !Written(err) {
				t.Errorf("got %v", err)
			}
			wantNoSecrets(t, fmt.Sprint(err))
		})
	}
}

// TestDeprecatedCertificate: while WeChat replaces its certificate, the old one and the new one verify
// its answers, and the operator is told once to replace the old one.
func TestDeprecatedCertificate(t *testing.T) {
	f, c := newSecuredWeChat(t)
	f.old, f.oldSN, f.serial = f.private, f.serial, "bb02"
	newKey, newPEM := certificate(t)
	f.private = newKey
	told := 0
	client := f.client(newTestSecurity(t, testApp, c), func(app string) {
		if told++; app != testApp {
			t.Errorf("told about %s", app)
		}
	})
	for range 3 {
		if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointTextCheck, Body: []byte(checkBody)}); err != nil {
			t.Fatal(err)
		}
	}
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	c.Certificates = append(c.Certificates, PlatformCertificate{SN: "bb02", PEM: newPEM})
	client = f.client(newTestSecurity(t, testApp, c), func(string) { t.Error("the new certificate is configured") })
	if _, err := client.Call(t.Context(), testApp, Request{Path: EndpointTextCheck, Body: []byte(checkBody)}); err != nil {
		t.Fatal(err)
	}
}

// TestSecurityMistakes: all at once, each with its key and without a value.
func TestSecurityMistakes(t *testing.T) {
	_, err := NewSecurity(testApp, SecurityConfig{SymmetricKey: "c2hvcnQ=", PrivateKey: "no PEM", Certificates: []PlatformCertificate{{PEM: "none"}}, Paths: []string{"https://x?y"}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, key := range []string{"symmetric_sn: ", "symmetric_key: not 32", "private_sn: ", "private_key: ", "certificates[0].sn: ", "certificates[0].pem: ", "paths[0]: "} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("no %q in %v", key, err)
		}
	}
	if strings.Contains(err.Error(), "c2hvcnQ") || strings.Contains(err.Error(), "no PEM") {
		t.Errorf("a value is in %v", err)
	}
}

// FuzzSecurityOpen: no answer makes a panic, and none that WeChat did not sign is accepted.
func FuzzSecurityOpen(f *testing.F) {
	f.Add(pageApp, "1635927956", pageCertificate, pageAnswerSign, []byte(pageAnswer))
	f.Add(pageApp, "1", "", "", []byte("{}"))
	f.Fuzz(func(t *testing.T, app, timestamp, serial, signature string, body []byte) {
		s := newTestSecurity(t, pageApp, pageConfig(t))
		h := http.Header{"Wechatmp-Appid": {app}, "Wechatmp-Timestamp": {timestamp}, "Wechatmp-Serial": {serial}, "Wechatmp-Signature": {signature}}
		if _, _, err := s.open(pageAddress, h, body, time.Unix(1635927956, 0)); err == nil && string(body) != pageAnswer {
			t.Errorf("accepted %s", body)
		}
		if plain, err := s.removeMembers(body, timestamp); err == nil && !json.Valid(plain) {
			t.Errorf("%q became %q", body, plain)
		}
	})
}
