package tasks

import "github.com/hibiken/asynq"

// TextCheckPayload is the body of seccheck:text. Its result has WeChat's advice as
// Suggest: an accepted check may still say risky.
//
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/msgSecCheck.html
type TextCheckPayload struct {
	// Content is the text, at most 2,500 characters. Required.
	Content string `json:"content"`
	// Version is 2, which NewTextCheckTask sets where it is 0.
	Version int `json:"version"`
	// Scene is 1 profile, 2 comment, 3 forum or 4 social log. Required.
	Scene int `json:"scene"`
	// OpenID is the author's, who must have visited the mini program within the last
	// two hours when the check is sent (61010). Required.
	OpenID   string `json:"openid"`
	Title    string `json:"title,omitempty"`
	Nickname string `json:"nickname,omitempty"`
	// Signature counts in scene 1 only.
	Signature string `json:"signature,omitempty"`
}

// NewTextCheckTask makes a seccheck:text task. The error is a *[ValidationError].
func NewTextCheckTask(app string, p TextCheckPayload, opts ...Option) (*asynq.Task, error) {
	if p.Version == 0 {
		p.Version = 2
	}
	return newTyped(TypeTextCheck, app, p, opts)
}

// ImageCheckPayload is the body of seccheck:image: either Media or MediaURL. WeChat
// no longer maintains the endpoint, which still answers. The image is a PNG, JPEG or
// GIF of at most 1 MB; WeChat asks for at most 750×1334 pixels.
//
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/sec-check/security.imgSecCheck.html
type ImageCheckPayload struct {
	// Media is the image itself; in JSON it is base64.
	Media []byte `json:"media,omitempty"`
	// MediaURL is an https:// address, which the worker fetches from allowed hosts.
	MediaURL string `json:"media_url,omitempty"`
	// MediaBlob is the SHA-256, in hexadecimal digits, of an image that the Client
	// has put aside. Producers leave it empty: Prepare refuses it.
	MediaBlob string `json:"media_blob,omitempty"`
}

// NewImageCheckTask makes a seccheck:image task. The error is a *[ValidationError].
func NewImageCheckTask(app string, p ImageCheckPayload, opts ...Option) (*asynq.Task, error) {
	return newTyped(TypeImageCheck, app, p, opts)
}
