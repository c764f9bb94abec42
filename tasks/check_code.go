package tasks

import (
	"strings"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// The bodies of mini program codes.

// checkUnlimitedCode checks the body of code:unlimited:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html
func checkUnlimitedCode(c *checker, body strictjson.Value) {
	c.requiredText(body, "scene", textRule{runes: 32, allowed: isSceneChar, allowedNames: "letters, digits and " + sceneMarks},
		"the scene that the page receives, 1 to 32 characters")
	c.optionalText(body, "page", textRule{runes: maxPath, noSlash: true, noQuery: `put parameters into "scene"`})
	c.flag(body, "check_path")
	c.picture(body)
}

// checkCode checks the body of code:wxacode:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getQRCode.html
func checkCode(c *checker, body strictjson.Value) {
	c.codePath(body, textRule{runes: maxPath})
	c.picture(body)
}

// checkQRCode checks the body of code:qrcode:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/createQRCode.html
func checkQRCode(c *checker, body strictjson.Value) {
	c.codePath(body, textRule{bytes: 128})
	c.width(body)
	c.reserved(body)
}

// codePath checks the page that a code opens, with its parameters.
func (c *checker) codePath(body strictjson.Value, rule textRule) {
	c.requiredText(body, "path", rule, "the page to open, with its parameters")
	v := body.Member("path")
	if v.Kind() != strictjson.String {
		return
	}
	_, query, _ := strings.Cut(string(v.Unquoted()), "?")
	for parameter := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(parameter, "="); name == reservedField {
			c.fault(v, "has the parameter %s, which WeChat reserves (85096): leave it out", reservedField)
		}
	}
}

// picture checks the members that both mini program codes have: [Picture].
func (c *checker) picture(body strictjson.Value) {
	c.envVersion(body)
	c.width(body)
	c.flag(body, "auto_color")
	c.flag(body, "is_hyaline")
	if color, ok := c.optional(body, "line_color", strictjson.Object); ok {
		for _, name := range [...]string{"r", "g", "b"} {
			c.colorPart(color, name)
		}
	}
	c.reserved(body)
}

// width checks the width in pixels; 0 counts as absent.
func (c *checker) width(body strictjson.Value) {
	if body.Member("width").IsZero() {
		return
	}
	c.integer(body, "width", 280, 1280, "pixels")
}

// colorPart checks one part of a colour. WeChat's pages show it both as a number and in
// quotes.
func (c *checker) colorPart(in strictjson.Value, name string) {
	v := in.Member(name)
	switch {
	case v.IsZero():
	case v.Kind() == strictjson.String:
		c.inRange(v, v.Unquoted(), 0, 255, "")
	default:
		c.integer(in, name, 0, 255, "")
	}
}

// reservedField is a parameter that WeChat reserves.
const reservedField = "scancode_time"

// reserved refuses a body that has reservedField.
func (c *checker) reserved(body strictjson.Value) {
	if v := body.Member(reservedField); v.Kind() != strictjson.Absent {
		c.fault(v, "WeChat reserves this field (85096): leave it out")
	}
}
