package tasks

import (
	"encoding/json"
	"strings"
	"testing"
)

// sdkBodies are requests as SDKs write them, with a value for fields that the caller left out.
// Go structs without omitempty send "", 0, false, null and objects of these. PHP sends "" from
// its message templates, and [] for an object without members. Java sends null, or omits the
// field.
var sdkBodies = []struct{ sdk, typ, body string }{
	// structs without omitempty, as in silenceper/wechat and PowerWeChat
	{"go", TypeSubscribe, `{` + recipient + `,"page":"","data":{"thing1":{"value":"好","color":""}},"miniprogram_state":"","lang":""}`},
	{"go", TypeBizSubscribe, `{` + recipient + `,"page":"","miniprogram":{"appid":"","pagepath":""},"data":{"thing1":{"value":"好"}},"miniprogram_state":"","lang":""}`},
	{"go", TypeTemplate, `{` + recipient + `,"url":"","miniprogram":null,"client_msg_id":"","color":"","data":{"first":{"value":"好","color":""}}}`},
	{"go", TypeScheme, `{"jump_wxa":{"path":"","query":"","env_version":""},"is_expire":false,"expire_type":0,"expire_time":0,"expire_interval":0}`},
	{"go", TypeScheme, `{"jump_wxa":null,"expire_type":0,"expire_time":0,"expire_interval":0}`},
	{"go", TypeScheme, `{"jump_wxa":{"path":"pages/index/index","query":"a=1","env_version":""},"expire_type":1,"expire_time":0,"expire_interval":7}`},
	{"go", TypeURLLink, `{"path":"","query":"","expire_type":0,"expire_time":0,"expire_interval":0,"env_version":"","cloud_base":null}`},
	{"go", TypeURLLink, `{"path":"p","query":"","expire_type":1,"expire_time":0,"expire_interval":30,"env_version":"","cloud_base":{"env":"","domain":"","path":"","query":"","resource_appid":""}}`},
	{"go", TypeUnlimitedCode, `{"scene":"a=1","page":"","width":0,"auto_color":false,"line_color":{"r":"","g":"","b":""},"is_hyaline":false,"check_path":false,"env_version":""}`},
	{"go", TypeUnlimitedCode, `{"scene":"a=1","page":"","width":430,"auto_color":false,"line_color":null,"is_hyaline":false,"env_version":""}`},
	{"go", TypeCode, `{"path":"p","width":0,"auto_color":true,"line_color":{"r":0,"g":0,"b":0},"is_hyaline":false,"env_version":""}`},
	{"go", TypeCode, `{"path":"p","width":280,"line_color":{"r":"","g":"255","b":""}}`},
	{"go", TypeQRCode, `{"path":"p","width":0}`},
	{"go", TypeCustom, `{"touser":"o","msgtype":"text","customservice":{},"text":{"content":"好"}}`},
	{"go", TypeCustom, `{"touser":"o","msgtype":"text","text":{"content":"好"},"image":{"media_id":""},"link":null,"miniprogrampage":null,"customservice":{"kf_account":""},"aimsgcontext":{"is_ai_msg":0}}`},
	{"go", TypeUniform, `{"touser":"o","weapp_template_msg":{"template_id":"","page":"","form_id":"","data":null,"emphasis_keyword":""},"mp_template_msg":{"appid":"a","template_id":"T","url":"","miniprogram":{"appid":"","pagepath":""},"data":{"first":{"value":"好","color":""}}}}`},
	{"go", TypeTextCheck, `{"content":"好","version":2,"scene":1,"openid":"o","title":"","nickname":"","signature":""}`},
	{"go", TypeTextCheck, `{"content":"好","version":0,"scene":0,"openid":"","title":"","nickname":"","signature":""}`},

	// EasyWeChat merges messages into templates of empty strings
	{"php", TypeSubscribe, `{` + recipient + `,"page":"","data":{"thing1":{"value":"\u597d"}},"miniprogram_state":"formal"}`},
	{"php", TypeBizSubscribe, `{` + recipient + `,"page":"","miniprogram":"","data":{"thing1":{"value":"\u597d"}}}`},
	{"php", TypeTemplate, `{` + recipient + `,"url":"","data":{"first":{"value":"\u597d"}},"miniprogram":""}`},
	{"php", TypeTemplate, `{` + recipient + `,"url":"https:\/\/example.com","data":[],"miniprogram":[]}`},
	{"php", TypeUniform, `{"touser":"o","mp_template_msg":{"appid":"a","template_id":"T","url":"","miniprogram":[],"data":[]},"weapp_template_msg":[]}`},
	{"php", TypeScheme, `{"jump_wxa":[]}`},
	{"php", TypeScheme, `{"jump_wxa":[],"is_expire":false,"expire_time":0}`},
	{"php", TypeURLLink, `{"path":"p","query":"","cloud_base":[]}`},
	{"php", TypeURLLink, `{"path":"p","cloud_base":{}}`},
	{"php", TypeCode, `{"path":"p","line_color":[]}`},
	{"php", TypeUnlimitedCode, `{"scene":"a","page":null,"line_color":""}`},
	{"php", TypeCustom, `{"touser":"o","msgtype":"text","text":{"content":"\u597d"},"customservice":[]}`},

	// WxJava and co-wechat-api
	{"java", TypeSubscribe, `{` + recipient + `,"page":null,"miniprogram_state":"formal","lang":"zh_CN","data":{"thing1":{"value":"好"}}}`},
	{"java", TypeTemplate, `{` + recipient + `,"url":null,"miniprogram":null,"client_msg_id":null,"data":{"first":{"value":"好","color":null}}}`},
	{"java", TypeUnlimitedCode, `{"scene":"a","page":"p","check_path":true,"env_version":"release","width":430,"auto_color":false,"is_hyaline":false,"line_color":{"r":"0","g":"0","b":"0"}}`},
	{"java", TypeTextCheck, `{"version":"2","openid":"o","scene":1,"content":"好","nickname":null,"title":null,"signature":null}`},
	{"node", TypeTemplate, `{` + recipient + `,"url":"","topcolor":"","data":{"first":{"value":"好"}}}`},
}

