package tasks

import "github.com/hibiken/asynq"

// Expiry is the time at which a link expires, for both types of links. WeChat's current
// pages allow 30 days, the older ones a year. WeChat refuses a link that would expire less
// than a minute after it is made (85401).
type Expiry struct {
	// IsExpire is on the older pages only: without it a link never expires.
	IsExpire bool `json:"is_expire,omitempty"`
	// ExpireType is 0 for expiry at ExpireTime, and 1 for expiry after ExpireInterval.
	ExpireType int `json:"expire_type,omitempty"`
	// ExpireTime is in Unix seconds.
	ExpireTime int64 `json:"expire_time,omitempty"`
	// ExpireInterval is in days, 1 to 30 (older pages: 365).
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

// SchemePayload is the body of scheme:generate, a weixin:// link (URL Scheme).
// Result.OpenLink is the link.
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

// URLLinkPayload is the body of scheme:urllink, an https:// link (URL Link). Result.URLLink
// is the link.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-link/generateUrlLink.html
type URLLinkPayload struct {
	JumpTarget
	Expiry
	// CloudBase opens a page of WeChat's cloud development (云开发) instead (85088 if the app
	// does not use it).
	CloudBase *CloudBase `json:"cloud_base,omitempty"`
}

// CloudBase is a page that WeChat's cloud development (云开发) serves.
type CloudBase struct {
	// Env is the id of the cloud environment. Required.
	Env    string `json:"env"`
	Domain string `json:"domain,omitempty"`
	Path   string `json:"path,omitempty"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"query,omitempty"`
	// ResourceAppID is the app id of another app that shares its environment.
	ResourceAppID string `json:"resource_appid,omitempty"`
}

// NewURLLinkTask makes a scheme:urllink task. The error is a *[ValidationError].
func NewURLLinkTask(app string, p URLLinkPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeURLLink, app, p, opts)
}
