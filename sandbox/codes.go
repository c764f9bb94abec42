package sandbox

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

const (
	sceneLetters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$&'()*+,/:;=?@-._~"
	maxSceneChars  = 32   // characters
	maxPathChars   = 1024 // characters, getwxacode
	maxQRPathBytes = 128  // bytes, createwxaqrcode
	defaultWidth   = 430  // pixels
	minWidth       = 280
	maxWidth       = 1280
)

// codeStyle holds the fields for the appearance of a code.
type codeStyle struct {
	EnvVersion string                 `json:"env_version"`
	Width      int                    `json:"width"`
	AutoColor  bool                   `json:"auto_color"`
	LineColor  object[map[string]any] `json:"line_color"`
	IsHyaline  bool                   `json:"is_hyaline"`
}

func (d codeStyle) check() *refusal {
	if !oneOf(d.EnvVersion, "", "release", "trial", "develop") || d.Width != 0 && (d.Width < minWidth || d.Width > maxWidth) {
		return refuse(40097)
	}
	return nil
}

func (d codeStyle) width() int {
	if d.Width == 0 {
		return defaultWidth
	}
	return d.Width
}

func (d codeStyle) transparent() bool { return d.IsHyaline }

// picture is a request whose answer is an image.
type picture interface {
	width() int
	transparent() bool // without a background, which requires PNG
	target() string    // the page that the code opens
}

// unlimitedRequest is the body of getwxacodeunlimit.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_getunlimitedqrcode.html
type unlimitedRequest struct {
	anonymous
	codeStyle
	Scene     string `json:"scene"`
	Page      string `json:"page"`
	CheckPath *bool  `json:"check_path"` // nil means true
}

func (q *unlimitedRequest) faultSource() string { return q.Scene }
func (q *unlimitedRequest) target() string      { return q.Page + "?scene=" + q.Scene }

func (q *unlimitedRequest) check(env *checkEnv) *refusal {
	checkPath := q.CheckPath == nil || *q.CheckPath
	switch {
	case q.Scene == "", len([]rune(q.Scene)) > maxSceneChars:
		return refuse(40169)
	case strings.Contains(q.Scene+q.Page, "scancode_time"):
		return refuse(85096)
	case strings.Trim(q.Scene, sceneLetters) != "":
		return refuse(40129)
	case checkPath && (strings.HasPrefix(q.Page, "/") || strings.Contains(q.Page, "?") || !env.hasPage(q.Page)):
		return refuse(41030)
	}
	return q.codeStyle.check()
}

// codeRequest is the body of getwxacode.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_getqrcode.html
type codeRequest struct {
	anonymous
	codeStyle
	Path string `json:"path"`
}

func (q *codeRequest) faultSource() string { return queryFault(q.Path) }
func (q *codeRequest) target() string      { return q.Path }

func (q *codeRequest) check(*checkEnv) *refusal {
	if refused := checkCodePath(q.Path, len([]rune(q.Path)), maxPathChars); refused != nil {
		return refused
	}
	return q.codeStyle.check()
}

// qrCodeRequest is the body of createwxaqrcode.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/qr-code/api_createqrcode.html
type qrCodeRequest struct {
	anonymous
	codeStyle
	Path string `json:"path"`
}

func (q *qrCodeRequest) faultSource() string { return queryFault(q.Path) }
func (q *qrCodeRequest) target() string      { return q.Path }

func (q *qrCodeRequest) transparent() bool { return false } // is_hyaline is not among its fields

func (q *qrCodeRequest) check(*checkEnv) *refusal {
	if refused := checkCodePath(q.Path, len(q.Path), maxQRPathBytes); refused != nil {
		return refused
	}
	return q.codeStyle.check()
}

func checkCodePath(path string, length, limit int) *refusal {
	switch {
	case length == 0, length > limit:
		return refuse(40159)
	case strings.Contains(path, "scancode_time"):
		return refuse(85096)
	}
	return nil
}

// grantLimitedCode counts a code of the two endpoints that share a lifetime quota.
func grantLimitedCode(s *Server, x *exchange) (refused *refusal) {
	parameters := s.hashOf(x.row.path, fmt.Sprintf("%+v", x.req))
	x.numUsed, refused = s.limits.countTotal(x.app, x.row.path, parameters)
	return refused
}

func answerPicture(s *Server, x *exchange) reply {
	p, _ := x.req.(picture)
	kind := "image/jpeg"
	if p.transparent() {
		kind = "image/png"
	}
	return reply{status: http.StatusOK, contentType: kind, numUsed: x.numUsed, body: s.pictures.Draw(madeup.Picture{Width: p.width(), Transparent: p.transparent(), Target: p.target()})}
}
