package sandbox

import (
	"fmt"
	"image"
	"strings"
	"testing"
	"time"
)

func TestEveryEndpointAcceptsAndRefuses(t *testing.T) {
	for path, row := range New(Options{}).rows {
		t.Run(path, func(t *testing.T) {
			s := New(Options{AllowUniform: true})
			method, wrong := "GET", 43002
			if row.method == "GET" {
				method, wrong = "POST", 43001
			}
			if a := do(t, s, method, path, ""); a.ErrCode != wrong || !strings.Contains(a.ErrMsg, " rid: ") {
				t.Errorf("wrong method: %s", a.raw)
			}
			if row.kind < kindMessage || row.secret {
				return
			}
			if a := post(t, s, path, goodBody(path, "id=1")); strings.Contains(goodBodies()[path], `"touser"`) || path == pathTextCheck || path == pathMediaCheck {
				if a.ErrCode != 40003 {
					t.Errorf("openid with an invalid character: %s", a.raw)
				}
			}
			if a := post(t, New(Options{AllowUniform: true}), path, goodBody(path, "o1")); a.status != 200 || a.ErrCode != 0 {
				t.Errorf("a valid request: %.200s", a.raw)
			}
			bad := map[string]int{"": 44002, "no json": 47001, "[1]": 47001, "null": 47001, "{} {}": 47001, "{\"a\":\"\xff\"}": 47001, `{"touser":1,"jump_wxa":1,"path":1,"scene":"x","content":1}`: 47001}
			if path == pathUnlimited || path == pathTextCheck || path == pathShortLink || otherGoodBodies()[path] != "" {
				delete(bad, `{"touser":1,"jump_wxa":1,"path":1,"scene":"x","content":1}`)
			}
			for body, code := range bad {
				if path == pathImageCheck {
					code = 41005
				}
				if a := post(t, s, path, body); a.ErrCode != code {
					t.Errorf("body %q: %s, want %d", body, a.raw, code)
				}
			}
			if a := post(t, s, path, strings.Repeat(" ", maxBody+1)); a.status != 413 || strings.HasPrefix(a.raw, "{") {
				t.Errorf("a body larger than maxBody: %d %.60s", a.status, a.raw)
			}
		})
	}
	if a := do(t, New(Options{}), "GET", "/cgi-bin/nothing", ""); a.ErrCode != 40066 {
		t.Errorf("unknown path: %s", a.raw)
	}
}

