package proxy_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// messageTo is the body of a subscribe message.
func messageTo(openid string) string {
	return `{"touser":"` + openid + `","template_id":"T1","data":{"thing1":{"value":"订单已发货"}}}`
}

// TestHolds: a held lane, app or template is answered with the code that holds it, without a call, on
// all gateways at once; other lanes go on, and the calls go on when it is released.
func TestHolds(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g, second := s.start(), s.start()
		ticket := g.ticket()
		if _, err := s.wx.AddFault(sandbox.Fault{Path: schemePath, ErrCode: 48001, Count: 1}); err != nil {
			t.Fatal(err)
		}
		if a := g.post(ticket, schemePath, schemeBody); a.ErrCode != 48001 || strings.Contains(a.ErrMsg, "wxcourier") {
			t.Fatalf("the refusal of WeChat's: %v", a)
		}
		for _, g := range []*gateway{g, second} {
			wantRefused(t, "a held lane", g.post(ticket, schemePath, schemeBody), 48001)
		}
		if a := second.post(ticket, codePath, `{"scene":"a"}`); a.ErrCode != 0 {
			t.Errorf("another lane: %v", a)
		}
		holds := hold.NewStore(rdb)
		if lifted, err := holds.Lift(t.Context(), app, tasks.TypeScheme); err != nil || !lifted {
			t.Fatal(lifted, err)
		}
		if a := g.post(ticket, schemePath, schemeBody); a.OpenLink == "" {
			t.Errorf("after the release: %v", a)
		}
		for _, h := range []struct {
			scope, path, body string
		}{
			{hold.WholeApp, codePath, `{"scene":"a"}`},
			{hold.TemplateScope("T1"), sendPath, messageTo("oA")},
		} {
			if _, err := holds.Set(t.Context(), hold.Hold{App: app, Scope: h.scope, Reason: "a secret campaign", By: "ann"}); err != nil {
				t.Fatal(err)
			}
			a := second.post(ticket, h.path, h.body)
			wantRefused(t, h.scope, a, -1)
			if strings.Contains(a.ErrMsg, "campaign") {
				t.Errorf("an operator's reason is told to clients: %v", a)
			}
			if _, err := holds.Lift(t.Context(), app, h.scope); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(s.seen.of(sendPath)); n != 0 {
			t.Errorf("WeChat got %d messages", n)
		}
		if n := len(s.seen.of(schemePath)); n != 2 {
			t.Errorf("WeChat got %d calls", n)
		}
	})
}

// TestNoPermit: a call that gets no permit in time is answered with WeChat's code for the window, and
// not made. A spent limit of the day is not waited for.
func TestNoPermit(t *testing.T) {
	for _, c := range []struct {
		name, typ, path, body string
		limit                 ratelimit.Limit
		code                  int
	}{
		{"day", tasks.TypeUnlimitedCode, codePath, `{"scene":"a"}`, ratelimit.Limit{PerDay: 1}, 45009},
		{"day of links", tasks.TypeScheme, schemePath, schemeBody, ratelimit.Limit{PerDay: 1}, 44993},
		{"minute", tasks.TypeCustom, "/cgi-bin/message/custom/send", `{"touser":"oA","msgtype":"text","text":{"content":"x"}}`, ratelimit.Limit{PerMinute: 1}, 45011},
		{"minute of codes", tasks.TypeUnlimitedCode, codePath, `{"scene":"a"}`, ratelimit.Limit{PerMinute: 1}, 45009},
		{"lifetime", tasks.TypeCode, "/wxa/getwxacode", `{"path":"a"}`, ratelimit.Limit{Total: 1}, 45029},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, rdb := redistest.Mini(t)
			s := newShop(t, rdb)
			s.limits[c.typ] = c.limit
			if c.name == "minute" || c.name == "minute of codes" {
				s.wait = time.Millisecond
			} else {
				s.wait = time.Hour // a test that waited for it would not end
			}
			g := s.start()
			ticket := g.ticket()
			redistest.Until(t, 20*time.Second, "the limit is spent", func() bool {
				a := g.post(ticket, c.path, c.body)
				return a.ErrCode == c.code && len(s.seen.of(c.path)) == 1
			})
			wantRefused(t, c.name, g.post(ticket, c.path, c.body), c.code)
			if n := len(s.seen.of(c.path)); n != 1 {
				t.Errorf("WeChat got %d calls", n)
			}
		})
	}
}

