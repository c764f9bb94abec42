package tasks

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// testNow is before the expire_time of WeChat's own examples.
var testNow = time.Date(2020, 11, 1, 8, 0, 0, 0, time.UTC)

// valid parts of bodies, for tests of other parts
const (
	recipient = `"touser":"oABCDEFGH-1234567890","template_id":"TEMPLATE_ID"`
	author    = `"version":2,"scene":1,"openid":"o"`
	gif       = "R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="
)

// goodBodies are the requests on WeChat's pages, and valid forms from older versions of the
// pages.
var goodBodies = []struct{ typ, body string }{
	{TypeSubscribe, `{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"pages/index/index","miniprogram_state":"formal","lang":"zh_CN","data":{"thing1":{"value":"订单已发货"},"time2":{"value":"2025-01-01 12:00"},"character_string3":{"value":"SF1234567890"}}}`},
	{TypeSubscribe, `{"touser":"OPENID","template_id":"订阅模板ID","page":"pages/index/index","data":{"character_string1":{"value":"202103040830158485629163994677"},"name2":{"value":"中通快递"},"character_string3":{"value":"ZT2015215125352511"},"thing6":{"value":"雪花秀滋盈生人生焕颜精华露"},"thing8":{"value":"杭州市xxxxxxxxx号"}},"miniprogram_state":"formal"}`},
	{TypeSubscribe, `{` + recipient + `,"page":"index?foo=bar","data":{"number01":{"value":"339208499"},"date01":{"value":"2015年01月05日"},"site01":{"value":"TIT创意园"},"site02":{"value":"广州市新港中路397号"}}}`},
	{TypeSubscribe, `{` + recipient + `,"page":null,"lang":null,"data":{"number1":{"value":3}},"a_field_of_tomorrow":[1,{"x":null}]}`},
	{TypeBizSubscribe, `{` + recipient + `,"page":"mp.weixin.qq.com","miniprogram":{"appid":"wx0123456789abcdef","pagepath":"index?foo=bar"},"data":{"name1":{"value":"广州腾讯科技有限公司"},"thing8":{"value":"广州腾讯科技有限公司"},"time7":{"value":"2019年8月8日"}}}`},
	{TypeTemplate, `{` + recipient + `,"url":"https://www.baidu.com","miniprogram":{"appid":"wx0123456789abcdef","pagepath":"pages/order/order?id=aaa"},"data":{"first":{"value":"您购买的订单已经发货啦,正快马加鞭向您飞奔而去。","color":"#173177"},"keyword1":{"value":"D201803111235825","color":"#173177"},"keyword2":{"value":"2018-03-11 19:56","color":"#173177"},"keyword5":{"value":"王先生 135xxxxxxxx 广东省深圳市龙华区建设东路","color":"#173177"},"remark":{"value":""}}}`},
	{TypeTemplate, `{` + recipient + `,"client_msg_id":"MSG_000001","miniprogram":{"appid":"","pagepath":""},"data":{}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"text","text":{"content":"Hello"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"image","image":{"media_id":"MEDIA_ID"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"miniprogrampage","miniprogrampage":{"title":"标题","pagepath":"pages/index/index","thumb_media_id":"MEDIA_ID"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"link","link":{"title":"Happy Day","description":"Is Really A Happy Day","url":"URL","thumb_url":"THUMB_URL"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"voice","voice":{"media_id":"MEDIA_ID"},"customservice":{"kf_account":"test1@kftest"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"video","video":{"media_id":"MEDIA_ID","thumb_media_id":"MEDIA_ID","title":"TITLE","description":"DESCRIPTION"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"music","music":{"title":"MUSIC_TITLE","musicurl":"MUSIC_URL","hqmusicurl":"HQ_MUSIC_URL","thumb_media_id":"THUMB_MEDIA_ID"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"news","news":{"articles":[{"title":"Happy Day","url":"URL","picurl":"PIC_URL"}]}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"mpnews","mpnews":{"media_id":"MEDIA_ID"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"mpnewsarticle","mpnewsarticle":{"article_id":"ARTICLE_ID"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"msgmenu","msgmenu":{"head_content":"您对本次服务是否满意呢?","list":[{"id":"101","content":"满意"},{"id":"102","content":"不满意"}],"tail_content":"欢迎再次光临"}}`},
	{TypeCustom, `{"touser":"OPENID","msgtype":"wxcard","wxcard":{"card_id":"123dsdajkasd231jhksad"},"aimsgcontext":{"is_ai_msg":1}}`},
	{TypeUniform, `{"touser":"OPENID","mp_template_msg":{"appid":"wx0123456789abcdef","template_id":"TEMPLATE_ID","url":"https://www.baidu.com","miniprogram":{"appid":"wx0123456789abcdef","pagepath":"pages/order/order?id=aaa"},"data":{"first":{"value":"您购买的订单已经发货啦","color":"#173177"}}}}`},
	{TypeUniform, `{"touser":"OPENID","weapp_template_msg":{"template_id":"T","page":"p","form_id":"F","data":{"keyword1":{"value":"339208499"}},"emphasis_keyword":"keyword1.DATA"}}`},
	{TypeScheme, `{"jump_wxa":{"path":"/pages/publishHomework/publishHomework","query":""},"is_expire":true,"expire_time":1606737600}`},
	{TypeScheme, `{"jump_wxa":{"path":"pages/index/index","query":"id=123","env_version":"release"},"is_expire":true,"expire_type":0,"expire_time":1606737600}`},
	{TypeScheme, `{}`},
	{TypeScheme, `{"expire_type":0}`},
	{TypeScheme, `{"is_expire":false,"expire_type":1,"expire_time":1}`},
	{TypeScheme, `{"expire_type":1,"expire_interval":365}`},
	{TypeScheme, `{"jump_wxa":{"query":"a=%E4%BD%A0&b=!#$&'()*+,/:;=?@-._~"},"expire_time":1635750000}`},
	{TypeURLLink, `{"path":"pages/index/index","query":"id=123","is_expire":true,"expire_type":0,"expire_time":1606737600,"env_version":"release"}`},
	{TypeURLLink, `{"cloud_base":{"env":"xxx","domain":"xxx.xx","path":"/jump-wxa.html","query":"a=1&b=2"},"expire_type":1,"expire_interval":1}`},
	{TypeShortLink, `{"page_url":"/pages/index/index?a=1&b=页","page_title":"` + strings.Repeat("题", 30) + `"}`},
	{TypeShortLink, `{"page_url":"p","page_title":"","is_permanent":true}`},
	{TypeNFCScheme, `{"jump_wxa":{"path":"pages/index/index","query":"a=1"},"model_id":"nBdwBWQ1K9cvwZs5fmUz_g","sn":"a1"}`},
	{TypeNFCScheme, `{"jump_wxa":[],"model_id":"m","sn":""}`},
	{TypeMediaCheck, `{"openid":"OPENID","scene":1,"version":2,"media_url":"https://developers.weixin.qq.com/miniprogram/assets/images/head_global_z_@all.p","media_type":2}`},
	{TypeMediaCheck, `{"media_url":"http://example.com/a.mp3","media_type":"1","version":"2","openid":"oA","scene":"4"}`},
	{TypeUnlimitedCode, `{"scene":"id=123","page":"pages/index/index","check_path":true,"env_version":"release","width":430,"auto_color":false,"line_color":{"r":0,"g":0,"b":0},"is_hyaline":false}`},
	{TypeUnlimitedCode, `{"page":"pages/index/index","scene":"a=1","check_path":true,"env_version":"release"}`},
	{TypeUnlimitedCode, `{"scene":"!#$&'()*+,/:;=?@-._~aZ0123456789","line_color":{"r":"255","g":"0","b":"7"},"width":280}`},
	{TypeCode, `{"path":"pages/index/index?id=123","width":430}`},
	{TypeCode, `{"path":"` + strings.Repeat("页", 1024) + `","width":1280}`},
	{TypeQRCode, `{"path":"pages/index/index?id=123","width":430}`},
	{TypeQRCode, `{"path":"` + strings.Repeat("p", 128) + `"}`},
	{TypeTextCheck, `{"content":"待检测文本","version":2,"scene":1,"openid":"OPENID"}`},
	{TypeTextCheck, `{"content":"` + strings.Repeat("字", 2500) + `","version":"2","scene":"4","openid":"OPENID","title":"t","nickname":"n","signature":"s"}`},
	{TypeTextCheck, `{"content":"hello world!"}`},
	{TypeTextCheck, `{"version":1,"content":"` + strings.Repeat("x", 9000) + `"}`},
	{TypeImageCheck, `{"media":"` + gif + `"}`},
	{TypeImageCheck, `{"media":"` + strings.ReplaceAll(gif, "/", `\/`) + `"}`},
	{TypeImageCheck, `{"media":"` + base64.StdEncoding.EncodeToString(append([]byte("\x89PNG\r\n\x1a\n"), make([]byte, 1<<20-8)...)) + `"}`},
	{TypeImageCheck, `{"media":"` + base64.StdEncoding.EncodeToString([]byte("\xff\xd8\xff\xe0rest")) + `"}`},
	{TypeImageCheck, `{"media_url":"https://example.com/a.png?x=1"}`},
}

