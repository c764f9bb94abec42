package proxy_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

// sdk is how a public SDK gets its token, and writes its requests.
type sdk struct {
	name        string
	token       func(g *gateway) reply
	contentType string
}

// sdks returns four SDKs. See the tests of package sandbox for more of their requests.
func sdks() []sdk {
	query := func(g *gateway) reply { return g.ticketOf(g.key, app) }
	stable := func(more string) func(*gateway) reply {
		return func(g *gateway) reply {
			return g.send(http.MethodPost, "/cgi-bin/stable_token", nil,
				`{"grant_type":"client_credential","appid":"`+app+`","secret":"`+g.key+`"`+more+`}`)
		}
	}
	return []sdk{
		{"WxJava", query, "application/json; charset=utf-8"},
		{"EasyWeChat", stable(`,"force_refresh":false`), "application/json"},
		{"silenceper/wechat", stable(`,"force_refresh":true`), "application/json;charset=utf-8"},
		{"co-wechat-api", query, "application/json"},
	}
}

// sdkCall is one request of an SDK, and what it gets.
type sdkCall struct {
	path, body string
	code       int
	has        string // in the answer, or in its content type
}

func sdkCalls(client int) []sdkCall {
	person := fmt.Sprintf("oPerson%d", client)
	return []sdkCall{
		{"/wxa/generatescheme", `{"jump_wxa":{"path":"","query":""},"expire_type":0,"expire_time":0,"expire_interval":0}` + "\n", 0, `"openlink":"weixin:`},
		{"/wxa/generate_urllink", `{"path":"pages/index/index","query":"a=1","env_version":"release","cloud_base":null}`, 0, `"url_link":"https:`},
		{"/wxa/getwxacodeunlimit", `{"scene":"a=1","page":"pages/index/index","check_path":true,"is_hyaline":true}`, 0, "image/png"},
		{"/wxa/getwxacode", `{"path": "pages/index/index", "width": 430}`, 0, "image/jpeg"},
		{"/wxa/msg_sec_check", `{"version":"2","openid":"` + person + `","scene":1,"content":"你好"}`, 0, `"suggest":"pass"`},
		{"/wxa/msg_sec_check", `{"content":"你好","version":2,"scene":1,"openid":"risky-` + person + `"}`, 0, `"suggest":"risky"`},
		{"/cgi-bin/message/subscribe/send", messageTo(person), 0, `"msgid":`},
		{"/cgi-bin/message/subscribe/send", messageTo("unsubscribed-" + person), 43101, "rid: "},
		{"/cgi-bin/message/template/send", `{"touser":"` + person + `","template_id":"T","data":{"keyword1":{"value":""}}}`, 47003, "keyword1.DATA is emtpy"},
		{"/cgi-bin/message/custom/send", `{"touser":"` + person + `","msgtype":"text","text":{"content":"<a href=\"https://example.com\">x</a>"}}`, 0, `"errmsg":"ok"`},
		{"/wxa/business/getliveinfo", `{"start":0,"limit":80}`, 0, `"room_info":[{`},
		{"/datacube/getweanalysisappiddailyvisittrend", `{"begin_date": "20250101", "end_date": "20250101"}`, 0, `{"list":[{"ref_date":"20250101",`},
		{"/cgi-bin/openapi/quota/get", `{"cgi_path":"/wxa/generatescheme"}`, 0, `"daily_limit":`},
	}
}

// TestSDKs: requests of public SDKs get right answers when their hosts are replaced, from four clients
// at once on two gateways. WeChat sees one call for a token, and none with a ticket.
func TestSDKs(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		s.wait = time.Minute
		gateways := []*gateway{s.start(), s.start()}
		inParallel(4, func(i int) {
			client, g := sdks()[i], gateways[i%2]
			a := client.token(g)
			if a.AccessToken == "" || a.ExpiresIn < 7000 {
				t.Errorf("%s: %v", client.name, a)
				return
			}
			for _, c := range sdkCalls(i) {
				got := g.post(a.AccessToken, c.path, c.body, "Content-Type", client.contentType)
				if got.status != http.StatusOK || got.ErrCode != c.code || !strings.Contains(got.header.Get("Content-Type")+string(got.body), c.has) {
					t.Errorf("%s %s: %v, want %d with %s", client.name, c.path, got, c.code, c.has)
				}
			}
			login := url.Values{"appid": {app}, "secret": {s.key}, "js_code": {fmt.Sprintf("0aLogin%d", i)}, "grant_type": {"authorization_code"}}
			for _, code := range []int{0, 40163} { // a code can be used once
				if got := g.send(http.MethodGet, sessionPath, login, ""); got.ErrCode != code || code == 0 && got.OpenID == "" {
					t.Errorf("%s: a login: %v, want %d", client.name, got, code)
				}
			}
		})
		if n := s.wx.TokensIssued(app, sandbox.Stable) + s.wx.TokensIssued(app, sandbox.Classic); n != 1 {
			t.Errorf("WeChat issued %d tokens", n)
		}
		for _, r := range s.seen.of(schemePath) {
			if len(r.query.Get("access_token")) < 100 || r.query.Get("access_token") == s.key {
				t.Errorf("a call with the token %q", r.query.Get("access_token"))
			}
		}
		if n := s.wx.Count(sandbox.Filter{ErrCodes: []int{40001, 40014, 42001}}); n != 0 {
			t.Errorf("WeChat refused %d tokens", n)
		}
	})
}
