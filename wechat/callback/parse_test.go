package callback_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/wechat/callback"
)

const head = `<ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[oA]]></FromUserName><CreateTime>1714112445</CreateTime><MsgType><![CDATA[event]]></MsgType>`

func event(name string) callback.Push {
	return callback.Push{To: "gh_1", From: "oA", Created: time.Unix(1_714_112_445, 0).UTC(), Type: "event", Event: name}
}

// TestParse has the shapes that WeChat's pages show, and those that were seen.
func TestParse(t *testing.T) {
	t.Parallel()
	receipt := func(id, status string, d callback.Delivery) callback.Push {
		p := event(callback.EventTemplateSent)
		p.MsgID, p.Receipts = id, []callback.Receipt{{MsgID: id, Delivery: d, Status: status}}
		return p
	}
	sent := func(all ...callback.Receipt) callback.Push {
		p := event(callback.EventSubscribeSent)
		p.MsgID, p.Receipts = all[0].MsgID, all
		return p
	}
	choices := func(name string, all ...callback.Choice) callback.Push {
		p := event(name)
		p.Choices = all
		return p
	}
	text := event("")
	text.Type, text.MsgID = "text", "23456789012345678"
	media := event(callback.EventMediaCheck)
	media.MediaCheck = &callback.MediaCheck{TraceID: "6017f9a3", Suggest: "risky", Label: "20001"}
	failedMedia := event(callback.EventMediaCheck)
	failedMedia.MediaCheck = &callback.MediaCheck{TraceID: "6017f9a3", ErrCode: -1008}
	created := time.Unix(1_413_192_605, 0).UTC()
	ticket := callback.Push{Created: created, Event: "component_verify_ticket", Provider: &callback.Provider{App: "wx1", Ticket: "ticket@@@x"}}
	authorized := callback.Push{Created: created, Event: "authorized", Provider: &callback.Provider{App: "wx1", Authorizer: "wx2", Code: "code", Expires: created.Add(10 * time.Minute)}}
	jsonHead := `"ToUserName":"gh_1","FromUserName":"oA","CreateTime":"1714112445","MsgType":"event",`
	for _, c := range []struct {
		name, body string
		want       callback.Push
	}{
		{"template success", "<xml>" + head + `<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200163836</MsgID><Status><![CDATA[success]]></Status></xml>`, receipt("200163836", "success", callback.Delivered)},
		{"template block", "<xml>" + head + `<Event>TEMPLATESENDJOBFINISH</Event><MsgID>3395159288267931652</MsgID><Status>failed:user block</Status></xml>`, receipt("3395159288267931652", "failed:user block", callback.Blocked)},
		{"template failed", "<xml>" + head + `<Event>TEMPLATESENDJOBFINISH</Event><MsgID>1</MsgID><Status>failed: system failed</Status></xml>`, receipt("1", "failed: system failed", callback.Failed)},
		{"template limit", "<xml>" + head + `<Event>TEMPLATESENDJOBFINISH</Event><MsgID>1</MsgID><Status>failed:freq limit</Status></xml>`, receipt("1", "failed:freq limit", callback.Failed)},
		{"template unheard of", "<xml>" + head + `<Event>TEMPLATESENDJOBFINISH</Event><MsgId>1</MsgId><Status>Failed: USER block</Status></xml>`, receipt("1", "Failed: USER block", callback.Blocked)},
		{"template as JSON", `{"ToUserName":"gh_1","FromUserName":"oA","CreateTime":1714112445,"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":3395159288267931652,"Status":"success"}`, receipt("3395159288267931652", "success", callback.Delivered)},
		{
			"sent, XML nested", "<xml>" + head + `<Event><![CDATA[subscribe_msg_sent_event]]></Event><SubscribeMsgSentEvent><List><TemplateId><![CDATA[T1]]></TemplateId><MsgID>1700827132819554304</MsgID><ErrorCode>0</ErrorCode><ErrorStatus><![CDATA[success]]></ErrorStatus></List></SubscribeMsgSentEvent></xml>`,
			sent(callback.Receipt{MsgID: "1700827132819554304", TemplateID: "T1", Delivery: callback.Delivered, Status: "success"}),
		},
		{
			"sent, JSON object", "{" + jsonHead + `"Event":"subscribe_msg_sent_event","List":{"TemplateId":"T1","MsgID":"1700827132819554304","ErrorCode":"0","ErrorStatus":"success"}}`,
			sent(callback.Receipt{MsgID: "1700827132819554304", TemplateID: "T1", Delivery: callback.Delivered, Status: "success"}),
		},
		{
			"sent, JSON array of numbers", "{" + jsonHead + `"Event":"subscribe_msg_sent_event","List":[{"TemplateId":"T1","MsgID":1,"ErrorCode":0,"ErrorStatus":"success"},{"TemplateId":"T2","MsgID":2,"ErrorCode":-1,"ErrorStatus":"system"}]}`,
			sent(callback.Receipt{MsgID: "1", TemplateID: "T1", Delivery: callback.Delivered, Status: "success"}, callback.Receipt{MsgID: "2", TemplateID: "T2", Delivery: callback.Failed, Status: "-1 system"}),
		},
		{
			"sent, JSON nested", "{" + jsonHead + `"Event":"subscribe_msg_sent_event","SubscribeMsgSentEvent":{"List":[{"TemplateId":"T1","MsgId":"7","ErrorCode":0}]}}`,
			sent(callback.Receipt{MsgID: "7", TemplateID: "T1", Delivery: callback.Delivered, Status: "success"}),
		},
		{
			"sent, empty entries", "{" + jsonHead + `"Event":"subscribe_msg_sent_event","List":[{},{"MsgID":"x","ErrorCode":0},{"MsgID":"5"}]}`, event(callback.EventSubscribeSent),
		},
		{
			"popup, XML repeated", "<xml>" + head + `<Event>subscribe_msg_popup_event</Event><SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString><PopupScene>2</PopupScene></List><List><TemplateId>T2</TemplateId><SubscribeStatusString>reject</SubscribeStatusString><PopupScene>2</PopupScene></List></SubscribeMsgPopupEvent></xml>`,
			choices(callback.EventPopup, callback.Choice{TemplateID: "T1", Status: "accept", Scene: "2"}, callback.Choice{TemplateID: "T2", Status: "reject", Scene: "2"}),
		},
		{
			"popup, XML items", "<xml>" + head + `<Event>subscribe_msg_popup_event</Event><SubscribeMsgPopupEvent><List><item><TemplateId>T1</TemplateId><SubscribeStatusString>accept</SubscribeStatusString></item></List></SubscribeMsgPopupEvent></xml>`,
			choices(callback.EventPopup, callback.Choice{TemplateID: "T1", Status: "accept"}),
		},
		{
			"popup, JSON", "{" + jsonHead + `"Event":"subscribe_msg_popup_event","List":[{"TemplateId":"T1","SubscribeStatusString":"accept","PopupScene":"0"}]}`,
			choices(callback.EventPopup, callback.Choice{TemplateID: "T1", Status: "accept", Scene: "0"}),
		},
		{
			"change, JSON object", "{" + jsonHead + `"Event":"subscribe_msg_change_event","List":{"TemplateId":"T1","SubscribeStatusString":"reject"}}`,
			choices(callback.EventChange, callback.Choice{TemplateID: "T1", Status: "reject"}),
		},
		{"media", "{" + jsonHead + `"Event":"wxa_media_check","appid":"wx1","trace_id":"6017f9a3","version":2,"detail":[{"strategy":"content_model","errcode":0,"suggest":"pass","label":100,"prob":90}],"errcode":0,"errmsg":"ok","result":{"suggest":"risky","label":20001}}`, media},
		{"media, XML", "<xml>" + head + `<Event>wxa_media_check</Event><trace_id>6017f9a3</trace_id><detail><suggest>pass</suggest></detail><result><suggest>risky</suggest><label>20001</label></result><errcode>0</errcode></xml>`, media},
		{"media, not downloaded", "{" + jsonHead + `"Event":"wxa_media_check","trace_id":"6017f9a3","errcode":"-1008","result":null}`, failedMedia},
		{"media without an id", "{" + jsonHead + `"Event":"wxa_media_check","errcode":0}`, event(callback.EventMediaCheck)},
		{"text", `<?xml version="1.0" encoding="UTF-8"?><xml>` + strings.Replace(head, "event", "text", 1) + `<Content><![CDATA[你好 &lt;]]></Content><MsgId>23456789012345678</MsgId></xml>`, text},
		{"ticket", `<xml><AppId>wx1</AppId><CreateTime>1413192605</CreateTime><InfoType>component_verify_ticket</InfoType><ComponentVerifyTicket>ticket@@@x</ComponentVerifyTicket></xml>`, ticket},
		{"authorized", `<xml><AppId>wx1</AppId><CreateTime>1413192605</CreateTime><InfoType>authorized</InfoType><AuthorizerAppid>wx2</AuthorizerAppid><AuthorizationCode>code</AuthorizationCode><AuthorizationCodeExpiredTime>600</AuthorizationCodeExpiredTime></xml>`, authorized},
		{"authorized, a time", `<xml><AppId>wx1</AppId><CreateTime>1413192605</CreateTime><InfoType>authorized</InfoType><AuthorizerAppid>wx2</AuthorizerAppid><AuthorizationCode>code</AuthorizationCode><AuthorizationCodeExpiredTime>1413193205</AuthorizationCodeExpiredTime></xml>`, authorized},
		{"with spaces", "\uFEFF \n<xml>\n <MsgType>\n event </MsgType>\n <Event> x </Event></xml>\n", callback.Push{Type: "event", Event: "x"}},
	} {
		got, err := callback.Parse([]byte(c.body))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.name, err, got, c.want)
		}
	}
}