func TestPrepareAccepts(t *testing.T) {
	for i, tt := range goodBodies {
		t.Run(fmt.Sprintf("%s/%d", tt.typ, i), func(t *testing.T) {
			e := Envelope{Type: tt.typ, App: testApp, Body: json.RawMessage(tt.body)}
			if err := e.Prepare(testNow); err != nil {
				t.Fatal(err)
			}
			if e.ID == "" || e.Priority != Urgent {
				t.Errorf("not completed: id %q, priority %q", e.ID, e.Priority)
			}
			payload, err := e.Encode()
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodePayload(payload)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Prepare(testNow); err != nil {
				t.Fatalf("prepared twice: %v", err)
			}
			if twice, _ := again.Encode(); string(twice) != string(payload) {
				t.Errorf("prepared twice:\n%.500s\nonce:\n%.500s", twice, payload)
			}
		})
	}
}

// badBodies each have one fault, at path, whose problem contains says.
var badBodies = []struct{ typ, body, path, says string }{
	// the receiver and the template
	{TypeSubscribe, `{"template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "required"},
	{TypeSubscribe, `{"touser":"","template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "empty"},
	{TypeSubscribe, `{"touser":null,"template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "required"},
	{TypeSubscribe, `{"touser":12345678,"template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "must be a string, not a number: put it in double quotes"},
	{TypeSubscribe, `{"touser":"oSecretPerson ","template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "a space at character 14"},
	{TypeSubscribe, `{"touser":"oSecretPerson\u0000","template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "a control character at character 14"},
	{TypeSubscribe, `{"touser":"` + strings.Repeat("o", 129) + `","template_id":"T","data":{"thing1":{"value":"x"}}}`, "body.touser", "129 characters; at most 128"},
	{TypeSubscribe, `{"touser":"o","data":{"thing1":{"value":"x"}}}`, "body.template_id", "required"},
	{TypeSubscribe, `{"touser":"o","template_id":"two words","data":{"thing1":{"value":"x"}}}`, "body.template_id", "a space at character 4"},
	{TypeTemplate, `{"touser":"o","template_id":{},"data":{}}`, "body.template_id", "must be a string, not an object"},
	{TypeCustom, `{"touser":[],"msgtype":"text","text":{"content":"x"}}`, "body.touser", "must be a string, not an array"},
	{TypeTextCheck, `{"content":"secret text","version":2,"scene":1}`, "body.openid", "required"},

	// vocabularies
	{TypeSubscribe, `{` + recipient + `,"miniprogram_state":"release","data":{"thing1":{"value":"x"}}}`, "body.miniprogram_state", `"release" is none of developer, trial, formal`},
	{TypeSubscribe, `{` + recipient + `,"lang":"zh-CN","data":{"thing1":{"value":"x"}}}`, "body.lang", `"zh-CN" is none of zh_CN`},
	{TypeBizSubscribe, `{` + recipient + `,"miniprogram_state":"` + strings.Repeat("x", 50) + `","data":{"thing1":{"value":"x"}}}`, "body.miniprogram_state", `"` + strings.Repeat("x", 32) + `…" is none of`},
	{TypeScheme, `{"jump_wxa":{"env_version":"formal"}}`, "body.jump_wxa.env_version", `"formal" is none of release, trial, develop`},
	{TypeURLLink, `{"env_version":1}`, "body.env_version", "must be a string, not a number"},
	{TypeUnlimitedCode, `{"scene":"a","env_version":"release_error"}`, "body.env_version", `"release_error" is none of`},
	{TypeCode, `{"path":"p","env_version":"dev"}`, "body.env_version", `"dev" is none of`},
	{TypeCustom, `{"touser":"o","msgtype":"txt","txt":{}}`, "body.msgtype", `"txt" is none of text, image`},

	// the data of subscribe messages
	{TypeSubscribe, `{` + recipient + `}`, "body.data", "required"},
	{TypeSubscribe, `{` + recipient + `,"data":[]}`, "body.data", "must be an object, not an array"},
	{TypeSubscribe, `{` + recipient + `,"data":{}}`, "body.data", "empty"},
	{TypeSubscribe, `{` + recipient + `,"data":{"thing1":"secret text"}}`, "body.data.thing1", `must be an object, not a string: write {"value":"…"}`},
	{TypeSubscribe, `{` + recipient + `,"data":{"thing1":{"val":"x"}}}`, "body.data.thing1.value", "required"},
	{TypeSubscribe, `{` + recipient + `,"data":{"amount1":{"value":5}}}`, "body.data.amount1.value", "must be a string, not a number: put it in double quotes"},
	{TypeSubscribe, `{` + recipient + `,"data":{"thing1":{"value":""}}}`, "body.data.thing1.value", "empty, which WeChat refuses (47003)"},
	{TypeSubscribe, `{` + recipient + `,"data":{"const1":{"value":"  "}}}`, "body.data.const1.value", "empty"},
	{TypeSubscribe, `{` + recipient + `,"data":{"thing1.DATA":{"value":"x"}}}`, `body.data["thing1.DATA"]`, `".DATA"`},
	{TypeBizSubscribe, `{` + recipient + `,"data":{"thing1":{"value":"一二三四五六七八九十一二三四五六七八九十一"}}}`, "body.data.thing1.value", "21 characters; a thing keyword takes at most 20 characters"},
	{TypeBizSubscribe, `{` + recipient + `,"miniprogram":{"appid":7},"data":{"thing1":{"value":"x"}}}`, "body.miniprogram.appid", "must be a string"},

	// template messages
	{TypeTemplate, `{` + recipient + `}`, "body.data", "required"},
	{TypeTemplate, `{` + recipient + `,"data":{"first":{"value":true}}}`, "body.data.first.value", "must be a string, not true or false"},
	{TypeTemplate, `{` + recipient + `,"data":{},"client_msg_id":7}`, "body.client_msg_id", "must be a string"},
	{TypeTemplate, `{` + recipient + `,"data":{},"url":7}`, "body.url", "must be a string"},
	{TypeTemplate, `{` + recipient + `,"data":{},"miniprogram":"wx"}`, "body.miniprogram", "must be an object, not a string"},
	{TypeUniform, `{"touser":"o"}`, "body.mp_template_msg", "required"},
	{TypeUniform, `{"touser":"o","mp_template_msg":{"template_id":"T","data":{}}}`, "body.mp_template_msg.appid", "required"},
	{TypeUniform, `{"touser":"o","mp_template_msg":{"appid":"a","template_id":"T","data":{"first":{}}}}`, "body.mp_template_msg.data.first.value", "required"},

	// customer-service messages
	{TypeCustom, `{"touser":"o"}`, "body.msgtype", "required"},
	{TypeCustom, `{"touser":"o","msgtype":""}`, "body.msgtype", "empty"},
	{TypeCustom, `{"touser":"o","msgtype":"text"}`, "body.text", "required"},
	{TypeCustom, `{"touser":"o","msgtype":"text","text":"secret text"}`, "body.text", "must be an object"},
	{TypeCustom, `{"touser":"o","msgtype":"text","text":{"content":""}}`, "body.text.content", "empty"},
	{TypeCustom, `{"touser":"o","msgtype":"image","image":{}}`, "body.image.media_id", "required"},
	{TypeCustom, `{"touser":"o","msgtype":"news","news":{"articles":[]}}`, "body.news.articles", "empty"},
	{TypeCustom, `{"touser":"o","msgtype":"news","news":{"articles":[{},{}]}}`, "body.news.articles", "2 elements; WeChat takes 1"},
	{TypeCustom, `{"touser":"o","msgtype":"msgmenu","msgmenu":{"list":[{},"secret"]}}`, "body.msgmenu.list[1]", "must be an object, not a string"},
	{TypeCustom, `{"touser":"o","msgtype":"miniprogrampage","miniprogrampage":{"pagepath":"p"}}`, "body.miniprogrampage.thumb_media_id", "required"},
	{TypeCustom, `{"touser":"o","msgtype":"text","text":{"content":"x"},"customservice":{"nick":"x"}}`, "body.customservice.kf_account", "required"},
	{TypeCustom, `{"touser":"o","msgtype":"text","text":{"content":"x"},"aimsgcontext":{"is_ai_msg":2}}`, "body.aimsgcontext.is_ai_msg", "from 0 to 1"},

	// links
	{TypeScheme, `{"jump_wxa":"pages/index"}`, "body.jump_wxa", "must be an object"},
	{TypeScheme, `{"jump_wxa":{"path":"pages/index?id=secret"}}`, "body.jump_wxa.path", `holds a "?": put parameters into "query"`},
	{TypeScheme, `{"jump_wxa":{"path":"` + strings.Repeat("p", 1025) + `"}}`, "body.jump_wxa.path", "1025 characters; at most 1024"},
	{TypeScheme, `{"jump_wxa":{"query":"` + strings.Repeat("q", 1025) + `"}}`, "body.jump_wxa.query", "1025 characters; at most 1024"},
	{TypeScheme, `{"jump_wxa":{"query":"id=秘密"}}`, "body.jump_wxa.query", "a Chinese character at character 4; only letters, digits and !#$&"},
	{TypeScheme, `{"jump_wxa":{"query":"id=a b"}}`, "body.jump_wxa.query", "a space at character 5"},
	{TypeScheme, `{"jump_wxa":{"query":"id={1}"}}`, "body.jump_wxa.query", `"{" at character 4`},
	{TypeURLLink, `{"query":"a|b"}`, "body.query", `"|" at character 2`},
	{TypeURLLink, `{"path":"pages/index?x"}`, "body.path", `holds a "?"`},
	{TypeURLLink, `{"cloud_base":{"path":"p"}}`, "body.cloud_base.env", "required"},
	{TypeURLLink, `{"cloud_base":{"env":"e","query":"a b"}}`, "body.cloud_base.query", "a space"},
	{TypeScheme, `{"is_expire":"yes!"}`, "body.is_expire", "must be true or false, not a string: write it without quotes"},
	{TypeScheme, `{"is_expire":true}`, "body.expire_time", "required when is_expire is true"},
	{TypeScheme, `{"is_expire":true,"expire_type":0}`, "body.expire_time", "required when is_expire is true"},
	{TypeScheme, `{"expire_type":2}`, "body.expire_type", "from 0 to 1"},
	{TypeScheme, `{"expire_type":1}`, "body.expire_interval", "required with expire_type 1"},
	{TypeScheme, `{"expire_type":1,"expire_interval":0}`, "body.expire_interval", "from 1 to 365: days"},
	{TypeURLLink, `{"expire_type":1,"expire_interval":366}`, "body.expire_interval", "from 1 to 365: days"},
	{TypeURLLink, `{"expire_type":1,"expire_interval":1.5}`, "body.expire_interval", "a whole number"},
	{TypeScheme, `{"expire_time":"1606737600"}`, "body.expire_time", "must be a number, not a string: write it without quotes"},
	{TypeScheme, `{"expire_time":1604217600}`, "body.expire_time", "less than a minute after the time of sending"},
	{TypeScheme, `{"expire_time":1604217660}`, "body.expire_time", "less than a minute after the time of sending"},
	{TypeScheme, `{"expire_time":1604210400}`, "body.expire_time", "2h0m0s before the time of sending"},
	{TypeScheme, `{"expire_time":1636000000}`, "body.expire_time", "1 year at most"},
	{TypeScheme, `{"expire_time":1606737600000}`, "body.expire_time", "milliseconds"},
	{TypeScheme, `{"expire_time":-1}`, "body.expire_time", "out of range"},
	{TypeShortLink, `{}`, "body.page_url", "required"},
	{TypeShortLink, `{"page_url":""}`, "body.page_url", "empty"},
	{TypeShortLink, `{"page_url":"` + strings.Repeat("页", 1025) + `"}`, "body.page_url", "1025 characters; at most 1024"},
	{TypeShortLink, `{"page_url":"p","page_title":1}`, "body.page_title", "must be a string"},
	{TypeShortLink, `{"page_url":"p","is_permanent":"yes!"}`, "body.is_permanent", "must be true or false"},
	{TypeNFCScheme, `{"jump_wxa":{}}`, "body.model_id", "required"},
	{TypeNFCScheme, `{"model_id":""}`, "body.model_id", "empty"},
	{TypeNFCScheme, `{"model_id":"m","sn":5}`, "body.sn", "must be a string"},
	{TypeNFCScheme, `{"model_id":"m","jump_wxa":{"query":"a b"}}`, "body.jump_wxa.query", "a space"},

	// codes
	{TypeUnlimitedCode, `{"page":"pages/index/index"}`, "body.scene", "required"},
	{TypeUnlimitedCode, `{"scene":""}`, "body.scene", "empty"},
	{TypeUnlimitedCode, `{"scene":1234567}`, "body.scene", "must be a string, not a number"},
	{TypeUnlimitedCode, `{"scene":"` + strings.Repeat("s", 33) + `"}`, "body.scene", "33 characters; at most 32"},
	{TypeUnlimitedCode, `{"scene":"a%20b"}`, "body.scene", `"%" at character 2; only letters, digits and !#$`},
	{TypeUnlimitedCode, `{"scene":"桌号"}`, "body.scene", "a Chinese character at character 1"},
	{TypeUnlimitedCode, `{"scene":"a","page":"/pages/secret/index"}`, "body.page", `starts with "/"`},
	{TypeUnlimitedCode, `{"scene":"a","page":"pages/secret?id=1"}`, "body.page", `put parameters into "scene"`},
	{TypeUnlimitedCode, `{"scene":"a","check_path":"no"}`, "body.check_path", "must be true or false"},
	{TypeUnlimitedCode, `{"scene":"a","width":279}`, "body.width", "from 280 to 1280: pixels"},
	{TypeCode, `{"path":"p","width":1281}`, "body.width", "from 280 to 1280"},
	{TypeQRCode, `{"path":"p","width":"430"}`, "body.width", "must be a number, not a string"},
	{TypeCode, `{"path":"p","line_color":{"r":256}}`, "body.line_color.r", "from 0 to 255"},
	{TypeCode, `{"path":"p","line_color":{"g":"xxx"}}`, "body.line_color.g", "from 0 to 255"},
	{TypeCode, `{"path":"p","auto_color":1}`, "body.auto_color", "must be true or false"},
	{TypeCode, `{"path":"p","is_hyaline":"x"}`, "body.is_hyaline", "must be true or false"},
	{TypeCode, `{"width":430}`, "body.path", "required"},
	{TypeCode, `{"path":""}`, "body.path", "empty"},
	{TypeCode, `{"path":"` + strings.Repeat("页", 1025) + `"}`, "body.path", "1025 characters; at most 1024"},
	{TypeQRCode, `{"path":"` + strings.Repeat("页", 43) + `"}`, "body.path", "129 bytes; at most 128"},
	{TypeCode, `{"path":"p?a=1&scancode_time=1"}`, "body.path", "85096"},
	{TypeUnlimitedCode, `{"scene":"a","scancode_time":1}`, "body.scancode_time", "85096"},
	{TypeQRCode, `{"path":"p","scancode_time":null}`, "body.scancode_time", "85096"},

	// content checks
	{TypeTextCheck, `{}`, "body.content", "required"},
	{TypeTextCheck, `{"content":""}`, "body.content", "empty"},
	{TypeTextCheck, `{"content":"secret text","scene":1,"openid":"o"}`, "body.version", "required with scene and openid: 2"},
	{TypeTextCheck, `{"content":"secret text","version":3}`, "body.version", "from 1 to 2"},
	{TypeTextCheck, `{"content":"secret text","version":true}`, "body.version", "must be a number"},
	{TypeTextCheck, `{"content":"secret text","version":2,"openid":"o"}`, "body.scene", "required"},
	{TypeTextCheck, `{"content":"secret text","version":2,"openid":"o","scene":5}`, "body.scene", "from 1 to 4"},
	{TypeTextCheck, `{"content":"secret text","version":2,"openid":"o","scene":"0"}`, "body.scene", "from 1 to 4"},
	{TypeTextCheck, `{"content":"` + strings.Repeat("字", 2501) + `","version":2,"scene":1,"openid":"o"}`, "body.content", "2501 characters; at most 2500"},
	{TypeTextCheck, `{"content":"secret text","version":2,"scene":1,"openid":"o","nickname":1}`, "body.nickname", "must be a string"},
	{TypeImageCheck, `{}`, "body.media", "required"},
	{TypeImageCheck, `{"media":[1,2]}`, "body.media", "must be a string, not an array: the image in base64"},
	{TypeImageCheck, `{"media_url":7}`, "body.media_url", "must be a string"},
	{TypeImageCheck, `{"media":""}`, "body.media", "empty"},
	{TypeImageCheck, `{"media":"not base64!"}`, "body.media", "not base64"},
	{TypeImageCheck, `{"media":"data:image/gif;base64,` + gif + `"}`, "body.media", "a data: URL"},
	{TypeImageCheck, `{"media":"QkFTRTY0"}`, "body.media", "neither PNG, JPEG nor GIF"},
	{TypeImageCheck, `{"media":"` + base64.StdEncoding.EncodeToString(append([]byte("GIF89a"), make([]byte, 1<<20-5)...)) + `"}`, "body.media", "1048577 bytes; at most 1048576 (1 MB)"},
	{TypeImageCheck, `{"media":"` + gif + `","media_url":"https://example.com/secret.png"}`, "body.media_url", "given together with media"},
	{TypeImageCheck, `{"media_url":"http://example.com/secret.png"}`, "body.media_url", "not an https address"},
	{TypeImageCheck, `{"media_url":"example.com/secret.png"}`, "body.media_url", "not an address"},
	{TypeImageCheck, `{"media_url":"https://user:secret@example.com/a.png"}`, "body.media_url", "user name"},
	{TypeImageCheck, `{"media_url":"https://example.com/` + strings.Repeat("a", 2048) + `"}`, "body.media_url", "at most 2048"},
	{TypeMediaCheck, `{"media_type":1,` + author + `}`, "body.media_url", "required"},
	{TypeMediaCheck, `{"media_url":"secret.png","media_type":1,` + author + `}`, "body.media_url", "not an address"},
	{TypeMediaCheck, `{"media_url":"ftp://example.com/secret","media_type":1,` + author + `}`, "body.media_url", "not an address"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a",` + author + `}`, "body.media_type", "required: 1 sound, 2 image"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":3,` + author + `}`, "body.media_type", "from 1 to 2"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":1,"scene":1,"openid":"o"}`, "body.version", "required: 2"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":1,"scene":1,"openid":"o","version":1}`, "body.version", "must be 2"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":1,"version":2,"openid":"o"}`, "body.scene", "required"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":1,"version":2,"openid":"o","scene":5}`, "body.scene", "from 1 to 4"},
	{TypeMediaCheck, `{"media_url":"https://example.com/a","media_type":1,"version":2,"scene":1}`, "body.openid", "required"},
	{TypeImageCheck, `{"media_blob":"` + strings.Repeat("a", 64) + `"}`, "body.media_blob", "set by wxcourier only"},

	// the body as such
	{TypeScheme, ``, "body", "required"},
	{TypeScheme, `null`, "body", "required"},
	{TypeScheme, `[]`, "body", "must be an object, not an array"},
	{TypeScheme, `"{\"path\":\"secret\"}"`, "body", "must be an object, not a string: send the object itself"},
	{TypeScheme, `{"jump_wxa":{"path":"a}}`, "body.jump_wxa.path", "it ends inside a string"},
	{TypeScheme, `{"a":1} {}`, "body", "data after the end"},
	{TypeScheme, `{"a":1,"a":2}`, "body.a", "given twice"},
	{TypeScheme, `{"a":"` + strings.Repeat("x", 64<<10) + `"}`, "body", "65544 bytes; at most 65536"},
	{TypeScheme, `{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "body.a" + strings.Repeat("[0]", 31), "nested deeper than 32"},
	{TypeImageCheck, `{"media_url":"https://example.com/","x":[` + strings.Repeat("1,", 50_000) + `1]}`, "body.x", "more than 40000 values"},
}

func TestPrepareRefuses(t *testing.T) {
	for i, tt := range badBodies {
		t.Run(fmt.Sprintf("%d/%s/%s", i, tt.typ, tt.path), func(t *testing.T) {
			e := Envelope{Type: tt.typ, App: testApp, ID: "order-42", Body: json.RawMessage(tt.body)}
			before := e
			wantFault(t, e.Prepare(testNow), tt.path, tt.says)
			if e.Priority != before.Priority || string(e.Body) != string(before.Body) {
				t.Error("a refused envelope was changed")
			}
			wantNoValues(t, []byte(tt.body), e.Prepare(testNow))
		})
	}
}

// wantFault fails the test unless err has exactly one fault, at path, whose problem contains
// says.
func wantFault(t *testing.T, err error, path, says string) {
	t.Helper()
	var invalid *ValidationError
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v (%T), want a *ValidationError at %s", err, err, path)
	}
	if len(invalid.Fields) != 1 || invalid.Fields[0].Path != path || !strings.Contains(invalid.Fields[0].Problem, says) {
		t.Errorf("got  %.600s\nwant %s: … %s", err, path, says)
	}
}

// wantNoValues fails the test if the error contains a string of the body, except for members
// with a fixed set of words.
func wantNoValues(t *testing.T, body []byte, err error) {
	t.Helper()
	var root any
	if json.Unmarshal(body, &root) != nil {
		return
	}
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, member := range v {
				walk(k, member)
			}
		case []any:
			for _, element := range v {
				walk(key, element)
			}
		case string:
			switch key {
			case "miniprogram_state", "lang", "env_version", "msgtype":
			default:
				if len(v) > 3 && strings.Contains(err.Error(), v) {
					t.Errorf("the error contains the value of %s: %v", key, err)
				}
			}
		}
	}
	walk("", root)
}

func TestPrepareNamesAllFaults(t *testing.T) {
	e := Envelope{
		Type: TypeSubscribe, App: "wx1", ID: "a b", Batch: "ö", Priority: "high",
		ProcessAt: testNow.Add(time.Hour), NotAfter: testNow,
		Body: json.RawMessage(`{"template_id":"","lang":"de","data":{"thing1":{"value":""},"date2":7}}`),
	}
	var invalid *ValidationError
	if !errors.As(e.Prepare(testNow), &invalid) {
		t.Fatal("accepted")
	}
	var paths []string
	for _, f := range invalid.Fields {
		paths = append(paths, f.Path)
	}
	want := "app id batch priority not_after body.touser body.template_id body.lang body.data.thing1.value body.data.date2"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := strings.Count(invalid.Error(), "; "); got < len(paths)-1 {
		t.Errorf("Error() does not join all faults: %s", invalid)
	}
}

func TestPrepareLimitsTheFaults(t *testing.T) {
	keywords := make([]string, 500)
	for i := range keywords {
		keywords[i] = fmt.Sprintf(`"thing%d":7`, i)
	}
	e := Envelope{Type: TypeSubscribe, App: "x", Body: json.RawMessage(`{` + recipient + `,"data":{` + strings.Join(keywords, ",") + `}}`)}
	var invalid *ValidationError
	if !errors.As(e.Prepare(testNow), &invalid) || len(invalid.Fields) != maxFaults+1 {
		t.Fatalf("%v", invalid)
	}
	if last := invalid.Fields[maxFaults].String(); last != "more faults follow: fix these first" {
		t.Error(last)
	}
}

// TestPrepareChecksTheBodyOfABadEnvelope: faults of the envelope and of the body are reported
// together.
func TestPrepareChecksTheBodyOfABadEnvelope(t *testing.T) {
	for typ, path := range map[string]string{TypeImageCheck: "body.media", TypeUniform: "body.mp_template_msg"} {
		e := Envelope{Type: typ, Body: json.RawMessage(`{"touser":"o"}`)}
		err := e.Prepare(testNow)
		if err == nil || !strings.Contains(err.Error(), "app: required") || !strings.Contains(err.Error(), path+": required") {
			t.Errorf("%s: %v", typ, err)
		}
	}
}