func TestInvalidRequests(t *testing.T) {
	clock := newClock()
	unix := func(d time.Duration) string { return fmt.Sprint(clock.Now().Add(d).Unix()) }
	scheme := func(jump, rest string) string { return `{"jump_wxa":{` + jump + `}` + rest + `}` }
	tests := []struct {
		path, body string
		code       int
		has        string
	}{
		{pathSubscribe, `{"template_id":"T","data":{"thing1":{"value":"x"}}}`, 40003, ""},
		{pathSubscribe, `{"touser":"o1","data":{"thing1":{"value":"x"}}}`, 40037, ""},
		{pathSubscribe, `{"touser":"o1","template_id":"T"}`, 47003, "data is emtpy"},
		{pathSubscribe, `{"touser":"o1","template_id":"T","page":"pages/gone","data":{"thing1":{"value":"x"}}}`, 41030, ""},
		{pathSubscribe, `{"touser":"o1","template_id":"T","page":"https://x","data":{"thing1":{"value":"x"}}}`, 41030, ""},
		{pathSubscribe, `{"touser":"o1","template_id":"T","miniprogram_state":"release","data":{"thing1":{"value":"x"}}}`, 47003, "miniprogram_state"},
		{pathSubscribe, `{"touser":"o1","template_id":"T","lang":"de","data":{"thing1":{"value":"x"}}}`, 47003, "lang"},
		{pathSubscribe, `{"touser":"o1","template_id":"T","data":{"thing1":{"value":""}}}`, 47003, "argument invalid! data.thing1.value is emtpy rid: "},
		{pathSubscribe, `{"touser":"o1","template_id":"T","data":{"date3":{"value":"x"},"thing1":{"value":"x"}}}`, 47003, "argument invalid! data.date3.value invalid rid: "},
		{pathSubscribe, `{"touser":"o1","template_id":"T","data":{"thing1":{"value":{}}}}`, 47003, "data.thing1.value invalid"},
		{pathBizSubscribe, `{"touser":"","template_id":"T"}`, 40003, ""},
		{pathTemplate, `{"touser":"o1","template_id":" "}`, 40037, ""},
		{pathTemplate, `{"touser":"o1","template_id":"T","data":{"thing01":{"value":"一二三四五六七八九十一二三四五六七八九十一"}}}`, 47003, "thing01.DATA is invalid"},
		{pathTemplate, `{"touser":"o1","template_id":"T","data":{"keyword1":{"value":" "}}}`, 47003, `"data format error, keyword1.DATA is emtpy rid: `},
		{pathSubscribe, `{"touser":"o1","template_id":"T","data":{"thing1":{"value":""}}}`, 47003, `"argument invalid! data.thing1.value is emtpy rid: `},
		{pathSubscribe, `{"touser":"o1","template_id":"T","data":{"number1":{"value":"x"}}}`, 47003, `"argument invalid! data.number1.value invalid rid: `},
		{pathBizSubscribe, `{"touser":"o1","template_id":"T","page":"https://example.com/a?b=1","data":{"thing1":{"value":"x"}}}`, 0, `"msgid":`},
		{pathBizSubscribe, `{"touser":"o1","template_id":"T","page":"https://","data":{"thing1":{"value":"x"}}}`, 41030, ""},
		{pathBizSubscribe, `{"touser":"o1","template_id":"T","page":"pages/gone","data":{"thing1":{"value":"x"}}}`, 41030, ""},
		{pathTemplate, `{"touser":"o1","template_id":"T","miniprogram":{"appid":"x"},"data":{"first":{"value":"x"}}}`, 40013, ""},
		{pathCustom, `{"touser":"","msgtype":"text","text":{"content":"x"}}`, 40003, ""},
		{pathCustom, `{"touser":"o1","msgtype":"letter"}`, 40008, ""},
		{pathCustom, `{"touser":"o1","msgtype":"text"}`, 44004, ""},
		{pathCustom, `{"touser":"o1","msgtype":"text","text":{"content":"` + strings.Repeat("x", maxTextBytes+1) + `"}}`, 45002, ""},
		{pathCustom, `{"touser":"o1","msgtype":"image","image":{}}`, 40007, ""},
		{pathCustom, `{"touser":"o1","msgtype":"miniprogrampage","miniprogrampage":{"title":"x"}}`, 40007, ""},
		{pathCustom, `{"touser":"o1","msgtype":"news","news":{"articles":[]}}`, 44003, ""},
		{pathCustom, `{"touser":"o1","msgtype":"news","news":{"articles":[{},{}]}}`, 45008, ""},
		{pathScheme, scheme(`"path":"pages/index/index?a=1"`, ""), 40165, ""},
		{pathScheme, scheme(`"path":"pages/gone"`, ""), 40165, ""},
		{pathScheme, scheme(`"query":"`+strings.Repeat("x", 1025)+`"`, ""), 40212, ""},
		{pathScheme, scheme(`"query":"a=汉"`, ""), 40212, ""},
		{pathScheme, scheme(`"query":"a=%20&b=`+strings.Repeat("x", 1016)+`"`, ""), 0, ""},
		{pathScheme, scheme(`"env_version":"formal"`, ""), 85402, ""},
		{pathScheme, scheme("", `,"expire_time":`+unix(time.Minute)), 85401, ""},
		{pathScheme, scheme("", `,"expire_time":`+unix(time.Minute+time.Second)), 0, ""},
		{pathScheme, scheme("", `,"expire_time":`+unix(30*24*time.Hour)), 0, ""},
		{pathScheme, scheme("", `,"expire_time":`+unix(30*24*time.Hour+time.Second)), 85401, ""},
		{pathScheme, scheme("", `,"is_expire":true`), 85401, ""},
		{pathScheme, scheme("", `,"expire_type":1`), 85401, ""},
		{pathScheme, scheme("", `,"expire_type":1,"expire_interval":31`), 85401, ""},
		{pathScheme, scheme("", `,"expire_type":2`), 40097, ""},
		{pathURLLink, `{"path":"pages/gone"}`, 40165, ""},
		{pathURLLink, `{"query":"汉"}`, 40212, ""},
		{pathURLLink, `{"expire_time":1}`, 85401, ""},
		{pathURLLink, `{}`, 0, ""},
		{pathNFCScheme, `{"jump_wxa":{}}`, 9800003, ""},
		{pathNFCScheme, `{"model_id":"m","jump_wxa":{"path":"pages/gone"}}`, 40165, ""},
		{pathNFCScheme, `{"model_id":"m","jump_wxa":{"query":"汉"}}`, 40212, ""},
		{pathNFCScheme, `{"model_id":"m","jump_wxa":{"env_version":"x"}}`, 85402, ""},
		{pathNFCScheme, `{"model_id":"m"}`, 0, `"openlink":"weixin://dl/business/?t=`},
		{pathShortLink, `{}`, 40066, ""},
		{pathShortLink, `{"page_url":"pages/gone"}`, 40066, ""},
		{pathShortLink, `{"page_url":"pages/index/index?` + strings.Repeat("x", 1024) + `"}`, 40066, ""},
		{pathShortLink, `{"page_url":"pages/index/index?a=1","page_title":"` + strings.Repeat("长", 21) + `"}`, 0, `"link":"#小程序://` + strings.Repeat("长", 20) + `.../`},
		{pathShortLink, `{"page_url":"pages/index/index"}`, 0, `"link":"#小程序://小程序/`},
		{pathUnlimited, `{"scene":"` + strings.Repeat("x", 33) + `"}`, 40169, ""},
		{pathUnlimited, `{"scene":"a%20"}`, 40129, ""},
		{pathUnlimited, `{"scene":"scancode_time=1"}`, 85096, ""},
		{pathUnlimited, `{"scene":"a","page":"/pages/index/index"}`, 41030, ""},
		{pathUnlimited, `{"scene":"a","page":"pages/index/index?a=1"}`, 41030, ""},
		{pathUnlimited, `{"scene":"a","page":"pages/gone"}`, 41030, ""},
		{pathUnlimited, `{"scene":"a","page":"pages/gone","check_path":false}`, 0, ""},
		{pathUnlimited, `{"scene":"a","width":279}`, 40097, ""},
		{pathUnlimited, `{"scene":"a","width":1281}`, 40097, ""},
		{pathCode, `{"path":""}`, 40159, ""},
		{pathCode, `{"path":"` + strings.Repeat("汉", 1024) + `"}`, 0, ""},
		{pathCode, `{"path":"` + strings.Repeat("x", 1025) + `"}`, 40159, ""},
		{pathCode, `{"path":"p?scancode_time=1"}`, 85096, ""},
		{pathCode, `{"path":"p","env_version":"x"}`, 40097, ""},
		{pathQRCode, `{"path":"` + strings.Repeat("汉", 43) + `"}`, 40159, ""},
		{pathQRCode, `{"path":"p","width":1}`, 40097, ""},
		{pathTextCheck, `{"version":2,"scene":1,"openid":"o1"}`, 44004, ""},
		{pathTextCheck, `{"content":"x","version":3}`, 40097, ""},
		{pathTextCheck, `{"content":"x","version":2,"scene":5,"openid":"o1"}`, 40129, ""},
		{pathTextCheck, `{"content":"x","version":2,"scene":1}`, 40003, ""},
		{pathTextCheck, `{"content":"` + strings.Repeat("汉", 2501) + `","version":2,"scene":1,"openid":"o1"}`, 45002, ""},
		{pathTextCheck, `{"content":"` + strings.Repeat("汉", 2500) + `","version":2,"scene":1,"openid":"o1"}`, 0, `"trace_id"`},
		{pathTextCheck, `{"content":"` + strings.Repeat("x", 500_001) + `"}`, 45002, ""},
		{pathTextCheck, `{"content":"x","version":"2","scene":"1","openid":"o1"}`, 0, `"trace_id"`},
		{pathTextCheck, `{"content":"x","version":"3","scene":1,"openid":"o1"}`, 40097, ""},
		{pathTextCheck, `{"content":"x","version":"two","scene":1,"openid":"o1"}`, 47001, ""},
		{pathTextCheck, `{"content":"x","version":"2"2","scene":1,"openid":"o1"}`, 47001, ""},
		{pathTextCheck, `{"content":"x","version":2.5,"scene":1,"openid":"o1"}`, 47001, ""},
		{pathMediaCheck, `{"media_type":2}`, 40066, ""},
		{pathMediaCheck, `{"media_url":"a.png","media_type":2}`, 40066, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png"}`, 40004, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png","media_type":3}`, 40004, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png","media_type":1,"version":3}`, 40097, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png","media_type":1,"version":2,"openid":"o1"}`, 40129, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png","media_type":1,"version":2,"scene":1}`, 40003, ""},
		{pathMediaCheck, `{"media_url":"https://x/a.png","media_type":1}`, 0, `"trace_id":"`},
		{pathImageCheck, upload("a.png", ""), 41005, ""},
		{pathImageCheck, upload("", tinyPNG), 41005, ""},
		{pathImageCheck, strings.Replace(upload("a.png", tinyPNG), `; filename="a.png"`, "", 1), 41005, "media data missing"},
		{pathImageCheck, upload("a.png", tinyPNG+strings.Repeat("x", 1<<20)), 40006, ""},
		{pathImageCheck, upload("a.png", "plain text"), 40137, ""},
		{pathImageCheck, "--b0und\nbroken", 47001, ""},
		{pathQuota, `{"cgi_path":"/cgi-bin/nothing"}`, 76021, ""},
		{pathQuota, `{"cgi_path":"https://api.weixin.qq.com/cgi-bin/token"}`, 76003, ""},
		{pathQuota, `{"cgi_path":"/sns/jscode2session"}`, 76022, ""},
		{pathClearQuota, `{"appid":"wx1"}`, 40013, ""},
	}
	for _, tt := range tests {
		s := New(Options{Clock: clock.Now, Pages: []string{"pages/index/index"}})
		if a := post(t, s, tt.path, tt.body); a.ErrCode != tt.code || !strings.Contains(a.raw, tt.has) {
			t.Errorf("%s %.120s: %.200s, want %d %s", tt.path, tt.body, a.raw, tt.code, tt.has)
		}
	}
}

