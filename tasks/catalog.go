package tasks

import (
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/templates"
)

// The task types, named kind:api.
const (
	TypeSubscribe     = "send:subscribe"
	TypeTemplate      = "send:template"
	TypeBizSubscribe  = "send:bizsubscribe"
	TypeCustom        = "send:custom"
	TypeUniform       = "send:uniform"
	TypeScheme        = "scheme:generate"
	TypeURLLink       = "scheme:urllink"
	TypeShortLink     = "scheme:shortlink"
	TypeNFCScheme     = "scheme:nfc"
	TypeUnlimitedCode = "code:unlimited"
	TypeCode          = "code:wxacode"
	TypeQRCode        = "code:qrcode"
	TypeTextCheck     = "seccheck:text"
	TypeImageCheck    = "seccheck:image"
	TypeMediaCheck    = "seccheck:media"
)

// Kind is what a task type produces. It decides which fields of a [Result] a success fills.
type Kind uint8

// The kinds.
const (
	Message Kind = iota + 1 // MsgID, where WeChat gives one
	Link                    // OpenLink, URLLink, Link
	Code                    // Image
	Check                   // Suggest, Label, TraceID
)

// String returns the kind's name in lower case.
func (k Kind) String() string {
	return [...]string{"none", "message", "link", "code", "check"}[min(k, Check)]
}

// Repeat says whether a request may be sent again when its answer is unknown.
type Repeat uint8

// The values of Repeat.
const (
	// Never: a repeated request could send the message twice.
	Never Repeat = iota + 1
	// Deduped: WeChat drops a repeated request with the same openid and client_msg_id
	// within ten minutes.
	Deduped
	// Always: a repeated request costs quota and has no other effect.
	Always
)

// String returns the value's name in lower case.
func (r Repeat) String() string {
	return [...]string{"none", "never", "deduped", "always"}[min(r, Always)]
}

// Window returns how long after the first request WeChat drops a repeated one: ten minutes
// for Deduped
// (https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html).
// It returns 0 for Never, and for Always, which may be repeated at any time.
func (r Repeat) Window() time.Duration {
	if r == Deduped {
		return 10 * time.Minute
	}
	return 0
}

// Spec describes one task type: a row of the catalog.
type Spec struct {
	Type string // "send:subscribe"
	Path string // the endpoint: "/cgi-bin/message/subscribe/send"
	Kind Kind
	// Repeat says what to do when the answer to a request is unknown. [Spec.RepeatOf] knows the
	// bodies to which it does not apply.
	Repeat Repeat
	// Scarce names a boolean member of the body, or is "". A request in which it is true uses up
	// something that WeChat gives once: its Repeat is Never.
	Scarce string
	// Callback: errcode 0 only means that WeChat began. The result comes later, by a push to the
	// callback of the app, within [CallbackTimeout].
	Callback bool
	// Receiver names the member of the body that holds the openid: "touser",
	// "openid", or "" for types without one.
	Receiver string
	// Template names the member of the body that holds the template id, or is "".
	Template string
	// Receipts: WeChat pushes a receipt for each message that it accepted.
	Receipts bool
	// Consent: WeChat takes a message only where the receiver has accepted its template, and answers
	// 43101 otherwise.
	Consent bool
	// Multipart: the body is sent as a file upload in the form field "media".
	Multipart bool
	// Doc is the address of WeChat's page about the endpoint.
	Doc string
	// Warning, where not empty, is shown to the producer of such a task; see
	// [Receipt.Warning].
	Warning string
	// Example is a body that passes the checks at any time.
	Example string

	check func(c *checker, body strictjson.Value) // checks the body
	list  templates.Source                        // the list that has the template of a message, or ""
}

// CallbackTimeout is how long a task of a type with [Spec].Callback waits for the push: WeChat sends
// the result of a check within 30 minutes
// (https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/mediaCheckAsync.html).
const CallbackTimeout = 30 * time.Minute

