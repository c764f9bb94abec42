package main

import (
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/sandbox"
)

// TestLongThings: enqueue and run refuse a thing that is too long, and cut it with templates.fix.
func TestLongThings(t *testing.T) {
	mini, rdb := redistest.Mini(t)
	env, wx := newEnvOn(t, mini.Addr())
	tooLong := func(id string) string {
		return strings.Replace(line(id, openid), "订单 & 发货", strings.Repeat("伞", 30), 1)
	}
	r := command(t, env, tooLong("one"), "enqueue", "-")
	if r.status != 1 {
		t.Errorf("enqueue: %+v", r)
	}
	mentions(t, "standard error of enqueue", r.stderr, "body.data.thing1.value: 30 characters; a thing keyword takes at most 20 characters")
	r = command(t, env, tooLong("two"), "run", "-")
	if r.status != 1 {
		t.Errorf("run: %+v", r)
	}
	mentions(t, "standard error of run", r.stderr, "body.data.thing1.value: 30 characters")
	if n := wx.Count(sandbox.Filter{OpenID: openid}); n != 0 {
		t.Errorf("%d messages were sent", n)
	}

	env = append(env, "WXCOURIER_APPS_"+strings.ToUpper(testApp)+"_TEMPLATES_FIX=true")
	if err := rdb.Set(t.Context(), templates.Key(testApp), `{"fix":true,"templates":[]}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if r = command(t, env, tooLong("one"), "enqueue", "-"); r.status != 0 {
		t.Errorf("enqueue with templates.fix: %+v", r)
	}
	r = command(t, env, tooLong("one")+tooLong("two"), "run", "-")
	if r.status != 0 {
		t.Errorf("run with templates.fix: %+v", r)
	}
	for id, result := range r.results(t) {
		if result.Outcome != "accepted" || len(result.Fixed) != 1 || result.Fixed[0] != "data.thing1.value: cut from 30 to 20 characters" {
			t.Errorf("%s: %+v", id, result)
		}
	}
	calls := wx.Calls(sandbox.Filter{OpenID: openid})
	if len(calls) != 2 {
		t.Errorf("%d messages were sent", len(calls))
	}
	for _, c := range calls {
		if !strings.Contains(string(c.Body), `"`+strings.Repeat("伞", 19)+`…"`) {
			t.Errorf("WeChat got %s", c.Body)
		}
	}
}
