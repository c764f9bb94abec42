package wechat_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/wechat"
)

// TestPreAuthCode: the code is asked for with the shared token of the provider, which is renewed once if
// WeChat refuses it. A code is good for one authorization.
func TestPreAuthCode(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		r := newProviderRig(t, rdb, 2)
		var token *wechat.TokenError
		if _, err := r.tokens[0].PreAuthCode(t.Context(), component); !errors.As(err, &token) || !errors.Is(err, wechat.ErrNoTicket) {
			t.Fatalf("without a ticket: %v", r.failed(err))
		}
		r.ticket(t)
		if err := r.tokens[0].EndBackoff(t.Context(), component); err != nil {
			t.Fatal(err)
		}
		first, err := r.tokens[0].PreAuthCode(t.Context(), component)
		if r.failed(err) != nil || first.Value == "" || time.Until(first.ExpiresAt) < 29*time.Minute || time.Until(first.ExpiresAt) > 30*time.Minute {
			t.Fatalf("until %v, %v", first.ExpiresAt, err)
		}
		r.wx.Revoke(component)
		second, err := r.tokens[1].PreAuthCode(t.Context(), component)
		if r.failed(err) != nil || second.Value == first.Value {
			t.Fatal(err)
		}
		r.wantCalls(t, map[string]int64{componentToken: 2, "/cgi-bin/component/api_create_preauthcode": 3})
		for _, code := range []wechat.PreAuthCode{first, second} {
			if _, err := r.wx.AuthorizeWith(component, account, code.Value.Reveal()); err != nil {
				t.Error(err)
			}
			if _, err := r.wx.AuthorizeWith(component, account, code.Value.Reveal()); err == nil {
				t.Error("a code was good for two authorizations")
			}
		}
		if _, err := r.wx.AddFault(sandbox.Fault{ErrCode: 61004, Path: "/cgi-bin/component/api_create_preauthcode", Count: 1}); err != nil {
			t.Fatal(err)
		}
		var api *wechat.APIError
		if _, err := r.tokens[0].PreAuthCode(t.Context(), component); !errors.As(r.failed(err), &api) || api.Code != 61004 {
			t.Errorf("from a foreign IP: %v", err)
		}
	})
}

// TestAuthorizationLink: every member is escaped, and the ones without a value are left out.
func TestAuthorizationLink(t *testing.T) {
	link := wechat.AuthorizationLink{Provider: component, Code: "preauthcode@@@a+b&c", Redirect: "https://www.example.com/?a=1&b=2#c"}
	for text, want := range map[string]url.Values{
		link.Phone():   {"action": {"bindcomponent"}, "no_scan": {"1"}},
		link.Browser(): {},
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		want.Set("component_appid", component)
		want.Set("pre_auth_code", "preauthcode@@@a+b&c")
		want.Set("redirect_uri", "https://www.example.com/?a=1&b=2#c")
		want.Set("auth_type", "3")
		if got := u.Query(); got.Encode() != want.Encode() {
			t.Errorf("%s: got %v", text, got)
		}
	}
	link.Kind, link.App = wechat.AuthorizeMiniPrograms, account
	u, err := url.Parse(link.Browser())
	if err != nil || u.Query().Get("auth_type") != "2" || u.Query().Get("biz_appid") != account {
		t.Errorf("%v, %v", u, err)
	}
}