func TestUniform(t *testing.T) {
	s := New(Options{AllowUniform: true})
	for body, code := range map[string]int{
		`{"touser":"o1"}`: 40037,
		`{"touser":"","mp_template_msg":{"appid":"wx1","template_id":"T"}}`:   40003,
		`{"touser":"o1","mp_template_msg":{"template_id":"T"}}`:               40013,
		`{"touser":"o1","mp_template_msg":{"appid":"wx1"}}`:                   40037,
		`{"touser":"o1","weapp_template_msg":{"template_id":""}}`:             40037,
		`{"touser":"o1","weapp_template_msg":{"template_id":"T"}}`:            0,
		`{"touser":"o1","mp_template_msg":{"appid":"wx1","template_id":"T"}}`: 0,
	} {
		if a := post(t, s, pathUniform, body); a.ErrCode != code {
			t.Errorf("%s: %s, want %d", body, a.raw, code)
		}
	}
}

func TestPictures(t *testing.T) {
	tests := []struct {
		path, body string
		width      int
		format     string
		leadsTo    string
	}{
		{pathUnlimited, `{"scene":"a=1"}`, 430, "jpeg", "?scene=a=1"},
		{pathUnlimited, `{"scene":"a=2","width":280,"is_hyaline":false}`, 280, "jpeg", "?scene=a=2"},
		{pathUnlimited, `{"scene":"a=3","width":1280}`, 1280, "jpeg", "?scene=a=3"},
		{pathUnlimited, `{"scene":"a=4","is_hyaline":true}`, 430, "png", "?scene=a=4"},
		{pathUnlimited, `{"scene":"a=5","check_path":false,"page":"` + strings.Repeat("汉", 20_000) + `"}`, 430, "jpeg", `\u6c49\u6c49`},
		{pathCode, `{"path":"p?a=6"}`, 430, "jpeg", "p?a=6"},
		{pathCode, `{"path":"p?a=7","width":300,"is_hyaline":true}`, 300, "png", "p?a=7"},
		{pathQRCode, `{"path":"p?a=8"}`, 430, "jpeg", "p?a=8"},
		{pathQRCode, `{"path":"p?a=9","is_hyaline":true}`, 430, "jpeg", "p?a=9"},
	}
	const modules = 25 // along each side
	s := New(Options{})
	for _, tt := range tests {
		a := post(t, s, tt.path, tt.body)
		img, format, err := image.Decode(strings.NewReader(a.raw))
		if err != nil || format != tt.format || a.kind != "image/"+tt.format {
			t.Errorf("%.60s: %s %s %v, want %s", tt.body, a.kind, format, err, tt.format)
			continue
		}
		if size := img.Bounds().Size(); size.X != tt.width || size.Y != tt.width {
			t.Errorf("%.60s: %v, want a width of %d", tt.body, size, tt.width)
		}
		light, dark := img.At(tt.width/modules*3/2, tt.width/modules*3/2), img.At(1, 1) // a corner square's light ring, and its dark border
		if _, _, _, alpha := light.RGBA(); (alpha == 0) != (format == "png") {
			t.Errorf("%.60s: the background is %v", tt.body, light)
		}
		if r, g, b, alpha := dark.RGBA(); r+g+b > 3<<12 || alpha != 0xffff {
			t.Errorf("%.60s: a dark module is %v", tt.body, dark)
		}
		if !strings.Contains(a.raw, tt.leadsTo) {
			t.Errorf("%.60s: the image does not contain its target", tt.body)
		}
	}
}

