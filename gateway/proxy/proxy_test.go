package proxy_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
)

const (
	schemePath  = "/wxa/generatescheme"
	schemeBody  = `{"jump_wxa":{"path":"pages/index/index","query":"a=1"}}`
	sendPath    = "/cgi-bin/message/subscribe/send"
	codePath    = "/wxa/getwxacodeunlimit"
	sessionPath = "/sns/jscode2session"
)

// TestTickets: a key gives tickets for its apps without a call of WeChat, and only these are taken.
func TestTickets(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g, second := s.start(), s.start()
		ours := s.keys.add(apikey.Key{ID: "ours", Apps: []string{app}})
		noCall := s.keys.add(apikey.Key{ID: "nocall", Scopes: []apikey.Scope{apikey.Read}})
		short := s.keys.add(apikey.Key{ID: "short", Expires: time.Now().Add(10 * time.Minute)})

		stable := func(body string) reply { return g.send(http.MethodPost, "/cgi-bin/stable_token", nil, body) }
		a := stable(`{"grant_type":"client_credential","appid":"` + app + `","secret":"` + s.key + `","force_refresh":true}`)
		if a.AccessToken == "" || a.ExpiresIn != 7200 || len(a.AccessToken) > 512 || url.QueryEscape(a.AccessToken) != a.AccessToken {
			t.Fatalf("stable_token: %v", a)
		}
		form := g.send(http.MethodPost, "/cgi-bin/token", nil, url.Values{"grant_type": {"client_credential"}, "appid": {app}, "secret": {s.key}}.Encode(),
			"Content-Type", "application/x-www-form-urlencoded")
		if form.AccessToken == "" {
			t.Errorf("a form: %v", form)
		}
		if a := g.ticketOf(short, app); a.ExpiresIn > 600 || a.ExpiresIn < 500 {
			t.Errorf("a ticket of a key that expires: %v", a)
		}
		wantRefused(t, "wrong key", g.ticketOf("wxc_shop_wrong", app), 40125)
		wantRefused(t, "an app's secret", g.ticketOf(secret, app), 40125)
		wantRefused(t, "no key", g.ticketOf("", app), 41004)
		wantRefused(t, "no app", g.ticketOf(s.key, ""), 41002)
		wantRefused(t, "unknown app", g.ticketOf(s.key, "wx00000000000000ff"), 40013)
		wantRefused(t, "an app that the key may not use", g.ticketOf(ours, other), 40013)
		wantRefused(t, "no scope", g.ticketOf(noCall, app), 48001)
		wantRefused(t, "bad grant", stable(`{"grant_type":"x","appid":"`+app+`","secret":"`+s.key+`"}`), 40002)
		wantRefused(t, "no JSON", stable(`appid=1`), 47001)
		wantRefused(t, "GET of stable_token", g.send(http.MethodGet, "/cgi-bin/stable_token", nil, ""), 43002)
		if n := len(s.seen.all); n != 0 {
			t.Errorf("WeChat got %d calls for tickets", n)
		}
		if a := second.post(a.AccessToken, schemePath, schemeBody); a.OpenLink == "" {
			t.Errorf("another gateway does not take the ticket: %v", a)
		}
	})
}

// TestTicketsThatEnd: an expired, foreign or changed ticket, one of a revoked key, and one of an app
// that left, are refused with the codes at which SDKs get a new one; WeChat is not called.
func TestTicketsThatEnd(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g := s.start()
		soon := s.keys.add(apikey.Key{ID: "soon", Expires: time.Now().Add(2 * time.Second)})
		expiring := g.ticketOf(soon, app).AccessToken
		gone := s.keys.add(apikey.Key{ID: "gone"})
		revoked := g.ticketOf(gone, app).AccessToken
		s.keys.remove(gone)
		ticket := g.ticket()

		wantRefused(t, "no ticket", g.post("", schemePath, schemeBody), 41001)
		wantRefused(t, "a token of WeChat", g.post("72_"+strings.Repeat("x", 130), schemePath, schemeBody), 40001)
		wantRefused(t, "a revoked key", g.post(revoked, schemePath, schemeBody), 40001)
		for i := range len(ticket) {
			changed := []byte(ticket)
			changed[i] ^= 1
			if a := g.post(string(changed), schemePath, schemeBody); a.ErrCode != 40001 {
				t.Fatalf("a ticket with another character %d: %v", i, a)
			}
		}
		s.keys.add(apikey.Key{ID: "shop", Scopes: []apikey.Scope{apikey.Read}})
		wantRefused(t, "a key without the scope now", g.post(ticket, schemePath, schemeBody), 48001)
		s.key = s.keys.add(apikey.Key{ID: "shop"})
		delete(s.apps, app)
		wantRefused(t, "an app that left", g.post(ticket, schemePath, schemeBody), 40001)
		s.apps[app] = s.apps[other]
		var a reply
		redistest.Until(t, 20*time.Second, "the ticket has expired", func() bool {
			a = g.post(expiring, "/cgi-bin/not-allowed", "")
			return a.ErrCode == 42001
		})
		if !strings.Contains(a.ErrMsg, "access_token expired") { // EasyWeChat looks for these words
			t.Errorf("%v", a)
		}
		if n := len(s.seen.all); n != 0 {
			t.Errorf("WeChat got %d calls", n)
		}
	})
}