// TestAClientHoldsNothing: what the content of a client's request may have caused neither trips the
// breaker of the lane nor holds the app; nor does an answer on a path that only a pattern allows.
func TestAClientHoldsNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g := s.start()
		ticket := g.ticketOf(s.keys.add(apikey.Key{ID: "wide", Paths: []string{"/cgi-bin/menu/*"}}), app).AccessToken
		for _, f := range []struct {
			path string
			code int
		}{
			{schemePath, 987654},
			{schemePath, 40125},
			{schemePath, 47001},
			{schemePath, 87014},
			{sendPath, 43107}, // about a template that the request does not name
			{"/cgi-bin/menu/create", 48001},
			{"/cgi-bin/menu/create", 45009},
			{"/cgi-bin/menu/create", 987654},
		} {
			s.seen.say(f.path, f.code)
			for i := range 5 {
				if a := g.post(ticket, f.path, `{}`); strings.Contains(a.ErrMsg, "wxcourier") {
					t.Fatalf("%d at %s, call %d: %v", f.code, f.path, i, a)
				}
			}
			s.seen.say(f.path, 0)
		}
		s.seen.say(sessionPath, 987654) // such as for a code that is none
		for range 5 {
			a := g.send(http.MethodGet, sessionPath, url.Values{"appid": {app}, "secret": {s.key}, "js_code": {"x"}}, "")
			if a.ErrCode != 987654 {
				t.Fatalf("a login: %v", a)
			}
		}
		if holds, err := hold.NewStore(rdb).List(t.Context(), app); err != nil || len(holds) > 0 {
			t.Errorf("%v %+v", err, holds)
		}
		for _, code := range []int{44990, 45009, 40164} { // what WeChat says of the app holds it
			s.seen.say(schemePath, code)
			if a := g.post(ticket, schemePath, schemeBody); a.ErrCode != code {
				t.Fatalf("%v", a)
			}
			held, err := hold.NewStore(rdb).InForce(t.Context(), app, hold.WholeApp, tasks.TypeScheme)
			if err != nil || len(held) == 0 || held[0].Code != code {
				t.Errorf("after %d: %v %+v", code, err, held)
			}
			for _, h := range held {
				if _, err := hold.NewStore(rdb).Lift(t.Context(), app, h.Scope); err != nil {
					t.Fatal(err)
				}
			}
			s.seen.say(schemePath, 0)
		}
	})
}

// TestAStaleToken: a token that WeChat refuses is renewed once for all calls, and the clients do not
// notice.
func TestAStaleToken(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		gateways := []*gateway{s.start(), s.start()}
		ticket := gateways[0].ticket()
		inParallel(4, func(i int) { gateways[i%2].post(ticket, schemePath, schemeBody) })
		s.wx.Revoke(app)
		inParallel(16, func(i int) {
			if a := gateways[i%2].post(ticket, schemePath, schemeBody); a.OpenLink == "" {
				t.Errorf("%v", a)
			}
		})
		if n := s.wx.TokensIssued(app, sandbox.Stable); n != 2 {
			t.Errorf("%d tokens were issued", n)
		}
	})
}

// TestNoAnswer: a request that WeChat got and did not answer is told apart from one that was
// certainly not sent, and no client gets a code at which SDKs repeat it.
func TestNoAnswer(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newShop(t, rdb)
	g := s.start()
	a := g.post(g.ticket(), sendPath, messageTo("lost-oA"))
	wantRefused(t, "no answer", a, -1)
	if a.status != http.StatusGatewayTimeout || !strings.Contains(a.ErrMsg, "do not repeat") {
		t.Errorf("%v", a)
	}
	page := g.post(g.ticket(), sendPath, messageTo("badgateway-oA"))
	if page.status != http.StatusBadGateway || !strings.HasPrefix(strings.TrimSpace(string(page.body)), "<") {
		t.Errorf("an answer that is none of WeChat's: %v", page)
	}
}