// TestPrepareAcceptsWhatSDKsSend: a zero value counts as absent, and is sent unchanged.
func TestPrepareAcceptsWhatSDKsSend(t *testing.T) {
	for _, tt := range sdkBodies {
		e := Envelope{Type: tt.typ, App: testApp, ID: "order-42", Body: json.RawMessage(tt.body)}
		if err := e.Prepare(testNow); err != nil {
			t.Errorf("%s: %s\n%s: %v", tt.sdk, tt.typ, tt.body, err)
			continue
		}
		var was, is map[string]any
		if json.Unmarshal([]byte(tt.body), &was) != nil || json.Unmarshal(e.Body, &is) != nil {
			t.Fatalf("%s\n%s", tt.body, e.Body)
		}
		want := strings.NewReplacer(`\u597d`, "好", `\/`, "/").Replace(tt.body)
		if tt.typ == TypeTemplate { // Prepare adds client_msg_id
			delete(was, clientMsgIDField)
			delete(is, clientMsgIDField)
			a, _ := json.Marshal(was)
			b, _ := json.Marshal(is)
			if string(a) != string(b) {
				t.Errorf("%s was rewritten:\n%s\n%s", tt.sdk, tt.body, e.Body)
			}
		} else if string(e.Body) != want {
			t.Errorf("%s was rewritten:\n%s\n%s", tt.sdk, tt.body, e.Body)
		}
	}
}

// TestZeroValuesThatAreFaults: a zero value is a fault if the member is required, or if zero is
// one of its meanings.
func TestZeroValuesThatAreFaults(t *testing.T) {
	for _, tt := range []struct{ typ, body, path, says string }{
		{TypeSubscribe, `{` + recipient + `,"data":[]}`, "body.data", "must be an object, not an array"},
		{TypeTemplate, `{` + recipient + `,"data":null}`, "body.data", "required"},
		{TypeTemplate, `{` + recipient + `,"data":""}`, "body.data", "must be an object, not a string"},
		{TypeTemplate, `{` + recipient + `,"data":[1]}`, "body.data", "must be an object, not an array"},
		{TypeTemplate, `{` + recipient + `,"data":{},"miniprogram":[1]}`, "body.miniprogram", "must be an object, not an array"},
		{TypeScheme, `{"is_expire":true,"expire_type":0,"expire_time":0}`, "body.expire_time", "required when is_expire is true"},
		{TypeScheme, `{"expire_type":1,"expire_time":0,"expire_interval":0}`, "body.expire_interval", "from 1 to 365"},
		{TypeUnlimitedCode, `{"scene":"","line_color":{"r":"","g":"","b":""}}`, "body.scene", "empty"},
		{TypeTextCheck, `{"content":"x","version":2,"scene":0,"openid":"o"}`, "body.scene", "from 1 to 4"},
		{TypeTextCheck, `{"content":"x","version":0,"scene":1,"openid":"o"}`, "body.version", "required with scene and openid"},
		{TypeCustom, `{"touser":"o","msgtype":"","text":{"content":""}}`, "body.msgtype", "empty"},
		{TypeUniform, `{"touser":"o","weapp_template_msg":[],"mp_template_msg":{"appid":"","data":[]}}`, "body.mp_template_msg", "required"},
	} {
		e := Envelope{Type: tt.typ, App: testApp, Body: json.RawMessage(tt.body)}
		wantFault(t, e.Prepare(testNow), tt.path, tt.says)
	}
}
