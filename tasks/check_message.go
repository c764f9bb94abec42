package tasks

import "bytes"

// Bodies of messages.

const (
	touserIs   = "the receiver's openid"
	templateIs = "the id of the template"
	noQueryFix = `put parameters into "query"`
)

// checkSubscribe:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
func checkSubscribe(c *checker, body value) {
	c.opaque(body, "touser", touserIs)
	c.opaque(body, "template_id", templateIs)
	c.text(body, "page", textRule{})
	c.word(body, "miniprogram_state", "developer", "trial", "formal")
	c.word(body, "lang", "zh_CN", "en_US", "zh_HK", "zh_TW")
	c.subscribeData(body)
}

// checkBizSubscribe:
// https://developers.weixin.qq.com/doc/service/api/notify/notify/api_sendnewsubscribemsg.html
func checkBizSubscribe(c *checker, body value) {
	checkSubscribe(c, body)
	c.miniprogram(body)
}

// checkTemplate:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
func checkTemplate(c *checker, body value) {
	c.opaque(body, "touser", touserIs)
	c.text(body, clientMsgIDField, textRule{})
	c.templateMessage(body)
}

// templateMessage checks what template/send and uniform_send have in common. The
// value rules of subscribe messages do not hold here: keywords of old templates may
// have any name, and may be empty.
func (c *checker) templateMessage(in value) {
	c.opaque(in, "template_id", templateIs)
	c.text(in, "url", textRule{})
	c.miniprogram(in)
	if data := in.member("data"); data.kind() == isArray && data.zero() {
		return // PHP's way to write an object without members
	}
	data, ok := c.required(in, "data", isObject, `the keywords, as {"thing1":{"value":"…"}}`)
	if !ok {
		return
	}
	for entry := range data.elements() {
		c.dataValue(entry)
	}
}

func (c *checker) miniprogram(in value) {
	if mini, ok := c.optional(in, "miniprogram", isObject); ok {
		c.text(mini, "appid", textRule{})
		c.text(mini, "pagepath", textRule{})
	}
}

// subscribeData checks the keywords of a subscribe message.
func (c *checker) subscribeData(body value) {
	data, ok := c.required(body, "data", isObject, `the keywords, as {"thing1":{"value":"…"}}`)
	if !ok {
		return
	}
	if data.node().next == data.at+1 {
		c.fault(data, `empty: give every keyword of the template, as {"thing1":{"value":"…"}}`)
	}
	for entry := range data.elements() {
		if bytes.HasSuffix(entry.key(), []byte(".DATA")) {
			c.fault(entry, `the ".DATA" of the template's text is no part of a keyword's name: leave it out`)
			continue
		}
		if v, ok := c.dataValue(entry); ok {
			c.keyword(entry.key(), v)
		}
	}
}

// dataValue checks the shape of one keyword and returns its value if it is a
// string. WeChat's pages show a number for the keywords named number, so such a
// one passes.
func (c *checker) dataValue(entry value) (value, bool) {
	if !c.want(entry, isObject, `write {"value":"…"}`) {
		return value{}, false
	}
	v := entry.member("value")
	switch {
	case !v.present():
		c.faultAt(join(entry.path(), "value"), "required: the keyword's text")
		return value{}, false
	case v.kind() == isNumber && string(keywordType(entry.key())) == "number":
		return value{}, false
	}
	return v, c.want(v, isText, isText.hint())
}

// customMember is a string that a kind of customer-service message must have.
type customMember struct{ msgtype, name, what string }

var customMembers = [...]customMember{
	{"text", "content", "the text to show"},
	{"image", "media_id", mediaIs},
	{"voice", "media_id", mediaIs},
	{"video", "media_id", mediaIs},
	{"music", "musicurl", "the link of the music"},
	{"mpnews", "media_id", mediaIs},
	{"mpnewsarticle", "article_id", "the id of a published article"},
	{"wxcard", "card_id", "the id of the card"},
	{"link", "title", "the title to show"},
	{"link", "url", "where the link leads"},
	{"miniprogrampage", "pagepath", "the page to open"},
	{"miniprogrampage", "thumb_media_id", mediaIs},
}

const mediaIs = "the media_id of an upload"

// checkCustom:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/kf-mgnt/kf-message/sendCustomMessage.html
// with the types that official accounts have beside them:
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Service_Center_messages.html
func checkCustom(c *checker, body value) {
	c.opaque(body, "touser", touserIs)
	c.customContent(body)
	if service, ok := c.optional(body, "customservice", isObject); ok {
		c.filled(service, "kf_account", textRule{}, "the account of the customer service")
	}
	if context, ok := c.optional(body, "aimsgcontext", isObject); ok {
		c.integer(context, "is_ai_msg", 0, 1, "")
	}
}

// customContent checks the member that msgtype names.
func (c *checker) customContent(body value) {
	v, ok := c.required(body, "msgtype", isText, "the kind of message, such as text")
	if !ok {
		return
	}
	if v.zero() {
		c.fault(v, "empty: the kind of message, such as text")
		return
	}
	msgtype := string(v.content())
	faults := len(c.faults)
	c.word(body, "msgtype", "text", "image", "voice", "video", "music", "news", "mpnews", "mpnewsarticle",
		"msgmenu", "wxcard", "link", "miniprogrampage")
	if len(c.faults) > faults {
		return
	}
	content, ok := c.required(body, msgtype, isObject, "the content of a message of this msgtype")
	if !ok {
		return
	}
	for _, m := range customMembers {
		if m.msgtype == msgtype {
			c.filled(content, m.name, textRule{}, m.what)
		}
	}
	switch msgtype {
	case "news":
		c.list(content, "articles", 1, "the one article")
	case "msgmenu":
		c.list(content, "list", 0, "the choices of the menu")
	}
}

// list checks a required array of objects; most is 0 for any number of them.
func (c *checker) list(in value, name string, most int, what string) {
	v, ok := c.required(in, name, isArray, what)
	if !ok {
		return
	}
	n := 0
	for element := range v.elements() {
		n++
		c.want(element, isObject, "")
	}
	switch {
	case n == 0:
		c.fault(v, "empty: %s", what)
	case most > 0 && n > most:
		c.fault(v, "%d elements; WeChat takes %d", n, most)
	}
}

// checkUniform: the retired endpoint's body as its page showed it. The fields of a
// template message go inside one of two members.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/uniform-message/sendUniformMessage.html
func checkUniform(c *checker, body value) {
	c.opaque(body, "touser", touserIs)
	if body.member("mp_template_msg").zero() && body.member("weapp_template_msg").zero() {
		c.faultAt("body.mp_template_msg", "required: it holds appid, template_id, url, miniprogram and data")
	}
	c.optional(body, "weapp_template_msg", isObject)
	if official, ok := c.optional(body, "mp_template_msg", isObject); ok {
		c.opaque(official, "appid", "the app id of the official account")
		c.templateMessage(official)
	}
}
