package sandbox

import "github.com/wxcourier/wxcourier/sandbox/internal/madeup"

// privateTemplate is a template in an account's list for subscribe messages.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getmessagetemplatelist.html
type privateTemplate struct {
	ID      string          `json:"priTmplId"`
	Title   string          `json:"title"`
	Content string          `json:"content"`
	Example string          `json:"example"`
	Type    int             `json:"type"` // 2 one-time, 3 long-term
	Enums   []templateField `json:"keywordEnumValueList,omitempty"`
}

// templateField lists the values that a field of an enumerated type accepts.
type templateField struct {
	Values  []string `json:"enumValueList"`
	Keyword string   `json:"keywordCode"`
}

// answerTemplates returns the same two templates for each app, with ids of its own. Messages may use any template, listed here
// or not.
func answerTemplates(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		plainAnswer
		Data []privateTemplate `json:"data"`
	}{plainAnswer{ErrMsg: "ok"}, []privateTemplate{
		{
			ID: madeup.Name(43, "template", x.app.id, "1"), Title: "订单发货通知", Type: 2,
			Content: "订单编号:{{character_string1.DATA}}\n商品名称:{{thing2.DATA}}\n发货时间:{{time3.DATA}}\n",
			Example: "订单编号:SF1234567890\n商品名称:雨伞\n发货时间:2025-01-01 12:00\n",
		},
		{
			ID: madeup.Name(43, "template", x.app.id, "2"), Title: "预约提醒", Type: 3,
			Content: "预约人:{{name1.DATA}}\n预约时段:{{enum2.DATA}}\n",
			Example: "预约人:张三\n预约时段:上午\n",
			Enums:   []templateField{{[]string{"上午", "下午"}, "enum2.DATA"}},
		},
	}})
}
