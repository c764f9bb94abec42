package tasks

import (
	"bytes"
	"encoding/base64"
	"net/url"
)

// Bodies of content checks.

const (
	maxCheckedRunes = 2500
	maxImage        = 1 << 20
)

// checkText takes both versions of msg_sec_check. Version 2 wants scene and openid.
// Version 1, which is {"content":…} alone, still answers but is no longer maintained;
// a body that has scene or openid but no version is a version 2 whose version was
// forgotten, and WeChat would silently answer it by the rules of 1. (A content of
// version 1 could have 500 KB; here the limit of all bodies holds.)
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/msgSecCheck.html
func checkText(c *checker, body value) {
	rule := textRule{}
	switch version := body.member("version"); {
	case !version.isZero():
		if n, ok := c.lenientInteger(body, "version", 1, 2); ok && n == 2 {
			rule.runes = maxCheckedRunes
			c.textCheckV2(body)
		}
	case !body.member("scene").isZero() || !body.member("openid").isZero():
		c.faultAt("body.version", "required with scene and openid: 2")
	}
	c.requiredText(body, "content", rule, "the text to check")
}

// textCheckV2 checks what version 2 has beside content.
func (c *checker) textCheckV2(body value) {
	if !body.member("scene").present() {
		c.faultAt("body.scene", "required: 1 profile, 2 comment, 3 forum, 4 social log")
	} else {
		c.lenientInteger(body, "scene", 1, 4)
	}
	c.opaqueID(body, "openid", "the openid of the author, who visited the mini program within 2 hours")
	for _, name := range [...]string{"title", "nickname", "signature"} {
		c.optionalText(body, name, textRule{})
	}
}

// lenientInteger takes a number in quotes too, as older pages show it.
func (c *checker) lenientInteger(in value, name string, lo, hi int64) (int64, bool) {
	if v := in.member(name); v.kind() == kindString {
		return c.inRange(v, v.unquoted(), lo, hi, "")
	}
	return c.integer(in, name, lo, hi, "")
}

// The members of an image check, of which a body has one. Media is what the upload
// carries; a media_url is fetched by the worker; a media_blob names bytes that our
// Client has put aside, and no producer may name those.
const (
	mediaField     = "media"
	mediaURLField  = "media_url"
	mediaBlobField = "media_blob"
)

// checkImage:
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/sec-check/security.imgSecCheck.html
func checkImage(c *checker, body value) {
	if v := body.member(mediaBlobField); v.kind() != kindAbsent {
		c.fault(v, "made by wxcourier itself: send media or media_url")
		return
	}
	media, link := body.member(mediaField), body.member(mediaURLField)
	switch {
	case media.present() && link.present():
		c.fault(link, "given beside media: keep one of them")
	case media.present():
		if c.want(media, kindString, "the image in base64") {
			c.image(media)
		}
	case link.present():
		if c.want(link, kindString, "") {
			c.imageURL(link)
		}
	default:
		c.faultAt("body.media", "required: the image in base64, or its address as media_url")
	}
}

// image checks the bytes of an image: decodable, a format that WeChat takes, and
// not too large.
func (c *checker) image(v value) {
	s := v.unquoted()
	if bytes.HasPrefix(s, []byte("data:")) {
		c.fault(v, `a data: URL: send the base64 behind its comma alone`)
		return
	}
	image := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(image, s)
	switch {
	case err != nil:
		c.fault(v, "not base64 (standard alphabet, with padding)")
	case n == 0:
		c.fault(v, "empty: the image in base64")
	case ImageType(image[:n]) == "":
		c.fault(v, "neither PNG, JPEG nor GIF by its first bytes, the formats that WeChat takes")
	case n > maxImage:
		c.fault(v, "%d bytes; at most %d (1 MB) are allowed: shrink it", n, maxImage)
	}
}

// ImageType is the media type of an image by its first bytes: "image/png",
// "image/jpeg", "image/gif", or "" for any other.
func ImageType(image []byte) string {
	for _, format := range [...]struct{ magic, mediaType string }{
		{"\x89PNG\r\n\x1a\n", "image/png"},
		{"\xff\xd8\xff", "image/jpeg"},
		{"GIF87a", "image/gif"},
		{"GIF89a", "image/gif"},
	} {
		if bytes.HasPrefix(image, []byte(format.magic)) {
			return format.mediaType
		}
	}
	return ""
}

func (c *checker) imageURL(v value) {
	const maxBytes = 2048
	s := v.unquoted()
	if len(s) > maxBytes {
		c.fault(v, "%d bytes; at most %d are allowed", len(s), maxBytes)
		return
	}
	u, err := url.Parse(string(s))
	switch {
	case err != nil || u.Host == "":
		c.fault(v, "not an address: https://host/path is expected")
	case u.Scheme != "https":
		c.fault(v, "not an https address")
	case u.User != nil:
		c.fault(v, "holds a user name or password: leave them out")
	}
}
