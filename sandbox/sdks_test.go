package sandbox

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// sdkRequest is a request as a public SDK sends it.
type sdkRequest struct {
	sdk         string
	path        string // with a query where the SDK writes one of its own
	contentType string // "" for none
	body        string
	code        int
	has         string // in the answer, or its content type
}

const (
	plainJSON    = "application/json"
	charsetJSON  = "application/json; charset=utf-8"
	tightJSON    = "application/json;charset=utf-8"
	plainText    = "text/plain; charset=UTF-8"
	uploadOfTest = "multipart/form-data; boundary=b0und"
)

// sdkRequests returns requests that show the differences between SDKs: numbers as strings, empty values, fields that WeChat
// dropped, the order of fields, the content type, the form of an upload.
func sdkRequests() []sdkRequest {
	return []sdkRequest{
		{"WxJava", pathTextCheck, charsetJSON, `{"version":"2","openid":"oA","scene":1,"content":"你好"}`, 0, `"suggest":"pass"`},
		{"WxJava", pathMediaCheck, charsetJSON, `{"media_url":"https://example.com/a.png","media_type":2,"version":2,"openid":"oA","scene":1}`, 0, `"trace_id":"`},
		{"WxJava", pathBizSubscribe, charsetJSON, `{"touser":"oA","template_id":"T","page":"https://example.com/order?id=1","data":{"thing1":{"value":"已发货"}}}`, 0, `"msgid":`},
		{"WxJava", pathSubscribe, plainText, `{"touser":"oA","template_id":"T","page":"pages/index/index","data":{"thing1":{"value":"已发货"}},"miniprogram_state":"formal","lang":"zh_CN"}`, 0, `"msgid":`},
		{"WxJava", pathUnlimited, charsetJSON, `{"scene":"a=1","page":"pages/index/index","check_path":true,"env_version":"release","width":430,"auto_color":true,"is_hyaline":true}`, 0, "image/png"},
		{"WxJava", pathClearQuotaV2 + "?appid=" + testApp + "&appsecret=" + testSecret, charsetJSON, "", 0, `"errmsg":"ok"`},
		{"WxJava", pathSession + loginQuery("0a1b2c3d"), "", "", 0, `{"session_key":"`},
		{"WxJava", pathTemplates, "", "", 0, `"priTmplId":"`},
		{"WxJava", pathLive, charsetJSON, `{"start":0,"limit":80}`, 0, `"room_info":[{`},

		{"EasyWeChat", pathSubscribe, plainJSON, `{"template_id":"T","touser":"oA","page":"","data":{"thing1":{"value":"已发货"},"number2":{"value":3}}}`, 0, `"msgid":`},
		{"EasyWeChat", pathTextCheck, plainJSON, `{"content":"你好","version":2,"scene":2,"openid":"oA"}`, 0, `"label":100`},
		{"EasyWeChat", pathTextCheck, plainJSON, `{}`, 44004, "rid: "},
		{"EasyWeChat", pathImageCheck, uploadOfTest, upload("a.png", tinyPNG), 0, `"errmsg":"ok"`},
		{"EasyWeChat", pathPhone, plainJSON, `{"code":"0a1b2c3e"}`, 0, `"purePhoneNumber":"138`},

		{"PowerWeChat", pathSubscribe, plainJSON, `{"data":{"thing1":{"value":"已发货"}},"lang":"","miniprogram_state":"","page":"","template_id":"T","touser":"oA"}`, 0, `"msgid":`},
		{"EasyWeChat", pathScheme, plainJSON, `{"jump_wxa":[],"is_expire":false,"expire_time":0}`, 0, `"openlink":"`},
		{"EasyWeChat", pathTemplate, plainJSON, `{"touser":"oA","template_id":"T","url":"","miniprogram":"","data":{"first":{"value":"x"}}}`, 0, `"msgid":`},
		{"EasyWeChat", pathTemplate, plainJSON, `{"touser":"oA","template_id":"T","data":[]}`, 47003, `data is emtpy`},
		{"EasyWeChat", pathUnlimited, plainJSON, `{"scene":"a=1","page":"","width":0,"line_color":[]}`, 0, "\xff\xd8"},
		{"PowerWeChat", pathURLLink, plainJSON, `{"path":"pages/index/index","query":"a=1","expire_type":1,"expire_interval":5,"expire_time":0,"env_version":"release","cloud_base":null}`, 0, `"url_link":"`},
		{"PowerWeChat", pathScheme, plainJSON, `{"jump_wxa":null,"is_expire":false,"expire_type":0}`, 0, `"openlink":"`},
		{"PowerWeChat", pathTextCheck, plainJSON, `{"content":"你好","nickname":"","openid":"oA","scene":1,"signature":"","title":"","version":2}`, 0, `"trace_id":"`},

		{"silenceper/wechat", pathSubscribe, tightJSON, `{"touser":"oA","template_id":"T","page":"","data":{"thing1":{"value":"A&B","color":""}},"miniprogram_state":"","lang":""}` + "\n", 0, `"msgid":`},
		{"silenceper/wechat", pathBizSubscribe, tightJSON, `{"touser":"oA","template_id":"T","data":{"thing1":{"value":"x"}},"miniprogram":{"appid":"","pagepath":""}}` + "\n", 0, `"msgid":`},
		{"silenceper/wechat", pathScheme, tightJSON, `{"jump_wxa":{"path":"","query":""},"expire_type":0,"expire_time":0,"expire_interval":0}` + "\n", 0, `"openlink":"`},
		{"silenceper/wechat", pathUnlimited, tightJSON, `{"page":"pages/index/index","scene":"a","line_color":{"r":"","g":"","b":""}}` + "\n", 0, "image/jpeg"},
		{"silenceper/wechat", pathMediaCheck, tightJSON, `{"media_url":"https://example.com/a.mp3","media_type":1,"openid":"oA","scene":3,"version":2}` + "\n", 0, `"trace_id":"`},
		{"silenceper/wechat", pathClearQuotaV2 + "?appid=" + testApp + "&appsecret=" + testSecret, "application/x-www-form-urlencoded", "", 0, `"errmsg":"ok"`},

		{"wechatpy", pathSubscribe, "", `{"touser": "oA", "template_id": "T", "data": {"thing1": {"value": "已发货"}}}`, 0, `"msgid":`},
		{"wechatpy", pathCode, "", `{"path": "pages/index/index", "width": 430, "auto_color": false, "line_color": {"r": "0", "g": "0", "b": "0"}, "is_hyaline": false, "env_version": "release"}`, 0, "image/jpeg"},
		{"wechatpy", pathUnlimited, "", `{"scene": "a", "width": 430, "auto_color": false, "line_color": {"r": "0", "g": "0", "b": "0"}, "is_hyaline": false, "check_path": true, "env_version": "release"}`, 0, "image/jpeg"},
		{"wechatpy", pathVisitTrend, "", `{"begin_date": "20250101", "end_date": "20250101"}`, 0, `{"list":[{"ref_date":"20250101",`},

		{"co-wechat-api", pathTemplate, plainJSON, `{"touser":"oA","template_id":"T","url":"https://example.com","color":"#FF0000","data":{"first":{"value":"x","color":"#173177"}}}`, 0, `"msgid":`},
		{"co-wechat-api", pathTemplate, plainJSON, `{"touser":"oA","template_id":"T","data":{"keyword1":{"value":""}}}`, 47003, "keyword1.DATA is emtpy rid: "},
		{"co-wechat-api", pathCustom, plainJSON, `{"touser":"oA","msgtype":"text","text":{"content":"你好"}}`, 0, `"errmsg":"ok"`},

		{"Senparc", pathMediaCheck, plainJSON, `{"media_url":"https://example.com/a.png","media_type":"2","version":2,"openid":"oA","scene":1}`, 0, `"trace_id":"`},
		{"Senparc", pathTextCheck, plainJSON, `{"content":"你好","version":2,"scene":1,"openid":"oA","title":null,"nickname":null,"signature":null}`, 0, `"trace_id":"`},
		{"Senparc", pathUnlimited, plainJSON, `{"scene":"a","page":null,"check_path":true,"env_version":"release","width":430,"line_color":null,"auto_color":false,"is_hyaline":true}`, 0, "image/png"},
		{"Senparc", pathQRCode, plainJSON, `{"path":"pages/index/index","width":430}`, 0, "image/jpeg"},
		{"Senparc", pathShortLink, plainJSON, `{"page_url":"pages/index/index?a=1","page_title":"首页","is_permanent":false}`, 0, `"link":"#小程序://首页/`},

		{"medivhzhan/weapp", pathSubscribe, charsetJSON, `{"touser":"oA","template_id":"T","page":"pages/index/index","miniprogram_state":"trial","data":{"thing1":{"value":"x"}}}`, 0, `"msgid":`},
		{"medivhzhan/weapp", pathImageCheck, uploadOfTest, upload("a.png", tinyPNG), 0, `"errmsg":"ok"`},
		{"medivhzhan/weapp", pathUniform, charsetJSON, `{"touser":"oA","weapp_template_msg":{"template_id":"T","form_id":"F","data":{}},"mp_template_msg":{"appid":"wx1","template_id":"T","data":{}}}`, 45109, "rid: "},

		{"chanxuehong/wechat", pathCustom, charsetJSON, `{"touser":"oA","msgtype":"text","text":{"content":"<a href=\"https://example.com\">x</a>"},"customservice":{"kf_account":"a@b"}}` + "\n", 0, `"errmsg":"ok"`},
		{"chanxuehong/wechat", pathTemplate, charsetJSON, `{"touser":"oA","template_id":"T","url":"https://example.com","miniprogram":{"appid":"wx1","pagepath":"index"},"data":{"first":{"value":"x"}}}` + "\n", 0, `"msgid":`},

		{"fastwego/miniprogram", pathImageCheck, uploadOfTest, upload("a.png", tinyPNG), 0, `"errmsg":"ok"`},
		{"fastwego/miniprogram", pathTextCheck, tightJSON, `{"content":"你好"}`, 0, `"errmsg":"ok"`},
		// WeChat treats a part without a file name as a form field.
		{"an SDK that names no file", pathImageCheck, uploadOfTest, strings.Replace(upload("", tinyPNG), `; filename=""`, "", 1), 41005, "media data missing rid: "},
	}
}

