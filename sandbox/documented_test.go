package sandbox

import (
	"strings"
	"testing"
	"time"
)

// The requests are examples from WeChat's pages and from well-known wrappers of its API, unchanged except for openids and
// template ids that the wrappers leave empty. Some links expire in 2020 and 2022, so the clock is set shortly before.
func TestDocumentedExamples(t *testing.T) {
	shanghai := time.FixedZone("Asia/Shanghai", 8*3600)
	at2020 := time.Date(2020, 11, 30, 10, 0, 0, 0, shanghai)
	at2022 := time.Date(2022, 12, 20, 10, 0, 0, 0, shanghai)
	at2025January8 := time.Date(2025, 1, 8, 10, 0, 0, 0, shanghai)
	at2025 := time.Date(2025, 1, 1, 10, 0, 0, 0, shanghai)
	const vkData = `"data":{"first":{"value":"您购买的订单已经发货啦,正快马加鞭向您飞奔而去。","color":"#173177"},
		"keyword1":{"value":"D201803111235825","color":"#173177"},"keyword2":{"value":"2018-03-11 19:56","color":"#173177"},
		"keyword3":{"value":"顺丰快递","color":"#173177"},"keyword4":{"value":"980456952123","color":"#173177"},
		"keyword5":{"value":"王先生 135xxxxxxxx 广东省深圳市龙华区建设东路","color":"#173177"},"remark":{"value":"欢迎再次购买!","color":"#173177"}}`
	tests := []struct {
		name, path, body string
		at               time.Time
		code             int
		has              string // in the answer, or its content type
	}{
		{"scheme until a time", pathScheme, "{\n    \"jump_wxa\":\n    {\n        \"path\": \"/pages/publishHomework/publishHomework\",\n        \"query\": \"\"\n\t    },\n    \"is_expire\":true,\n    \"expire_time\":1606737600\n}", at2020, 0, `"openlink":"weixin://dl/business/?t=`},
		{"scheme of a time long past", pathScheme, `{"jump_wxa":{"path":"/pages/publishHomework/publishHomework","query":""},"is_expire":true,"expire_time":1606737600}`, at2025, 85401, "invalid expire_time rid: "},
		{"scheme with a span for a time", pathScheme, `{"jump_wxa":{"path":"pages/index/index","query":"a=1"},"is_expire":true,"expire_time":2592000}`, at2025, 85401, "rid: "},
		{"scheme with an expiry type", pathScheme, `{"jump_wxa":{"path":"pages/index/index","query":"id=123","env_version":"release"},"is_expire":true,"expire_type":0,"expire_time":1672502400}`, at2022, 0, `"openlink":"`},
		{"url link", pathURLLink, `{"path":"pages/index/index","query":"id=123","is_expire":true,"expire_type":0,"expire_time":1672502400,"env_version":"release"}`, at2022, 0, `"url_link":"https://wxaurl.cn/`},
		{"unlimited code", pathUnlimited, `{"scene":"id=123","page":"pages/index/index","check_path":true,"env_version":"release","width":430,"auto_color":false,"line_color":{"r":0,"g":0,"b":0},"is_hyaline":false}`, at2025, 0, "image/jpeg"},
		{"unlimited code, success", pathUnlimited, `{"page":"pages/index/index","scene":"a=1","check_path":true,"env_version":"release"}`, at2025, 0, "image/jpeg"},
		{"unlimited code, failure", pathUnlimited, `{"page":"pages/index/index","scene":"a=1","check_path":true,"env_version":"release_error"}`, at2025, 40097, `"errmsg":"invalid args rid: `},
		{"unlimited code, nothing filled in", pathUnlimited, `{"scene":"","page":""}`, at2025, 40169, "rid: "},
		{"limited code", pathCode, `{"path":"pages/index/index?id=123","width":430}`, at2025, 0, "image/jpeg"},
		{"limited square code", pathQRCode, `{"path":"pages/index/index?id=123","width":430}`, at2025, 0, "image/jpeg"},
		{"subscribe message", pathSubscribe, `{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"pages/index/index","miniprogram_state":"formal","lang":"zh_CN",
			"data":{"thing1":{"value":"订单已发货"},"time2":{"value":"2025-01-01 12:00"},"character_string3":{"value":"SF1234567890"}}}`, at2025, 0, `"msgid":3395159288267931`},
		{"subscribe message of a wrapper", pathSubscribe, `{"touser":"openid","template_id":"订阅模板ID","page":"pages/index/index","data":{"character_string1":{"value":"202103040830158485629163994677"},
			"name2":{"value":"中通快递"},"character_string3":{"value":"ZT2015215125352511"},"thing6":{"value":"雪花秀滋盈生人生焕颜精华露"},"thing8":{"value":"杭州市xxxxxxxxx号"}},"miniprogram_state":"formal"}`, at2025, 0, `"msgid":`},
		{"custom text", pathCustom, `{"touser":"OPENID","msgtype":"text","text":{"content":"Hello"}}`, at2025, 0, `{"errcode":0,"errmsg":"ok"}`},
		{"custom image", pathCustom, `{"touser":"OPENID","msgtype":"image","image":{"media_id":"MEDIA_ID"}}`, at2025, 0, `"ok"`},
		{"custom card", pathCustom, `{"touser":"OPENID","msgtype":"miniprogrampage","miniprogrampage":{"title":"标题","pagepath":"pages/index/index","thumb_media_id":"MEDIA_ID"}}`, at2025, 0, `"ok"`},
		{"uniform message of a wrapper", pathUniform, `{"touser":"","template_id":"","url":"https://www.baidu.com","miniprogram":{"appid":"","pagepath":"pages/order/order?id=aaa"},` + vkData + `}`, at2025, 45109, "This API has been unsupported rid: "},
		{"template message of a wrapper", pathTemplate, `{"touser":"OPENID","template_id":"TEMPLATE_ID","url":"https://www.baidu.com","miniprogram":{"appid":"","pagepath":"pages/order/order?id=aaa"},` + vkData + `}`, at2025, 0, `"msgid":`},
		{"template message, nothing filled in", pathTemplate, `{"touser":"","template_id":"","url":"https://www.baidu.com",` + vkData + `}`, at2025, 40003, "invalid openid rid: "},
		{"transparent code", pathUnlimited, `{"scene":"id=123","page":"pages/index/index","is_hyaline":true}`, at2025, 0, "image/png"},
		{"web page of an account's message", pathBizSubscribe, `{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"https://weixin.qq.com/download","miniprogram":{"appid":"APPID","pagepath":"index?foo=bar"},"data":{"name1":{"value":"广州腾讯科技有限公司"},"thing8":{"value":"广州腾讯科技有限公司"},"time7":{"value":"2019年8月8日 12:00"}}}`, at2025, 0, `"msgid":339515928826793`},
		{"phone number", pathPhone, `{"code":"动态令牌code"}`, at2025, 40029, "rid: "},
		{"phone number of a code", pathPhone, `{"code":"e31968a7f94cc5ee25fafc2aef2773f0bb8c3937b22520eb8ee345274d00c144"}`, at2025, 0, `"countryCode":"86","watermark":{"timestamp":1735696800,"appid":"` + testApp + `"}`},
		{"visits of a day", pathVisitTrend, `{ "begin_date": "20250101", "end_date": "20250101" }`, at2025January8, 0, `{"list":[{"ref_date":"20250101","session_cnt":`},
		{"portrait of a week", pathPortrait, `{ "begin_date": "20250101", "end_date": "20250107" }`, at2025January8, 0, `{"ref_date":"20250101-20250107","visit_uv_new":{"province":[{"id":1,"name":"广东","value":`},
		{"live rooms", pathLive, `{"start":0,"limit":10}`, at2025, 0, `"total":3,"room_info":[{"name":`},
		{"recordings", pathLive, `{"action":"get_replay","room_id":1,"start":0,"limit":10}`, at2025, 0, `"total":1,"live_replay":[{"expire_time":"2025-01-31T`},
		{"media check", pathMediaCheck, `{"openid":"OPENID","scene":1,"version":2,"media_url":"https://developers.weixin.qq.com/miniprogram/assets/images/head_global_z_@all.p","media_type":2}`, at2025, 0, `{"errcode":0,"errmsg":"ok","trace_id":"`},
		{"NFC scheme", pathNFCScheme, `{"jump_wxa":{"path":"/pages/publishHomework/publishHomework","query":"","env_version":"release"},"model_id":"xxx","sn":"xxxxxx"}`, at2025, 0, `"openlink":"weixin://dl/business/?t=`},
		{"short link", pathShortLink, `{"page_url":"/pages/publishHomework/publishHomework?query1=q1","page_title":"Homework title","is_permanent":false}`, at2025, 0, `"link":"#小程序://Homework title/`},
		{"text check", pathTextCheck, `{"content":"待检测文本","version":2,"scene":1,"openid":"OPENID"}`, at2025, 0, `"result":{"suggest":"pass","label":100}`},
		{"text check of a wrapper", pathTextCheck, `{"content":"待检测文本"}`, at2025, 0, `{"errcode":0,"errmsg":"ok"}`},
		{"image check", pathImageCheck, upload("a.png", tinyPNG), at2025, 0, `{"errcode":0,"errmsg":"ok"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := New(Options{Clock: func() time.Time { return tt.at }})
			a := post(t, s, tt.path, tt.body)
			if a.status != 200 || a.ErrCode != tt.code || !strings.Contains(a.kind+a.raw, tt.has) {
				t.Errorf("%d %s %.300q, want errcode %d and %q", a.status, a.kind, a.raw, tt.code, tt.has)
			}
			if got := s.Count(Filter{Path: tt.path, ErrCodes: []int{0}, Delivered: true}); (got == 1) != (tt.code == 0) {
				t.Errorf("delivered %d", got)
			}
		})
	}
}

func TestDocumentedTokenAnswers(t *testing.T) {
	open, listed := New(Options{}), New(Options{Apps: map[string]string{testApp: testSecret}})
	const query = "?grant_type=client_credential&appid=APPID&secret=APPSECRET"
	if a := do(t, open, "GET", pathToken+query, ""); a.Token == "" || a.Expires != 7200 {
		t.Errorf("token: %s", a.raw)
	}
	if a := do(t, listed, "GET", pathToken+query, ""); a.ErrCode != 40013 || !strings.HasPrefix(a.ErrMsg, "invalid appid rid: ") {
		t.Errorf("token of an unknown app: %s", a.raw)
	}
}