// RepeatOf returns whether a request with this body may be sent again when its answer is unknown.
func (s *Spec) RepeatOf(body []byte) Repeat {
	if s.Scarce == "" {
		return s.Repeat
	}
	doc, fault := parseBody(body)
	if fault != nil {
		return Never
	}
	defer doc.Release()
	if v := doc.Root().Member(s.Scarce); v.Kind() == strictjson.Bool && v.Raw()[0] == 't' {
		return Never
	}
	return s.Repeat
}

const (
	docMini    = "https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/"
	docOld     = "https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/"
	docOA      = "https://developers.weixin.qq.com/doc/offiaccount/"
	docService = "https://developers.weixin.qq.com/doc/service/api/"
)

// catalog must not be modified.
var catalog = []Spec{
	{
		Type: TypeSubscribe, Path: "/cgi-bin/message/subscribe/send", Kind: Message, Repeat: Never,
		Receiver: "touser", Template: "template_id", Receipts: true, Consent: true, check: checkSubscribe, list: templates.Subscribe,
		Doc:     docMini + "mp-message-management/subscribe-message/sendMessage.html",
		Example: `{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"pages/index/index","miniprogram_state":"formal","lang":"zh_CN","data":{"thing1":{"value":"订单已发货"},"time2":{"value":"2025-01-01 12:00"},"character_string3":{"value":"SF1234567890"}}}`,
	},
	{
		Type: TypeTemplate, Path: "/cgi-bin/message/template/send", Kind: Message, Repeat: Deduped,
		Receiver: "touser", Template: "template_id", Receipts: true, check: checkTemplate, list: templates.Account,
		Doc:     docOA + "Message_Management/Template_Message_Interface.html",
		Example: `{"touser":"OPENID","template_id":"TEMPLATE_ID","miniprogram":{"appid":"wx0123456789abcdef","pagepath":"pages/order/order?id=1"},"data":{"thing1":{"value":"订单已发货"},"character_string2":{"value":"D201803111235825"}}}`,
	},
	{
		Type: TypeBizSubscribe, Path: "/cgi-bin/message/subscribe/bizsend", Kind: Message, Repeat: Never,
		Receiver: "touser", Template: "template_id", Receipts: true, Consent: true, check: checkBizSubscribe, list: templates.Subscribe,
		Doc:     docService + "notify/notify/api_sendnewsubscribemsg.html",
		Example: `{"touser":"OPENID","template_id":"TEMPLATE_ID","page":"pages/order/order?id=1","data":{"name1":{"value":"王先生"},"amount2":{"value":"￥100"},"date3":{"value":"2019-10-01"}}}`,
	},
	{
		Type: TypeCustom, Path: "/cgi-bin/message/custom/send", Kind: Message, Repeat: Never,
		Receiver: "touser", check: checkCustom,
		Doc:     docMini + "kf-mgnt/kf-message/sendCustomMessage.html",
		Example: `{"touser":"OPENID","msgtype":"text","text":{"content":"Hello"}}`,
	},
	{
		Type: TypeUniform, Path: "/cgi-bin/message/wxopen/template/uniform_send", Kind: Message, Repeat: Never,
		Receiver: "touser", check: checkUniform,
		Doc:     docMini + "mp-message-management/uniform-message/sendUniformMessage.html",
		Warning: "WeChat retired uniform_send on 2023-09-20 and answers 45109: send send:subscribe or send:template instead",
		Example: `{"touser":"OPENID","mp_template_msg":{"appid":"wx0123456789abcdef","template_id":"TEMPLATE_ID","url":"https://example.com","miniprogram":{"appid":"wx0123456789abcdef","pagepath":"pages/order/order?id=1"},"data":{"keyword1":{"value":"D201803111235825"}}}}`,
	},
	{
		Type: TypeScheme, Path: "/wxa/generatescheme", Kind: Link, Repeat: Always, check: checkScheme,
		Doc:     docMini + "qrcode-link/url-scheme/generateScheme.html",
		Example: `{"jump_wxa":{"path":"pages/index/index","query":"id=123","env_version":"release"},"is_expire":true,"expire_type":1,"expire_interval":30}`,
	},
	{
		Type: TypeURLLink, Path: "/wxa/generate_urllink", Kind: Link, Repeat: Always, check: checkURLLink,
		Doc:     docMini + "qrcode-link/url-link/generateUrlLink.html",
		Example: `{"path":"pages/index/index","query":"id=123","is_expire":true,"expire_type":1,"expire_interval":30,"env_version":"release"}`,
	},
	{
		Type: TypeShortLink, Path: "/wxa/genwxashortlink", Kind: Link, Repeat: Always, Scarce: permanentField, check: checkShortLink,
		Doc:     docMini + "qrcode-link/short-link/generateShortLink.html",
		Example: `{"page_url":"pages/index/index?id=123","page_title":"春季特惠"}`,
	},
	{
		Type: TypeNFCScheme, Path: "/wxa/generatenfcscheme", Kind: Link, Repeat: Always, check: checkNFCScheme,
		Doc:     docMini + "qrcode-link/url-scheme/generateNFCScheme.html",
		Example: `{"jump_wxa":{"path":"pages/index/index","query":"id=123","env_version":"release"},"model_id":"MODEL_ID","sn":"SN0001"}`,
	},
	{
		Type: TypeUnlimitedCode, Path: "/wxa/getwxacodeunlimit", Kind: Code, Repeat: Always, check: checkUnlimitedCode,
		Doc:     docMini + "qrcode-link/qr-code/getUnlimitedQRCode.html",
		Example: `{"page":"pages/index/index","scene":"a=1","check_path":true,"env_version":"release"}`,
	},
	{
		Type: TypeCode, Path: "/wxa/getwxacode", Kind: Code, Repeat: Always, check: checkCode,
		Doc:     docMini + "qrcode-link/qr-code/getQRCode.html",
		Example: `{"path":"pages/index/index?id=123","width":430}`,
	},
	{
		Type: TypeQRCode, Path: "/cgi-bin/wxaapp/createwxaqrcode", Kind: Code, Repeat: Always, check: checkQRCode,
		Doc:     docMini + "qrcode-link/qr-code/createQRCode.html",
		Example: `{"path":"pages/index/index?id=123","width":430}`,
	},
	{
		Type: TypeTextCheck, Path: "/wxa/msg_sec_check", Kind: Check, Repeat: Always,
		Receiver: "openid", check: checkText,
		Doc:     docMini + "sec-center/sec-check/msgSecCheck.html",
		Example: `{"content":"待检测文本","version":2,"scene":1,"openid":"OPENID"}`,
	},
	{
		Type: TypeImageCheck, Path: "/wxa/img_sec_check", Kind: Check, Repeat: Always,
		Multipart: true, check: checkImage,
		Doc:     docOld + "sec-check/security.imgSecCheck.html",
		Example: `{"media":"R0lGODlhAQABAIAAAP///wAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=="}`,
	},
	{
		Type: TypeMediaCheck, Path: "/wxa/media_check_async", Kind: Check, Repeat: Always,
		Receiver: "openid", Callback: true, check: checkMedia,
		Doc:     docMini + "sec-center/sec-check/mediaCheckAsync.html",
		Example: `{"media_url":"https://example.com/a.png","media_type":2,"version":2,"scene":1,"openid":"OPENID"}`,
	},
}

// Catalog returns the rows of all task types. The caller may modify the slice.
func Catalog() []Spec { return slices.Clone(catalog) }

// Types returns the types of all tasks, in the order of [Catalog].
func Types() []string {
	types := make([]string, len(catalog))
	for i, spec := range catalog {
		types[i] = spec.Type
	}
	return types
}

// Lookup returns the row of a task type, and whether there is one.
func Lookup(typ string) (Spec, bool) {
	if row := lookup(typ); row != nil {
		return *row, true
	}
	return Spec{}, false
}

func lookup(typ string) *Spec {
	for i := range catalog {
		if catalog[i].Type == typ {
			return &catalog[i]
		}
	}
	return nil
}
