package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/sandbox"
)

// TestCall: a call prints WeChat's answer, and its exit status follows the errcode.
func TestCall(t *testing.T) {
	env, wx := newEnv(t)
	r := command(t, env, "", "call", "/wxa/generatescheme", `{"jump_wxa":{"path":"pages/index/index"}}`, "--app", testApp)
	var link struct{ OpenLink string }
	if r.status != 0 || json.Unmarshal([]byte(r.stdout), &link) != nil || link.OpenLink == "" || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	file := filepath.Join(t.TempDir(), "body.json")
	if err := os.WriteFile(file, []byte(`{"scene":"a=1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "code.jpg")
	r = command(t, env, "", "call", "/wxa/getwxacodeunlimit", "@"+file, "--app", testApp, "--out", out)
	picture, err := os.ReadFile(out) //nolint:gosec // in the test's folder
	if r.status != 0 || err != nil || !bytes.HasPrefix(picture, []byte("\xff\xd8")) || r.stdout != "" {
		t.Errorf("%+v, %v", r, err)
	}
	mentions(t, "standard error", r.stderr, "code.jpg", "image/jpeg")
	if r = command(t, env, `{"scene":"a=1"}`, "call", "/wxa/getwxacodeunlimit", "-", "--app", testApp); r.stdout != string(picture) {
		t.Errorf("a pipe gets %d bytes, want %d: %s", len(r.stdout), len(picture), r.stderr)
	}
	if r = command(t, env, "", "call", "/wxa/img_sec_check", "@"+out, "--app", testApp); r.status != 0 || !strings.Contains(r.stdout, `"ok"`) {
		t.Errorf("an image: %+v", r)
	}
	if r = command(t, env, "", "call", "/wxaapi/newtmpl/gettemplate", "--app", testApp); r.status != 0 || !strings.Contains(r.stdout, "priTmplId") {
		t.Errorf("a GET: %+v", r)
	}
	if r = command(t, env, "", "call", "/sns/jscode2session", "--query", "js_code=0a1b2c3d", "--app", testApp); r.status != 0 || !strings.Contains(r.stdout, "session_key") {
		t.Errorf("a login: %+v", r)
	}

	r = command(t, env, "", "call", "/wxa/generatescheme", `{"jump_wxa":{"path":"p","query":"fault=day"}}`, "--app", testApp)
	if r.status != 1 || !strings.Contains(r.stdout, "errcode") {
		t.Errorf("a refusal: %+v", r)
	}
	mentions(t, "standard error", r.stderr, "quota")
	calls := wx.Count(sandbox.Filter{Path: "/wxa/generatescheme"})
	r = command(t, env, "", "call", "/wxa/generatescheme", `{"jump_wxa":{"path":"p"}}`, "--app", testApp)
	if r.status != 1 || r.stdout != "" || wx.Count(sandbox.Filter{Path: "/wxa/generatescheme"}) != calls {
		t.Errorf("a held call: %+v", r)
	}
	mentions(t, "standard error", r.stderr, "not called", "is held")
}

// TestCallAsksBeforeItClears: ten times a month are few.
func TestCallAsksBeforeItClears(t *testing.T) {
	env, wx := newEnv(t)
	cleared := func() int { return wx.Count(sandbox.Filter{Path: "/cgi-bin/clear_quota"}) }
	for _, answer := range []string{"", "yes\n"} {
		if r := command(t, env, answer, "call", "/cgi-bin/clear_quota", "--app", testApp); r.status != 2 || cleared() != 0 {
			t.Errorf("%q: %+v", answer, r)
		}
	}
	if r := command(t, env, testApp+"\n", "call", "/cgi-bin/clear_quota", "--app", testApp); r.status != 0 || cleared() != 1 {
		t.Errorf("%+v", r)
	}
	if r := command(t, env, "", "call", "/cgi-bin/clear_quota", `{"appid":"`+testApp+`"}`, "--app", testApp, "--yes"); r.status != 0 || cleared() != 2 {
		t.Errorf("%+v", r)
	}
}

// TestCallThatCannotBeMade: each mistake is told, and nothing is called.
func TestCallThatCannotBeMade(t *testing.T) {
	env, wx := newEnv(t)
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"/wxa/generatescheme?a=1", "--app", testApp}, "--query"},
		{[]string{"https://api.weixin.qq.com/wxa/generatescheme", "--app", testApp}, "host"},
		{[]string{"wxa/generatescheme", "--app", testApp}, "not a path"},
		{[]string{"/wxa/../cgi-bin/token", "--app", testApp}, "not a path"},
		{[]string{"/cgi-bin/token", "--app", testApp}, "not shown"},
		{[]string{"/wxa/generatescheme", "{", "--app", testApp}, "not valid JSON"},
		{[]string{"/wxa/generatescheme", "@/no/such/file", "--app", testApp}, "cannot be read"},
		{[]string{"/wxa/img_sec_check", "{}", "--app", testApp}, "not an image"},
		{[]string{"/wxa/generatescheme", "{}", "--app", "wx1"}, "not an app id"},
		{[]string{"/wxa/generatescheme", "{}", "--app", "wx00000000000000ff"}, "not among the apps"},
		{[]string{"/wxa/generatescheme", "{}", "--app", testApp, "--query", "access_token=x"}, "added by itself"},
		{[]string{"/wxa/generatescheme", "{}", "--app", testApp, "--query", "x"}, "NAME=VALUE"},
	} {
		r := command(t, env, "", append([]string{"call"}, tt.args...)...)
		if r.status != 2 || !strings.Contains(r.stderr, tt.says) {
			t.Errorf("%q: %+v", tt.args, r)
		}
	}
	if n := wx.Count(sandbox.Filter{}); n != 0 {
		t.Errorf("WeChat got %d calls", n)
	}
}
