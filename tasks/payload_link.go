package tasks

import "github.com/hibiken/asynq"

// Expiry says when a link ends, as both kinds of links have it. WeChat's current
// pages allow 30 days, the older ones a year; a link is refused when it would end
// less than a minute after it is made (85401).
type Expiry struct {
	// IsExpire is from the older pages, where a link without it is for ever.
	IsExpire bool `json:"is_expire,omitempty"`
	// ExpireType is 0 for an end at ExpireTime, 1 for one after ExpireInterval.
	ExpireType int `json:"expire_type,omitempty"`
	// ExpireTime is in Unix seconds.
	ExpireTime int64 `json:"expire_time,omitempty"`
	// ExpireInterval is in days, 1 to 30 (365).
	ExpireInterval int `json:"expire_interval,omitempty"`
}

// JumpTarget is the mini program page that a scheme opens.
type JumpTarget struct {
	// Path is a released page, without parameters; empty is the home page.
	Path string `json:"path,omitempty"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"query,omitempty"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"env_version,omitempty"`
}

// SchemePayload is the body of scheme:generate, a weixin:// link (URL Scheme). Its
// result has the link as OpenLink.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateScheme.html
type SchemePayload struct {
	JumpWxa *JumpTarget `json:"jump_wxa,omitempty"`
	Expiry
}

// NewSchemeTask makes a scheme:generate task. The error is a *[ValidationError].
func NewSchemeTask(app string, p SchemePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeScheme, app, p, opts)
}

// URLLinkPayload is the body of scheme:urllink, an https:// link (URL Link). Its
// result has the link as URLLink.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-link/generateUrlLink.html
type URLLinkPayload struct {
	JumpTarget
	Expiry
	// CloudBase opens a page of the cloud development's own instead (85088 without it).
	CloudBase *CloudBase `json:"cloud_base,omitempty"`
}

// CloudBase is a page that the cloud development serves.
type CloudBase struct {
	// Env is the id of the cloud environment. Required.
	Env    string `json:"env"`
	Domain string `json:"domain,omitempty"`
	Path   string `json:"path,omitempty"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"query,omitempty"`
	// ResourceAppID is the app that shares its environment.
	ResourceAppID string `json:"resource_appid,omitempty"`
}

// NewURLLinkTask makes a scheme:urllink task. The error is a *[ValidationError].
func NewURLLinkTask(app string, p URLLinkPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeURLLink, app, p, opts)
}
