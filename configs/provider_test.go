package configs

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/wechat"
)

func loadText(t *testing.T, text string, environ ...string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, file, text)
	return Load(file, environ)
}

func TestProviderFaults(t *testing.T) {
	const good = "providers: [{id: wxfedcba9876543210, secret: s, callback: {token: t0k, aes_key: " + "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG" + "}}]\n"
	for _, tt := range []struct{ name, text, key, says string }{
		{"nothing", "providers: [{}]", "providers[0].id", "required"},
		{"no secret", "providers: [{id: wxfedcba9876543210}]", "providers[0].secret", "WXCOURIER_PROVIDERS_WXFEDCBA9876543210_SECRET"},
		{"no token", "providers: [{id: wxfedcba9876543210, secret: s}]", "providers[0].callback.token", "no ticket"},
		{"no key", "providers: [{id: wxfedcba9876543210, secret: s}]", "providers[0].callback.aes_key", "always encrypted"},
		{"no app id", "providers: [{id: shop}]", "providers[0].id", "is not an app id"},
		{"an app's id", good + "apps: [{id: wxfedcba9876543210, secret: s}]", "providers[0].id", "among the apps"},
		{"twice", "providers: [{id: wxfedcba9876543210}, {id: wxfedcba9876543210}]", "providers[1].id", "the first is providers[0]"},
		{"unknown key", "providers: [{add_app: true}]", "providers[0].add_app", `did you mean "add_apps"`},
		{"no such provider", good + "apps: [{id: wx0123456789abcdef, token: {mode: component, provider: wx0000000000000000}}]", "apps[0].token.provider", "not among the providers"},
		{"no provider", good + "apps: [{id: wx0123456789abcdef, token: {mode: component}}]", "apps[0].token.provider", "required"},
		{"a secret", good + "apps: [{id: wx0123456789abcdef, secret: s, token: {mode: component, provider: wxfedcba9876543210}}]", "apps[0].secret", "uses no secret"},
		{"a callback", good + "apps: [{id: wx0123456789abcdef, callback: {token: x}, token: {mode: component, provider: wxfedcba9876543210}}]", "apps[0].callback.token", "its service provider"},
		{"another mode", good + "apps: [{id: wx0123456789abcdef, secret: s, token: {provider: wxfedcba9876543210, refresh_token: r}}]", "apps[0].token.refresh_token", "only the token mode component"},
	} {
		_, err := loadText(t, tt.text)
		var faults *Error
		if !errors.As(err, &faults) {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		found := false
		for _, p := range faults.Problems {
			found = found || p.Key == tt.key && strings.Contains(p.Message, tt.says)
		}
		if !found {
			t.Errorf("%s: want %s: %s; got %v", tt.name, tt.key, tt.says, err)
		}
	}
}

// TestProviderOfTheEnvironment: a service provider and its accounts need no file.
func TestProviderOfTheEnvironment(t *testing.T) {
	key := strings.Repeat("a", 43)
	cfg, err := Load("", []string{
		"WXCOURIER_PROVIDERS_WXFEDCBA9876543210_SECRET=s", "WXCOURIER_PROVIDERS_WXFEDCBA9876543210_CALLBACK_TOKEN=t0ken",
		"WXCOURIER_PROVIDERS_WXFEDCBA9876543210_CALLBACK_AES_KEY=" + key, "WXCOURIER_PROVIDERS_WXFEDCBA9876543210_ADD_APPS=true",
		"WXCOURIER_APPS_WX0123456789ABCDEF_TOKEN_MODE=component", "WXCOURIER_APPS_WX0123456789ABCDEF_TOKEN_PROVIDER=wxfedcba9876543210",
		"WXCOURIER_APPS_WX0123456789ABCDEF_TOKEN_REFRESH_TOKEN=r",
	})
	if err != nil {
		t.Fatal(err)
	}
	p, known := cfg.Provider("wxfedcba9876543210")
	if !known || p.Secret != "s" || !p.AddApps || p.Credential().Mode != wechat.ModeProvider {
		t.Errorf("%+v", cfg.Providers)
	}
	want := wechat.Credential{App: "wx0123456789abcdef", Mode: wechat.ModeComponent, Provider: "wxfedcba9876543210", RefreshToken: "r"}
	if got := cfg.Apps[0].Credential(); got != want || cfg.Apps[0].Callback.AESKey.Reveal() != key {
		t.Errorf("%+v", cfg.Apps)
	}
	if added := p.App("wx00000000000000aa"); added.Callback.Token != "t0ken" || added.Credential().Provider != p.ID {
		t.Errorf("%+v", added)
	}
	_, err = Load("", []string{"WXCOURIER_PROVIDERS_WXFEDCBA9876543210_SECRT=s"})
	if err == nil || !strings.Contains(err.Error(), "WXCOURIER_PROVIDERS_WXFEDCBA9876543210_SECRET") {
		t.Error(err)
	}
}
