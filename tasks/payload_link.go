package tasks

import (
	"encoding/json"

	"github.com/hibiken/asynq"
)

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

// SchemePayload is the body of scheme:generate, a weixin:// link (URL Scheme).
// Result.OpenLink is the link.
//
// WeChat's JSON has Path, Query and EnvVersion in the object jump_wxa; here they are fields
// as in [URLLinkPayload].
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateScheme.html
type SchemePayload struct {
	// Path is a released page, without parameters; empty is the home page.
	Path string `json:"-"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"-"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"-"`
	Expiry
}

// schemeBody is WeChat's form of a SchemePayload.
type schemeBody struct {
	JumpWxa jumpWxa `json:"jump_wxa,omitzero"`
	Expiry
}

type jumpWxa struct {
	Path       string `json:"path,omitempty"`
	Query      string `json:"query,omitempty"`
	EnvVersion string `json:"env_version,omitempty"`
}

// MarshalJSON writes WeChat's form.
func (p SchemePayload) MarshalJSON() ([]byte, error) {
	return json.Marshal(schemeBody{jumpWxa{p.Path, p.Query, p.EnvVersion}, p.Expiry})
}

// UnmarshalJSON reads WeChat's form.
func (p *SchemePayload) UnmarshalJSON(text []byte) error {
	var body schemeBody
	if err := json.Unmarshal(text, &body); err != nil {
		return err
	}
	*p = SchemePayload{body.JumpWxa.Path, body.JumpWxa.Query, body.JumpWxa.EnvVersion, body.Expiry}
	return nil
}

// NewSchemeTask makes a scheme:generate task. The error is a *[ValidationError].
func NewSchemeTask(app string, p SchemePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeScheme, app, p, opts)
}

// ShortLinkPayload is the body of scheme:shortlink, a link for use inside of WeChat (Short Link).
// Result.Link is the link.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/short-link/generateShortLink.html
type ShortLinkPayload struct {
	// PageURL is a released page with its parameters, at most 1,024 characters. Required.
	PageURL string `json:"page_url"`
	// PageTitle is shown in the link; WeChat truncates it to 20 characters.
	PageTitle string `json:"page_title,omitempty"`
	// IsPermanent makes a link that does not expire after 30 days. An account may make 100,000
	// of them in all (85400), so that such a request is not repeated when its answer is lost:
	// the task ends as [OutcomeUnknown].
	IsPermanent bool `json:"is_permanent,omitempty"`
}

// NewShortLinkTask makes a scheme:shortlink task. The error is a *[ValidationError].
func NewShortLinkTask(app string, p ShortLinkPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeShortLink, app, p, opts)
}

// NFCSchemePayload is the body of scheme:nfc, a link for NFC tags. Result.OpenLink is the link.
//
// WeChat's JSON has Path, Query and EnvVersion in the object jump_wxa; here they are fields
// as in [SchemePayload].
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateNFCScheme.html
type NFCSchemePayload struct {
	// Path is a released page, without parameters; empty is the home page.
	Path string `json:"-"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"-"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"-"`
	// ModelID is the id of the device model in WeChat's console (9800003). Required.
	ModelID string `json:"model_id"`
	// SN is the serial number of a device. It is required for a model with one code for each
	// device (9800008), and must be empty for another (9800009).
	SN string `json:"sn,omitempty"`
}

// nfcSchemeBody is WeChat's form of an NFCSchemePayload.
type nfcSchemeBody struct {
	JumpWxa jumpWxa `json:"jump_wxa,omitzero"`
	ModelID string  `json:"model_id"`
	SN      string  `json:"sn,omitempty"`
}

// MarshalJSON writes WeChat's form.
func (p NFCSchemePayload) MarshalJSON() ([]byte, error) {
	return json.Marshal(nfcSchemeBody{jumpWxa{p.Path, p.Query, p.EnvVersion}, p.ModelID, p.SN})
}

// UnmarshalJSON reads WeChat's form.
func (p *NFCSchemePayload) UnmarshalJSON(text []byte) error {
	var body nfcSchemeBody
	if err := json.Unmarshal(text, &body); err != nil {
		return err
	}
	*p = NFCSchemePayload{body.JumpWxa.Path, body.JumpWxa.Query, body.JumpWxa.EnvVersion, body.ModelID, body.SN}
	return nil
}

// NewNFCSchemeTask makes a scheme:nfc task. The error is a *[ValidationError].
func NewNFCSchemeTask(app string, p NFCSchemePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeNFCScheme, app, p, opts)
}

// URLLinkPayload is the body of scheme:urllink, an https:// link (URL Link). Result.URLLink
// is the link.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-link/generateUrlLink.html
type URLLinkPayload struct {
	// Path is a released page, without parameters; empty is the home page.
	Path string `json:"path,omitempty"`
	// Query has at most 1,024 letters, digits and !#$&'()*+,/:;=?@-._~%
	Query string `json:"query,omitempty"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"env_version,omitempty"`
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
