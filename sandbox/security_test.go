package sandbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
)

func newKey(t *testing.T) (*rsa.PrivateKey, string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}

func certificateOf(t *testing.T, key *rsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestSecurityMode: the client of package wechat and the sandbox, which share no code, understand each
// other; without keys, and with wrong ones, the sandbox refuses as WeChat does.
func TestSecurityMode(t *testing.T) {
	const app, body = "wx0123456789abcdef", `{"content":"文字","version":2,"scene":1,"openid":"oAbc"}`
	symmetric := make([]byte, 32)
	_, _ = rand.Read(symmetric)
	own, ownPEM := newKey(t)
	platform, _ := newKey(t)
	old, _ := newKey(t)
	wx := sandbox.New(sandbox.Options{Apps: map[string]string{app: "secret"}, Security: map[string]sandbox.Security{app: {
		SymmetricSN: "aa", SymmetricKey: symmetric, PublicKey: &own.PublicKey, PlatformKey: platform, PlatformSN: "b2", OldPlatformKey: old, OldPlatformSN: "b1",
	}}})
	url, stop := wx.Start()
	t.Cleanup(stop)
	good := wechat.SecurityConfig{
		SymmetricSN: "aa", SymmetricKey: wechat.Secret(base64.StdEncoding.EncodeToString(symmetric)), PrivateSN: "cc", PrivateKey: wechat.Secret(ownPEM),
		Certificates: []wechat.PlatformCertificate{{SN: "b1", PEM: certificateOf(t, old)}},
	}
	_, otherPEM := newKey(t)
	wrongKey, wrongSN, wrongCertificate := good, good, good
	wrongKey.PrivateKey, wrongSN.SymmetricSN = wechat.Secret(otherPEM), "ab"
	wrongCertificate.Certificates = []wechat.PlatformCertificate{{SN: "b1", PEM: certificateOf(t, platform)}}
	tests := map[string]struct {
		config *wechat.SecurityConfig
		code   int // of the refusal
	}{
		"good": {&good, 0}, "none": {nil, 40230}, "another private key": {&wrongKey, 40234},
		"another number of the symmetric key": {&wrongSN, 40235}, "another certificate": {&wrongCertificate, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, rdb := redistest.Mini(t)
			cfg := wechat.Config{BaseURL: url, Timeout: 20 * time.Second, AttemptTimeout: 20 * time.Second}
			tokens := wechat.NewTokens(cfg, rdb, func(string) (wechat.Credential, bool) {
				return wechat.Credential{App: app, Secret: "secret"}, true
			})
			t.Cleanup(tokens.Close)
			var security *wechat.Security
			if tt.config != nil {
				var err error
				if security, err = wechat.NewSecurity(app, *tt.config); err != nil {
					t.Fatal(err)
				}
			}
			told := 0
			client := wechat.NewClient(cfg, tokens, wechat.WithSecurity(func(string) *wechat.Security { return security }, func(string) { told++ }))
			t.Cleanup(client.CloseIdle)
			answer, err := client.Call(t.Context(), app, wechat.Request{Path: wechat.EndpointTextCheck, Body: []byte(body)})
			var api *wechat.APIError
			switch {
			case name == "good" && (err != nil || answer.Suggest != "pass" || answer.TraceID == "" || told != 1):
				t.Errorf("%+v, %v, told %d times of the certificate", answer, err, told)
			case tt.code != 0 && (!errors.As(err, &api) || api.Code != tt.code):
				t.Errorf("got %v, want %d", err, tt.code)
			case name != "good" && err == nil:
				t.Error("no error")
			}
			if _, err := client.Call(t.Context(), app, wechat.Request{Path: wechat.EndpointScheme, Body: []byte(`{}`)}); err != nil {
				t.Errorf("an endpoint that does not support it: %v", err)
			}
		})
	}
}