func TestCredits(t *testing.T) {
	s := New(Options{Credits: 2})
	send := func(path, openid string) int { return post(t, s, path, goodBody(path, openid)).ErrCode }
	for i, want := range []int{0, 0, 43101, 43101} {
		if got := send(pathSubscribe, "o1"); got != want {
			t.Errorf("message %d: %d, want %d", i+1, got, want)
		}
	}
	if send(pathSubscribe, "o2") != 0 || send(pathCustom, "o1") != 0 {
		t.Error("another person or a custom message was refused")
	}
	s.SetCredits(testApp, "o1", "T1", 1)
	if send(pathBizSubscribe, "o1") != 0 || send(pathBizSubscribe, "o1") != 43101 {
		t.Error("one credit did not allow exactly one message")
	}
	s.SetCredits(testApp, "o1", "T1", -5)
	for range 3 {
		if send(pathSubscribe, "o1") != 0 {
			t.Error("unlimited credits were used up")
		}
	}
	if got := s.Delivered(testApp, "o1", "T1"); got != 6 {
		t.Errorf("delivered %d, want 6", got)
	}
}

func TestClientMsgIDDeduplicates(t *testing.T) {
	clock := newClock()
	s := New(Options{Clock: clock.Now})
	send := func(openid, id string) answer {
		return post(t, s, pathTemplate, `{"touser":"`+openid+`","template_id":"T1","client_msg_id":"`+id+`","data":{"first":{"value":"x"}}}`)
	}
	one := send("o1", "a")
	clock.move(10*time.Minute - time.Second)
	if again := send("o1", "a"); again.ErrCode != 0 || again.MsgID != one.MsgID || one.MsgID == "" {
		t.Errorf("again: %s, first %s", again.raw, one.raw)
	}
	if s.Delivered(testApp, "o1", "T1") != 1 || len(s.Duplicates()) != 0 {
		t.Error("the second message was delivered")
	}
	send("o2", "a")
	send("o1", "b")
	if s.Delivered(testApp, "o2", "") != 1 || s.Delivered(testApp, "o1", "") != 2 {
		t.Error("a message to another openid, or with another id, was suppressed")
	}
	clock.move(time.Second)
	if later := send("o1", "a"); later.MsgID == one.MsgID || s.Delivered(testApp, "o1", "") != 3 {
		t.Error("the id still suppresses messages after ten minutes")
	}
	if d := s.Duplicates(); len(d) != 1 || d[0].Times != 2 || d[0].OpenID != "o1" || d[0].Template != "T1" {
		t.Errorf("duplicates: %+v", d)
	}
	calls := s.Calls(Filter{Path: pathTemplate})
	if !calls[1].Repeated || calls[1].Delivered || calls[0].Repeated || !calls[0].Delivered {
		t.Errorf("call log: %+v", calls[:2])
	}
}
