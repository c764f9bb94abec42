package tasks

import "strings"

// The bodies of mini program codes.

// checkUnlimitedCode checks the body of code:unlimited:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html
func checkUnlimitedCode(c *checker, body value) {
	c.requiredText(body, "scene", textRule{runes: 32, allowed: isSceneChar, allowedNames: "letters, digits and " + sceneMarks},
		"the scene that the page receives, 1 to 32 characters")
	c.optionalText(body, "page", textRule{runes: maxPath, noSlash: true, noQuery: `put parameters into "scene"`})
	c.flag(body, "check_path")
	c.picture(body)
}

// checkCode checks the body of code:wxacode:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getQRCode.html
func checkCode(c *checker, body value) {
	c.codePath(body, textRule{runes: maxPath})
	c.picture(body)
}

// checkQRCode checks the body of code:qrcode:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/createQRCode.html
func checkQRCode(c *checker, body value) {
	c.codePath(body, textRule{bytes: 128})
	c.width(body)
	c.reserved(body)
}

// codePath checks the page that a code opens, with its parameters.
func (c *checker) codePath(body value, rule textRule) {
	c.requiredText(body, "path", rule, "the page to open, with its parameters")
	v := body.member("path")
	if v.kind() != kindString {
		return
	}
	_, query, _ := strings.Cut(string(v.unquoted()), "?")
	for parameter := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(parameter, "="); name == reservedField {
			c.fault(v, "has the parameter %s, which WeChat reserves (85096): leave it out", reservedField)
		}
	}
}

// picture checks the members that both mini program codes have: [Picture].
func (c *checker) picture(body value) {
	c.envVersion(body)
	c.width(body)
	c.flag(body, "auto_color")
	c.flag(body, "is_hyaline")
	if color, ok := c.optional(body, "line_color", kindObject); ok {
		for _, name := range [...]string{"r", "g", "b"} {
			c.colorPart(color, name)
		}
	}
	c.reserved(body)
}

// width checks the width in pixels; 0 counts as absent.
func (c *checker) width(body value) {
	if body.member("width").isZero() {
		return
	}
	c.integer(body, "width", 280, 1280, "pixels")
}

// colorPart checks one part of a colour. WeChat's pages show it both as a number and in
// quotes.
func (c *checker) colorPart(in value, name string) {
	v := in.member(name)
	switch {
	case v.isZero():
	case v.kind() == kindString:
		c.inRange(v, v.unquoted(), 0, 255, "")
	default:
		c.integer(in, name, 0, 255, "")
	}
}

// reservedField is a parameter that WeChat reserves.
const reservedField = "scancode_time"

// reserved refuses a body that has reservedField.
func (c *checker) reserved(body value) {
	if v := body.member(reservedField); v.kind() != kindAbsent {
		c.fault(v, "WeChat reserves this field (85096): leave it out")
	}
}