// The sandbox answers requests of public SDKs as WeChat does, over HTTP.
func TestRequestsOfSDKs(t *testing.T) {
	for _, tt := range sdkRequests() {
		t.Run(tt.sdk+tt.path[:min(len(tt.path), 40)], func(t *testing.T) {
			o := startSandbox(t, Options{})
			a := o.sdkSend(t, tt, int64(len(tt.body)))
			if a.status != http.StatusOK || a.ErrCode != tt.code || !strings.Contains(a.kind+a.raw, tt.has) {
				t.Errorf("%s\n%d %s %.200q, want errcode %d and %s", tt.body, a.status, a.kind, a.raw, tt.code, tt.has)
			}
		})
	}
}

// Clients that stream a body send no Content-Length; WeChat's front-end servers reject such a request before it is processed.
func TestRequestsWithoutLength(t *testing.T) {
	o := startSandbox(t, Options{})
	for _, tt := range sdkRequests() {
		if tt.body == "" {
			continue
		}
		if a := o.sdkSend(t, tt, -1); a.status != http.StatusPreconditionFailed || strings.HasPrefix(a.raw, "{") {
			t.Errorf("%s %s: %d %.80q", tt.sdk, tt.path, a.status, a.raw)
		}
	}
	if calls := o.s.Count(Filter{Delivered: true}); calls != 0 {
		t.Errorf("%d of them were accepted", calls)
	}
}

// sdkSend sends a request with the sandbox's token; length -1 sends it chunked.
func (o *startedSandbox) sdkSend(t *testing.T, q sdkRequest, length int64) answer {
	t.Helper()
	path, query, _ := strings.Cut(q.path, "?")
	if query == "" {
		query = "access_token=" + o.token
	}
	var body io.Reader
	if q.body != "" {
		body = io.NopCloser(strings.NewReader(q.body))
	}
	r, err := http.NewRequestWithContext(t.Context(), o.s.rows[path].method, o.url+path+"?"+query, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	if q.contentType != "" {
		r.Header.Set("Content-Type", q.contentType)
	}
	res, err := o.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(t, res)
}
