package tasks

import "github.com/hibiken/asynq"

// TextCheckPayload is the body of seccheck:text. Result.Suggest has WeChat's advice: a check
// with the outcome accepted may advise "risky".
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/msgSecCheck.html
type TextCheckPayload struct {
	// Content is the text, at most 2,500 characters. Required.
	Content string `json:"content"`
	// Version is 2. NewTextCheckTask replaces 0 by 2.
	Version int `json:"version"`
	// Scene is 1 profile, 2 comment, 3 forum or 4 social log. Required.
	Scene int `json:"scene"`
	// OpenID is the openid of the author, who must have visited the mini program in the two
	// hours before the check is sent (61010 otherwise). Required.
	OpenID   string `json:"openid"`
	Title    string `json:"title,omitempty"`
	Nickname string `json:"nickname,omitempty"`
	// Signature is used in scene 1 only.
	Signature string `json:"signature,omitempty"`
}

// NewTextCheckTask makes a seccheck:text task. The error is a *[ValidationError].
func NewTextCheckTask(app string, p TextCheckPayload, opts ...Option) (*asynq.Task, error) {
	if p.Version == 0 {
		p.Version = 2
	}
	return newTyped(TypeTextCheck, app, p, opts)
}

// MediaCheckPayload is the body of seccheck:media, a check of a sound or an image that WeChat
// downloads by itself. WeChat sends the verdict within 30 minutes to the callback of the app, which
// must be configured (`apps[].callback`); the task waits for it. A check without a verdict ends as
// [OutcomeUnknown], with the reason no_callback.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/mediaCheckAsync.html
type MediaCheckPayload struct {
	// MediaURL is an address from which WeChat can download a file of at most 10 MB. Required.
	MediaURL string `json:"media_url"`
	// MediaType is 1 for a sound and 2 for an image. Required.
	MediaType int `json:"media_type"`
	// Version is 2. NewMediaCheckTask replaces 0 by 2.
	Version int `json:"version"`
	// Scene is 1 profile, 2 comment, 3 forum or 4 social log. Required.
	Scene int `json:"scene"`
	// OpenID is the openid of the author, who must have visited the mini program in the two
	// hours before the check is sent (61010 otherwise). Required.
	OpenID string `json:"openid"`
}

// NewMediaCheckTask makes a seccheck:media task. The error is a *[ValidationError].
func NewMediaCheckTask(app string, p MediaCheckPayload, opts ...Option) (*asynq.Task, error) {
	if p.Version == 0 {
		p.Version = 2
	}
	return newTyped(TypeMediaCheck, app, p, opts)
}

// ImageCheckPayload is the body of seccheck:image, with either Media or MediaURL. The
// endpoint still works, but WeChat no longer maintains it. The image is a PNG, JPEG or GIF of
// at most 1 MB; WeChat states a limit of 750×1334 pixels.
//
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/sec-check/security.imgSecCheck.html
type ImageCheckPayload struct {
	// Media is the image itself; in JSON it is base64.
	Media []byte `json:"media,omitempty"`
	// MediaURL is an https:// address on an allowed host, from which the worker downloads
	// the image.
	MediaURL string `json:"media_url,omitempty"`
	// MediaBlob is the SHA-256, in hexadecimal digits, of an image that the Client has
	// stored. Producers leave it empty: Prepare refuses it.
	MediaBlob string `json:"media_blob,omitempty"`
}

// NewImageCheckTask makes a seccheck:image task. The error is a *[ValidationError].
func NewImageCheckTask(app string, p ImageCheckPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeImageCheck, app, p, opts)
}
