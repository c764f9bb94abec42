package tasks

import "github.com/hibiken/asynq"

// Data holds the keywords of a message by name: thing1, amount2, keyword1 …
type Data map[string]Value

// Value is the value of one keyword.
type Value struct {
	// Value is shown to the receiver. In subscribe messages it must follow the rule of the
	// keyword's type, such as at most 20 characters for a thing (47003 otherwise). Where
	// `templates.fix` of the app is true, a Client cuts a longer thing; else [Client.Enqueue]
	// refuses it.
	Value string `json:"value"`
	// Color is "#RRGGBB". It is for old template messages; WeChat ignores it now.
	Color string `json:"color,omitempty"`
}

// MiniProgram is the mini program page that a message of an official account opens.
type MiniProgram struct {
	// AppID is the app id of a mini program that is linked to the account (40013
	// otherwise).
	AppID string `json:"appid"`
	// PagePath may have parameters: "pages/order/order?id=1".
	PagePath string `json:"pagepath,omitempty"`
}

// SubscribePayload is the body of send:subscribe, a subscribe message of a mini
// program (小程序订阅消息). It costs the receiver one subscription.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
type SubscribePayload struct {
	// ToUser is the receiver's openid. Required.
	ToUser string `json:"touser"`
	// TemplateID is the private template id. Required.
	TemplateID string `json:"template_id"`
	// Page is the page of this mini program that opens on a tap; it may have parameters.
	// Without it a tap opens nothing.
	Page string `json:"page,omitempty"`
	// Data has every keyword of the template. Required.
	Data Data `json:"data"`
	// MiniProgramState is developer, trial or formal (WeChat's default).
	MiniProgramState string `json:"miniprogram_state,omitempty"`
	// Lang is zh_CN (WeChat's default), en_US, zh_HK or zh_TW.
	Lang string `json:"lang,omitempty"`
}

// NewSubscribeTask makes a send:subscribe task. The error is a *[ValidationError].
func NewSubscribeTask(app string, p SubscribePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeSubscribe, app, p, opts)
}

// TemplatePayload is the body of send:template, a template message of an official
// account (服务号模板消息).
//
// https://developers.weixin.qq.com/doc/offiaccount/Message_Management/Template_Message_Interface.html
type TemplatePayload struct {
	// ToUser is the follower's openid. Required.
	ToUser string `json:"touser"`
	// TemplateID is required.
	TemplateID string `json:"template_id"`
	// URL opens on a tap, unless MiniProgram is set.
	URL string `json:"url,omitempty"`
	// MiniProgram opens on a tap.
	MiniProgram *MiniProgram `json:"miniprogram,omitempty"`
	// Data has the keywords of the template. Required.
	Data Data `json:"data"`
	// ClientMsgID lets WeChat drop a repeated message to the same receiver within ten
	// minutes. If it is empty, it is derived from the task's id.
	ClientMsgID string `json:"client_msg_id,omitempty"`
}

// NewTemplateTask makes a send:template task. The error is a *[ValidationError].
func NewTemplateTask(app string, p TemplatePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeTemplate, app, p, opts)
}

// BizSubscribePayload is the body of send:bizsubscribe, a subscribe notice of an
// official account (订阅通知). It costs the receiver one subscription.
//
// https://developers.weixin.qq.com/doc/service/api/notify/notify/api_sendnewsubscribemsg.html
type BizSubscribePayload struct {
	// ToUser is the receiver's openid. Required.
	ToUser string `json:"touser"`
	// TemplateID is required.
	TemplateID string `json:"template_id"`
	// Page opens on a tap, unless MiniProgram is set.
	Page string `json:"page,omitempty"`
	// MiniProgram opens on a tap.
	MiniProgram *MiniProgram `json:"miniprogram,omitempty"`
	// Data has every keyword of the template, by the rules of SubscribePayload. Required.
	Data Data `json:"data"`
	// MiniProgramState is developer, trial or formal (WeChat's default).
	MiniProgramState string `json:"miniprogram_state,omitempty"`
	// Lang is zh_CN (WeChat's default), en_US, zh_HK or zh_TW.
	Lang string `json:"lang,omitempty"`
}

// NewBizSubscribeTask makes a send:bizsubscribe task. The error is a *[ValidationError].
func NewBizSubscribeTask(app string, p BizSubscribePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeBizSubscribe, app, p, opts)
}

// UniformPayload is the body of send:uniform, a template message of an official account to a
// mini program's user (统一服务消息). WeChat retired the endpoint on 2023-09-20 and answers
// 45109; the type remains for apps with an older permission.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/uniform-message/sendUniformMessage.html
type UniformPayload struct {
	// ToUser is the openid in the mini program or in the official account. Required.
	ToUser string `json:"touser"`
	// Template is the official account's message. Required.
	Template UniformTemplate `json:"mp_template_msg"`
}

// UniformTemplate is the message inside a UniformPayload.
type UniformTemplate struct {
	// AppID is the app id of the official account, which must belong to the owner of the
	// mini program. Required.
	AppID string `json:"appid"`
	// TemplateID is required.
	TemplateID string `json:"template_id"`
	// URL opens on a tap, unless MiniProgram is set.
	URL string `json:"url,omitempty"`
	// MiniProgram opens on a tap.
	MiniProgram *MiniProgram `json:"miniprogram,omitempty"`
	// Data has the keywords of the template. Required.
	Data Data `json:"data"`
}

// NewUniformTask makes a send:uniform task. The error is a *[ValidationError].
func NewUniformTask(app string, p UniformPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeUniform, app, p, opts)
}
