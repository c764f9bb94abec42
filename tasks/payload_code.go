package tasks

import "github.com/hibiken/asynq"

// Picture describes the look of a mini program code.
type Picture struct {
	// Width is in pixels, 280 to 1280; 0 means WeChat's default (430).
	Width int `json:"width,omitempty"`
	// AutoColor lets WeChat choose the colour of the lines.
	AutoColor bool `json:"auto_color,omitempty"`
	// LineColor is the colour of the lines if AutoColor is false; nil is black.
	LineColor *Color `json:"line_color,omitempty"`
	// IsHyaline makes the background transparent.
	IsHyaline bool `json:"is_hyaline,omitempty"`
}

// Color is a colour in RGB, each part from 0 to 255.
type Color struct {
	R uint8 `json:"r"`
	G uint8 `json:"g"`
	B uint8 `json:"b"`
}

// UnlimitedCodePayload is the body of code:unlimited, a mini program code. Their number is
// not limited, but at most 5,000 a minute can be made.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html
type UnlimitedCodePayload struct {
	// Scene is passed to the page: 1 to 32 letters, digits and !#$&'()*+,/:;=?@-._~
	// Required.
	Scene string `json:"scene"`
	// Page is a page without a leading "/" and without parameters; empty is the home
	// page.
	Page string `json:"page,omitempty"`
	// CheckPath requires that the page is released; nil means WeChat's default (true).
	CheckPath *bool `json:"check_path,omitempty"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"env_version,omitempty"`
	Picture
}

// NewUnlimitedCodeTask makes a code:unlimited task. The error is a *[ValidationError].
func NewUnlimitedCodeTask(app string, p UnlimitedCodePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeUnlimitedCode, app, p, opts)
}

// CodePayload is the body of code:wxacode, a mini program code. An app may make 100,000 of
// these and of code:qrcode together in total.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getQRCode.html
type CodePayload struct {
	// Path is a page with its parameters, at most 1,024 characters. Required.
	Path string `json:"path"`
	// EnvVersion is release (WeChat's default), trial or develop.
	EnvVersion string `json:"env_version,omitempty"`
	Picture
}

// NewCodeTask makes a code:wxacode task. The error is a *[ValidationError].
func NewCodeTask(app string, p CodePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeCode, app, p, opts)
}

// QRCodePayload is the body of code:qrcode, a square QR code. An app may make 100,000 of
// these and of code:wxacode together in total.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/createQRCode.html
type QRCodePayload struct {
	// Path is a page with its parameters, at most 128 bytes. Required.
	Path string `json:"path"`
	// Width is in pixels, 280 to 1280; 0 means WeChat's default (430).
	Width int `json:"width,omitempty"`
}

// NewQRCodeTask makes a code:qrcode task. The error is a *[ValidationError].
func NewQRCodeTask(app string, p QRCodePayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeQRCode, app, p, opts)
}
