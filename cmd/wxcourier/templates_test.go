package main

import (
	"encoding/json"
	"testing"

	"github.com/wxcourier/wxcourier/sandbox"
)

// TestTemplates: what WeChat lists is asked for on demand, once, and shown from Redis afterwards.
func TestTemplates(t *testing.T) {
	env, wx := newEnv(t)
	r := command(t, env, "", "templates")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	mentions(t, "standard output", r.stdout, testApp, "no list of templates yet", "check off")
	if r = command(t, env, "", "templates", "--app", testApp, "--refresh"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	mentions(t, "standard output", r.stdout, "订单发货通知", "one-time subscription", "thing2", "商品名称", "one of 上午, 下午")
	asked := wx.Count(sandbox.Filter{Path: "/wxaapi/newtmpl/gettemplate"})
	r = command(t, env, "", "templates", "--json")
	var listed struct {
		App       string
		Templates []struct{ ID string }
	}
	if r.status != 0 || json.Unmarshal([]byte(r.stdout), &listed) != nil || listed.App != testApp || len(listed.Templates) < 2 {
		t.Errorf("%+v", r)
	}
	if n := wx.Count(sandbox.Filter{Path: "/wxaapi/newtmpl/gettemplate"}); asked != 1 || n != 1 {
		t.Errorf("WeChat was asked %d times", n)
	}
	if r = command(t, env, "", "templates", "--app", "nonsense"); r.status != 2 {
		t.Errorf("a bad app: %+v", r)
	}
}