// TestAnswersComeByteForByte: JSON, images and answers to uploads come as WeChat gave them, and the
// requests reach it as the client wrote them, with one token call for all.
func TestAnswersComeByteForByte(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newShop(t, rdb)
		g := s.start()
		ticket := g.ticket()
		a := g.post(ticket, schemePath, schemeBody)
		if a.OpenLink == "" || a.status != http.StatusOK {
			t.Fatalf("%v", a)
		}
		picture := g.post(ticket, codePath, `{"scene":"a=1"}`)
		if picture.header.Get("Content-Type") != "image/jpeg" || !strings.HasPrefix(string(picture.body), "\xff\xd8") {
			t.Errorf("a code: %v", picture)
		}
		upload := "--b0und\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a.gif\"\r\nContent-Type: image/gif\r\n\r\n" +
			"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;" + "\r\n--b0und--\r\n"
		if a := g.post(ticket, "/wxa/img_sec_check", upload, "Content-Type", "multipart/form-data; boundary=b0und"); a.ErrCode != 0 || a.ErrMsg != "ok" {
			t.Errorf("an upload: %v", a)
		}
		sent := s.seen.of("/wxa/img_sec_check")
		if len(sent) != 1 || string(sent[0].body) != upload || sent[0].contentType != "multipart/form-data; boundary=b0und" {
			t.Errorf("the upload reached WeChat as %+v", sent)
		}
		if a := g.post(ticket, "/wxa/business/getuserphonenumber", `{"code":"0a1b2c3e"}`); !strings.Contains(string(a.body), `"purePhoneNumber":"138`) {
			t.Errorf("a phone number: %v", a)
		}
		if a := g.send(http.MethodGet, "/wxaapi/newtmpl/gettemplate", url.Values{"access_token": {ticket}}, ""); !strings.Contains(string(a.body), "priTmplId") {
			t.Errorf("templates: %v", a)
		}
		if a := g.post(ticket, sendPath, `{"touser":"blocked-oA","template_id":"T","data":{"thing1":{"value":"x"}}}`); a.ErrCode == 0 || !strings.Contains(a.ErrMsg, "rid: ") {
			t.Errorf("a refusal of WeChat's: %v", a)
		}
		session := g.send(http.MethodGet, sessionPath, url.Values{"appid": {app}, "secret": {s.key}, "js_code": {"0a1b2c3d"}, "grant_type": {"authorization_code"}}, "")
		if session.OpenID == "" || !strings.Contains(string(session.body), "session_key") {
			t.Errorf("a session: %v", session)
		}
		if q := s.seen.of(sessionPath); len(q) != 1 || q[0].query.Get("secret") != secret || q[0].query.Get("appid") != app || len(q[0].query) != 4 {
			t.Errorf("the login reached WeChat as %+v", q)
		}
		if n := s.wx.TokensIssued(app, sandbox.Stable) + s.wx.TokensIssued(app, sandbox.Classic); n != 1 {
			t.Errorf("%d tokens were issued", n)
		}
		if sent := s.seen.of(schemePath); string(sent[0].body) != schemeBody || len(sent[0].query) != 1 || sent[0].query.Get("access_token") == ticket {
			t.Errorf("%+v", sent)
		}
		wantRefused(t, "a login with a wrong key", g.send(http.MethodGet, sessionPath, url.Values{"appid": {app}, "secret": {secret}, "js_code": {"x"}}, ""), 40125)
	})
}

// TestPaths: a key may call the listed paths, and others by its patterns.
func TestPaths(t *testing.T) {
	_, rdb := redistest.Mini(t)
	s := newShop(t, rdb)
	g := s.start()
	wide := g.ticketOf(s.keys.add(apikey.Key{ID: "wide", Paths: []string{"/cgi-bin/menu/*"}}), app).AccessToken
	wantRefused(t, "a path that is not listed", g.post(g.ticket(), "/cgi-bin/menu/create", `{}`), 48001)
	if a := g.post(wide, "/cgi-bin/menu/create", `{}`); strings.Contains(a.ErrMsg, "wxcourier") || len(s.seen.of("/cgi-bin/menu/create")) != 1 {
		t.Errorf("a path of a pattern: %v", a)
	}
	wantRefused(t, "outside of the pattern", g.post(wide, "/cgi-bin/menu/a/b", `{}`), 48001)
	wantRefused(t, "another method", g.send(http.MethodPut, schemePath, url.Values{"access_token": {wide}}, ""), 43002)
	if a := g.post(wide, "/cgi-bin/menu/%2e%2e/x", `{}`); a.ErrCode == 0 {
		t.Errorf("an escaped path: %v", a)
	}
	wantRefused(t, "a large body", g.post(wide, schemePath, strings.Repeat(" ", 3<<20)), 45002)
	if n := len(s.seen.all); n != 2 { // a token, and one call
		t.Errorf("WeChat got %d requests", n)
	}
}
