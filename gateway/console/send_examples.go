package console

import (
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// campaignExample is a template of messages of a type, for the form of a campaign.
type campaignExample struct {
	Type string
	// Template has the names of columns as the pages in Chinese show them.
	Template string
}

// In returns the template with names of columns in a language.
func (e campaignExample) In(lang language) string {
	if lang == chinese {
		return e.Template
	}
	return strings.NewReplacer(
		"{{姓名", "{{name", "{{订单号", "{{order", "{{金额", "{{amount", "{{图片", "{{image", "{{内容", "{{text",
		"您好 {{", "Hello {{", "{{name}}，您的订单已发货。", "{{name}}, your order is on its way.",
	).Replace(e.Template)
}

// campaignExamples are the templates, one a type, messages first.
func campaignExamples() []campaignExample {
	return []campaignExample{
		{tasks.TypeSubscribe, `body:
  touser: "{{openid}}"
  template_id: TEMPLATE_ID
  page: "pages/order/order?id={{订单号|url}}"
  data:
    thing1: {value: "{{姓名|cut:20}}"}
    character_string2: {value: "{{订单号}}"}
`},
		{tasks.TypeTemplate, `body:
  touser: "{{openid}}"
  template_id: TEMPLATE_ID
  url: "https://example.com/orders/{{订单号|url}}"
  data:
    thing1: {value: "{{姓名|cut:20}}"}
    character_string2: {value: "{{订单号}}"}
`},
		{tasks.TypeBizSubscribe, `body:
  touser: "{{openid}}"
  template_id: TEMPLATE_ID
  page: "https://example.com/orders/{{订单号|url}}"
  data:
    thing1: {value: "{{姓名|cut:20}}"}
    amount2: {value: "{{金额}}"}
`},
		{tasks.TypeCustom, `body:
  touser: "{{openid}}"
  msgtype: text
  text: {content: "{{姓名}}，您的订单已发货。"}
`},
		{tasks.TypeUniform, `body:
  touser: "{{openid}}"
  mp_template_msg:
    appid: wx0123456789abcdef
    template_id: TEMPLATE_ID
    url: "https://example.com/orders/{{订单号|url}}"
    miniprogram: {appid: wx0123456789abcdef, pagepath: pages/index/index}
    data:
      thing1: {value: "{{姓名|cut:20}}"}
`},
		{tasks.TypeScheme, `body:
  jump_wxa: {path: pages/index/index, query: "id={{订单号|url}}"}
  is_expire: true
  expire_type: 1
  expire_interval: 30
`},
		{tasks.TypeURLLink, `body:
  path: pages/index/index
  query: "id={{订单号|url}}"
  is_expire: true
  expire_type: 1
  expire_interval: 30
`},
		{tasks.TypeShortLink, `body:
  page_url: "pages/index/index?id={{订单号|url}}"
  page_title: "{{姓名|cut:20}}"
  is_permanent: false
`},
		{tasks.TypeNFCScheme, `body:
  jump_wxa: {path: pages/index/index, query: "id={{订单号|url}}"}
  model_id: MODEL_ID
  sn: "{{订单号}}"
`},
		{tasks.TypeUnlimitedCode, `body:
  page: pages/index/index
  scene: "id={{订单号}}"
  check_path: true
  env_version: release
`},
		{tasks.TypeCode, `body:
  path: "pages/index/index?id={{订单号|url}}"
  width: 430
`},
		{tasks.TypeQRCode, `body:
  path: "pages/index/index?id={{订单号|url}}"
  width: 430
`},
		{tasks.TypeTextCheck, `body:
  openid: "{{openid}}"
  scene: 2
  version: 2
  content: "{{内容}}"
`},
		{tasks.TypeImageCheck, `body:
  media_url: "{{图片}}"
`},
		{tasks.TypeMediaCheck, `body:
  media_url: "{{图片}}"
  media_type: 2
  version: 2
  scene: 1
  openid: "{{openid}}"
`},
	}
}

// exampleOf returns the template of a type, "" if there is none.
func exampleOf(typ string, lang language) string {
	for _, e := range campaignExamples() {
		if e.Type == typ {
			return e.In(lang)
		}
	}
	return ""
}
