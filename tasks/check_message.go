package tasks

import (
	"bytes"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/tasks/internal/keyword"
)

// The bodies of messages.

const (
	touserDesc   = "the receiver's openid"
	templateDesc = "the id of the template"
	queryHint    = `put parameters into "query"`
)

// checkSubscribe checks the body of send:subscribe:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
func checkSubscribe(c *checker, body strictjson.Value) {
	c.opaqueID(body, "touser", touserDesc)
	c.opaqueID(body, "template_id", templateDesc)
	c.optionalText(body, "page", textRule{})
	c.oneOf(body, "miniprogram_state", "developer", "trial", "formal")
	c.oneOf(body, "lang", "zh_CN", "en_US", "zh_HK", "zh_TW")
	c.subscribeData(body)
}

// checkBizSubscribe checks the body of send:bizsubscribe:
// https://developers.weixin.qq.com/doc/service/api/notify/notify/api_sendnewsubscribemsg.html
func checkBizSubscribe(c *checker, body strictjson.Value) {
	checkSubscribe(c, body)
	c.miniprogram(body)
}

// checkTemplate checks the body of send:template:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
func checkTemplate(c *checker, body strictjson.Value) {
	c.opaqueID(body, "touser", touserDesc)
	c.optionalText(body, clientMsgIDField, textRule{})
	c.templateMessage(body)
}

// templateMessage checks the members that template/send and uniform_send have in common.
// The rules for the values of subscribe messages do not apply: keywords of old templates
// may have any name and may be empty.
func (c *checker) templateMessage(in strictjson.Value) {
	c.opaqueID(in, "template_id", templateDesc)
	c.optionalText(in, "url", textRule{})
	c.miniprogram(in)
	if data := in.Member("data"); data.Kind() == strictjson.Array && data.IsZero() {
		return // PHP encodes an empty object like this
	}
	data, ok := c.required(in, "data", strictjson.Object, `the keywords, as {"thing1":{"value":"…"}}`)
	if !ok {
		return
	}
	for entry := range data.Elements() {
		c.dataValue(entry)
	}
}

// miniprogram checks the mini program page that a message opens.
func (c *checker) miniprogram(in strictjson.Value) {
	if mini, ok := c.optional(in, "miniprogram", strictjson.Object); ok {
		c.optionalText(mini, "appid", textRule{})
		c.optionalText(mini, "pagepath", textRule{})
	}
}

// subscribeData checks the keywords of a subscribe message.
func (c *checker) subscribeData(body strictjson.Value) {
	data, ok := c.required(body, "data", strictjson.Object, `the keywords, as {"thing1":{"value":"…"}}`)
	if !ok {
		return
	}
	if data.IsEmpty() {
		c.fault(data, `empty: give every keyword of the template, as {"thing1":{"value":"…"}}`)
	}
	for entry := range data.Elements() {
		if bytes.HasSuffix(entry.Key(), []byte(".DATA")) {
			c.fault(entry, `the ".DATA" of the template's text is not part of a keyword's name: leave it out`)
			continue
		}
		if v, ok := c.dataValue(entry); ok {
			text := v.Unquoted()
			if c.anyLength && string(keyword.Type(entry.Key())) == thing {
				text = []byte(cut(string(text)))
			}
			if problem := keyword.Problem(entry.Key(), text); problem != "" {
				c.fault(v, "%s", problem)
			}
		}
	}
}

// dataValue checks the JSON of one keyword and returns its value if that is a string. A
// keyword of the type number may have a JSON number, as on WeChat's pages.
func (c *checker) dataValue(entry strictjson.Value) (strictjson.Value, bool) {
	if !c.want(entry, strictjson.Object, `write {"value":"…"}`) {
		return strictjson.Value{}, false
	}
	v := entry.Member("value")
	switch {
	case !v.Present():
		c.faultAt(strictjson.JoinPath(entry.Path(), "value"), "required: the keyword's text")
		return strictjson.Value{}, false
	case v.Kind() == strictjson.Number && string(keyword.Type(entry.Key())) == "number":
		return strictjson.Value{}, false
	}
	return v, c.want(v, strictjson.String, hintFor(strictjson.String))
}

