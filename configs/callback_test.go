package configs

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

const callbackAESKey = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"

// TestCallbackProblems: each mistake names its key and the fix, and never a secret.
func TestCallbackProblems(t *testing.T) {
	t.Parallel()
	const secret = "a-secret-that-is-long-enough-0123456789"
	for _, c := range []struct{ callback, key, want string }{
		{"{token: token123}", "", ""},
		{"{token: token123, aes_key: " + callbackAESKey + ", forward_url: https://shop.example.com/wechat, forward_secret: " + secret + ", forward: all}", "", ""},
		{"{aes_key: " + callbackAESKey + "}", "token", "required: the Token"},
		{"{forward_url: https://shop.example.com/wechat, forward_secret: " + secret + "}", "token", "required: the Token"},
		{"{token: token 123}", "token", "not a Token of WeChat's console"},
		{"{token: token123, aes_key: short}", "aes_key", "has 5 characters; an EncodingAESKey has 43"},
		{"{token: token123, aes_key: \"" + strings.Repeat("!", 43) + "\"}", "aes_key", "is not an EncodingAESKey"},
		{"{token: token123, token_file: /dev/null}", "token_file", "set together with"},
		{"{token_file: /nowhere}", "token_file", "cannot read the secret"},
		{"{token: token123, forward_url: https://shop.example.com/wechat}", "forward_secret", "required: forward_secret_file, or forward_secret"},
		{"{token: token123, forward_url: http://shop.example.com/wechat, forward_secret: " + secret + "}", "forward_url", "http is for addresses in forward_allow_private alone"},
		{"{token: token123, forward_url: https://10.1.2.3/wechat, forward_secret: " + secret + "}", "forward_url", "add it to forward_allow_private if pushes may go there"},
		{"{token: token123, forward_url: https://shop.example.com/wechat, forward_secret: " + secret + ", forward_allow_private: [x]}", "forward_allow_private[0]", "is neither an address nor a network"},
		{"{token: token123, forward: all}", "forward_url", "required with the other keys of forwarding"},
		{"{token: token123, forward_url: https://shop.example.com/wechat, forward_secret: " + secret + ", forward: othres}", "forward", "did you mean others?"},
	} {
		file := filepath.Join(t.TempDir(), "wxcourier.yaml")
		write(t, file, "apps:\n  - {id: wx0123456789abcdef, secret: s, callback: "+c.callback+"}\n")
		_, err := Load(file, nil)
		var problems *Error
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.callback, err)
		case c.want == "":
		case !errors.As(err, &problems):
			t.Errorf("%s: %v", c.callback, err)
		default:
			first := problems.Problems[0]
			if first.Key != "apps[0].callback."+c.key || !strings.Contains(first.Message, c.want) || len(problems.Problems) > 1 {
				t.Errorf("%s: %v", c.callback, err)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), callbackAESKey) {
				t.Errorf("%s: the error shows a secret: %v", c.callback, err)
			}
		}
	}
}

// TestCallbackEnvironment: a variable takes the place of the file's secret, and of its secret file.
func TestCallbackEnvironment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "wxcourier.yaml")
	write(t, filepath.Join(dir, "aes"), callbackAESKey+"\n")
	write(t, file, "apps:\n  - {id: wx0123456789abcdef, secret: s, callback: {token_file: /nowhere, aes_key: x}}\n")
	cfg, err := Load(file, []string{
		"WXCOURIER_APPS_WX0123456789ABCDEF_CALLBACK_TOKEN=token123", "WXCOURIER_APPS_WX0123456789ABCDEF_CALLBACK_AES_KEY_FILE=" + filepath.Join(dir, "aes"),
		"WXCOURIER_GATEWAY_CALLBACK_LISTEN=:8081",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := cfg.Apps[0].Callback; c.Token.Reveal() != "token123" || c.AESKey.Reveal() != callbackAESKey || cfg.Apps[0].Secret.Reveal() != "s" {
		t.Errorf("%+v", c)
	}
	if cfg.Gateway.CallbackListen != ":8081" {
		t.Error(cfg.Gateway.CallbackListen)
	}
}

// TestCallbackListen has the mistakes of the listener.
func TestCallbackListen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"{callback_listen: \":8081\", callback_max_age: 10m}":         "",
		"{callback_listen: \"8081\"}":                                 "gateway.callback_listen: \"8081\" is not host:port",
		"{listen: \"127.0.0.1:1\", callback_listen: \"127.0.0.1:1\"}": "gateway.callback_listen: is the address of listen",
		"{callback_tls: {cert_file: a, key_file: b}}":                 "gateway.callback_tls: needs callback_listen",
		"{callback_listen: \":8081\", callback_tls: {cert_file: a}}":  "gateway.callback_tls.key_file: missing",
		"{callback_max_age: 1s}":                                      "gateway.callback_max_age: 1s is not between 1m and 24h0m0s",
	} {
		file := filepath.Join(t.TempDir(), "wxcourier.yaml")
		write(t, file, "gateway: "+text+"\n")
		_, err := Load(file, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