// TestParseRefuses: no document type, no entity, no bomb.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	deepXML := strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000)
	for name, body := range map[string]string{
		"entity":            `<?xml version="1.0"?><!DOCTYPE xml [<!ENTITY a "event">]><xml><MsgType>&a;</MsgType></xml>`,
		"external entity":   `<!DOCTYPE xml SYSTEM "file:///etc/passwd"><xml><MsgType>event</MsgType></xml>`,
		"unknown entity":    `<xml><MsgType>&secret;</MsgType></xml>`,
		"deep XML":          "<xml>" + deepXML + "</xml>",
		"wide XML":          "<xml><MsgType>event</MsgType>" + strings.Repeat("<a></a>", 20_000) + "</xml>",
		"deep JSON":         `{"MsgType":"event","a":` + strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1001),
		"deep arrays":       `{"MsgType":"event","a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}",
		"wide JSON":         `{"MsgType":"event","a":[` + strings.Repeat("1,", 20_000) + "1]}",
		"wide empty arrays": `{"MsgType":"event","a":[` + strings.Repeat("[],", 20_000) + "[]]}",
		"cut XML":           "<xml>" + head,
		"cut JSON":          `{"MsgType":"event"`,
		"two roots":         "<xml><MsgType>event</MsgType></xml><xml></xml>",
		"text after":        "<xml><MsgType>event</MsgType></xml>x",
		"crossed":           "<xml><MsgType>event</xml></MsgType>",
		"two values":        `{"MsgType":"event"}{}`,
		"other encoding":    `<?xml version="1.0" encoding="GBK"?><xml><MsgType>` + "\xc4\xe3" + `</MsgType></xml>`,
		"array":             "[]",
		"empty":             "",
		"form":              "a=b",
		"no type":           "<xml><Event>x</Event></xml>",
		"empty object":      "{}",
		"long name":         `{"MsgType":"` + strings.Repeat("x", 600) + `"}`,
	} {
		p, err := callback.Parse([]byte(body))
		if !errors.Is(err, callback.ErrFormat) {
			t.Errorf("%s: %v %+v", name, err, p)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "passwd") {
			t.Errorf("%s: the error quotes the body: %v", name, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	identity := func(body string) string {
		p, err := callback.Parse([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return p.Identity([]byte(body))
	}
	template := func(id, created string) string {
		return "<xml>" + strings.Replace(head, "1714112445", created, 1) + "<Event>TEMPLATESENDJOBFINISH</Event><MsgID>" + id + "</MsgID><Status>success</Status></xml>"
	}
	text := func(id, content string) string {
		return "<xml>" + strings.Replace(head, "event", "text", 1) + "<Content>" + content + "</Content><MsgId>" + id + "</MsgId></xml>"
	}
	other := func(content string) string {
		return "<xml>" + head + "<Event>CLICK</Event><EventKey>" + content + "</EventKey></xml>"
	}
	for _, same := range [][2]string{
		{template("5", "1714112445"), template("5", "1714112446")},
		{text("1", "a"), text("1", "a")},
		{other("a"), other("a")},
		{`{"MsgType":"event","Event":"subscribe_msg_sent_event","List":[{"MsgID":1,"ErrorCode":0},{"MsgID":2,"ErrorCode":0}]}`, `{"MsgType":"event","Event":"subscribe_msg_sent_event","List":[{"MsgID":"2","ErrorCode":0},{"MsgID":"1","ErrorCode":0}]}`},
	} {
		if identity(same[0]) != identity(same[1]) {
			t.Errorf("%s and %s differ", same[0], same[1])
		}
	}
	for _, different := range [][2]string{
		{template("5", "1714112445"), template("6", "1714112445")},
		{text("1", "a"), text("2", "a")},
		{other("a"), other("b")},
		{template("0", "1714112445"), template("0", "1714112446")},
		{template("5", "1714112445"), strings.Replace(template("5", "1714112445"), "TEMPLATESENDJOBFINISH", "other", 1)},
	} {
		if identity(different[0]) == identity(different[1]) {
			t.Errorf("%s and %s are the same", different[0], different[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("<xml>" + head + "<Event>subscribe_msg_popup_event</Event><SubscribeMsgPopupEvent><List><TemplateId>T1</TemplateId></List></SubscribeMsgPopupEvent></xml>"))
	f.Add([]byte(`{"MsgType":"event","Event":"subscribe_msg_sent_event","List":[{"TemplateId":"T1","MsgID":1,"ErrorCode":0,"ErrorStatus":"success"}]}`))
	f.Add([]byte(`{"MsgType":"event","Event":"wxa_media_check","trace_id":"1","errcode":-1008,"result":{"suggest":"pass","label":100}}`))
	f.Add([]byte("<xml><InfoType>authorized</InfoType><AuthorizationCodeExpiredTime>600</AuthorizationCodeExpiredTime></xml>"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := callback.Parse(body)
		if err != nil {
			if !errors.Is(err, callback.ErrFormat) {
				t.Error(err)
			}
			return
		}
		if len(p.Identity(body)) != 22 || p.Type == "" && p.Provider == nil {
			t.Errorf("%+v", p)
		}
		for _, r := range p.Receipts {
			if r.MsgID == "" || r.Delivery == "" || strings.Trim(r.MsgID, "0123456789") != "" {
				t.Errorf("%+v", r)
			}
		}
	})
}

func FuzzDecrypt(f *testing.F) {
	keys := callback.Keys{App: "wx0123456789abcdef", Token: "spamtest", AESKey: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}
	text, err := keys.Encrypt([]byte("{}"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, []byte("<xml><Encrypt>x</Encrypt></xml>"))
	f.Add("", []byte(`{"Encrypt":"x"}`))
	f.Fuzz(func(t *testing.T, encrypted string, message []byte) {
		if _, err := keys.Decrypt(encrypted); err != nil && !errors.Is(err, callback.ErrDecrypt) && !errors.Is(err, callback.ErrApp) {
			t.Error(err)
		}
		again, err := keys.Encrypt(message)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Decrypt(again); err != nil || string(got) != string(message) {
			t.Errorf("%q became %q: %v", message, got, err)
		}
		q, body, err := keys.Seal(message, "gh_1", time.Now())
		if err != nil {
			return // neither XML nor JSON
		}
		if m, err := keys.Open(q, body); err != nil || string(m.Body) != string(message) {
			t.Errorf("%q: %v", message, err)
		}
	})
}