// customMember is a string member that a customer-service message of a msgtype must have.
type customMember struct{ msgtype, name, desc string }

var customMembers = [...]customMember{
	{"text", "content", "the text to show"},
	{"image", "media_id", mediaDesc},
	{"voice", "media_id", mediaDesc},
	{"video", "media_id", mediaDesc},
	{"music", "musicurl", "the link of the music"},
	{"mpnews", "media_id", mediaDesc},
	{"mpnewsarticle", "article_id", "the id of a published article"},
	{"wxcard", "card_id", "the id of the card"},
	{"link", "title", "the title to show"},
	{"link", "url", "where the link leads"},
	{"miniprogrampage", "pagepath", "the page to open"},
	{"miniprogrampage", "thumb_media_id", mediaDesc},
}

const mediaDesc = "the media_id of an upload"

// checkCustom checks the body of send:custom:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/kf-mgnt/kf-message/sendCustomMessage.html
// The further msgtypes of official accounts are on
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Service_Center_messages.html
func checkCustom(c *checker, body strictjson.Value) {
	c.opaqueID(body, "touser", touserDesc)
	c.customContent(body)
	if service, ok := c.optional(body, "customservice", strictjson.Object); ok {
		c.requiredText(service, "kf_account", textRule{}, "the account of the customer service")
	}
	if context, ok := c.optional(body, "aimsgcontext", strictjson.Object); ok {
		c.integer(context, "is_ai_msg", 0, 1, "")
	}
}

// customContent checks the member that msgtype names.
func (c *checker) customContent(body strictjson.Value) {
	v, ok := c.required(body, "msgtype", strictjson.String, "the kind of message, such as text")
	if !ok {
		return
	}
	if v.IsZero() {
		c.fault(v, "empty: the kind of message, such as text")
		return
	}
	msgtype := string(v.Unquoted())
	faults := len(c.faults)
	c.oneOf(body, "msgtype", "text", "image", "voice", "video", "music", "news", "mpnews", "mpnewsarticle",
		"msgmenu", "wxcard", "link", "miniprogrampage")
	if len(c.faults) > faults {
		return
	}
	content, ok := c.required(body, msgtype, strictjson.Object, "the content of a message of this msgtype")
	if !ok {
		return
	}
	for _, m := range customMembers {
		if m.msgtype == msgtype {
			c.requiredText(content, m.name, textRule{}, m.desc)
		}
	}
	switch msgtype {
	case "news":
		c.list(content, "articles", 1, "the one article")
	case "msgmenu":
		c.list(content, "list", 0, "the choices of the menu")
	}
}

// list checks a required array of at least one and at most limit objects; a limit of 0 is
// none.
func (c *checker) list(in strictjson.Value, name string, limit int, desc string) {
	v, ok := c.required(in, name, strictjson.Array, desc)
	if !ok {
		return
	}
	n := 0
	for element := range v.Elements() {
		n++
		c.want(element, strictjson.Object, "")
	}
	switch {
	case n == 0:
		c.fault(v, "empty: %s", desc)
	case limit > 0 && n > limit:
		c.fault(v, "%d elements; WeChat takes %d", n, limit)
	}
}

// checkUniform checks the body of the retired send:uniform, as its page described it. The
// fields of a template message are inside one of two members.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/uniform-message/sendUniformMessage.html
func checkUniform(c *checker, body strictjson.Value) {
	c.opaqueID(body, "touser", touserDesc)
	if body.Member("mp_template_msg").IsZero() && body.Member("weapp_template_msg").IsZero() {
		c.faultAt("body.mp_template_msg", "required: it holds appid, template_id, url, miniprogram and data")
	}
	c.optional(body, "weapp_template_msg", strictjson.Object)
	if official, ok := c.optional(body, "mp_template_msg", strictjson.Object); ok {
		c.opaqueID(official, "appid", "the app id of the official account")
		c.templateMessage(official)
	}
}