// TestOnlyOpenIDs: the staging guard of an app holds for calls, too.
func TestOnlyOpenIDs(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newShop(t, rdb)
	staging := s.apps[app]
	staging.OnlyOpenIDs = []string{"oTester"}
	s.apps[app] = staging
	g := s.start()
	ticket := g.ticket()
	for _, header := range [][]string{nil, {"Idempotency-Key", "k1"}} {
		wantRefused(t, "another receiver", g.post(ticket, sendPath, messageTo("oCustomer"), header...), 40003)
		wantRefused(t, "no receiver that can be read", g.post(ticket, sendPath, `{"touser":"oTester","touser":"oCustomer"}`, header...), 40003)
	}
	wantRefused(t, "another path to persons", g.post(ticket, "/cgi-bin/message/template/subscribe", `{"touser":"oCustomer"}`), 40003)
	if a := g.post(ticket, sendPath, messageTo("oTester")); a.ErrCode != 0 {
		t.Errorf("the tester: %v", a)
	}
	if n := len(s.seen.of(sendPath)); n != 1 {
		t.Errorf("WeChat got %d messages", n)
	}
}

// TestNothingPersonalIsLogged: no query, ticket, key, secret, session key, phone number or openid is
// in a log line or a metric, whatever happens to a call.
func TestNothingPersonalIsLogged(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newShop(t, rdb)
	s.wait = time.Millisecond
	s.limits[tasks.TypeUnlimitedCode] = ratelimit.Limit{PerDay: 1}
	g := s.start()
	ticket := g.ticketOf(s.keys.add(apikey.Key{ID: "wide", Paths: []string{"/cgi-bin/menu/*"}}), app).AccessToken
	hidden := []string{s.key, ticket, secret, "0aLoginCode1", "oPrivatePerson", "purePhone", "queryvalue", "/cgi-bin/menu/personal"}
	login := url.Values{"appid": {app}, "secret": {s.key}, "js_code": {"0aLoginCode1"}, "grant_type": {"authorization_code"}}
	session := g.send(http.MethodGet, sessionPath, login, "")
	var key struct {
		SessionKey string `json:"session_key"`
	}
	session.decode(t, &key)
	hidden = append(hidden, key.SessionKey, session.OpenID)
	g.send(http.MethodGet, sessionPath, login, "") // 40163
	phone := g.post(ticket, "/wxa/business/getuserphonenumber", `{"code":"0aLoginCode1"}`)
	var number struct {
		Info struct{ PhoneNumber string } `json:"phone_info"`
	}
	phone.decode(t, &number)
	hidden = append(hidden, number.Info.PhoneNumber)
	for _, fault := range []string{"", "busy-", "day-", "reset-", "lost-", "cut-", "garbage-", "badgateway-", "token-"} {
		for _, header := range [][]string{nil, {"Idempotency-Key", "k-" + fault + "1"}, {"Prefer", "respond-async"}} {
			g.post(ticket, sendPath, messageTo(fault+"oPrivatePerson"), header...)
			_, _ = hold.NewStore(rdb).Lift(t.Context(), app, tasks.TypeSubscribe)
		}
	}
	if _, err := s.wx.AddFault(sandbox.Fault{ErrCode: 987654, Path: schemePath}); err != nil {
		t.Fatal(err)
	}
	g.send(http.MethodPost, schemePath, url.Values{"access_token": {ticket}, "q": {"queryvalue"}}, schemeBody)
	g.send(http.MethodPost, "/cgi-bin/menu/personal", url.Values{"access_token": {ticket}, "q": {"queryvalue"}}, schemeBody)
	g.post(ticket, codePath, `{"scene":"a"}`)
	g.post(ticket, codePath, `{"scene":"a"}`)
	g.send("DELETE", schemePath, url.Values{"access_token": {ticket}}, "")

	metrics, err := g.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	text := s.log.String() + fmt.Sprint(metrics)
	if !strings.Contains(text, "an errcode has no row") || !strings.Contains(text, "wxcourier_calls_total") || !strings.Contains(text, `"other"`) {
		t.Fatalf("the test shows nothing:\n%s", text)
	}
	for _, value := range hidden {
		if value == "" || strings.Contains(text, value) {
			t.Errorf("%q is in a log line or a metric", value)
		}
	}
}
