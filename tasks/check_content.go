package tasks

import (
	"bytes"
	"encoding/base64"
	"net/url"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// The bodies of content checks.

const (
	maxCheckedRunes = 2500
	maxImage        = 1 << 20
)

// checkText checks the body of seccheck:text, in both versions of msg_sec_check. Version 2
// requires scene and openid. Version 1 is {"content":…} alone; it still works, but WeChat no
// longer maintains it. A body with scene or openid but without version is refused: WeChat
// would silently treat it as version 1. (Version 1 allows a content of 500 KB; here the
// limit of all bodies applies.)
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/msgSecCheck.html
func checkText(c *checker, body strictjson.Value) {
	rule := textRule{}
	switch version := body.Member("version"); {
	case !version.IsZero():
		if n, ok := c.lenientInteger(body, "version", 1, 2); ok && n == 2 {
			rule.runes = maxCheckedRunes
			c.textCheckV2(body)
		}
	case !body.Member("scene").IsZero() || !body.Member("openid").IsZero():
		c.faultAt("body.version", "required with scene and openid: 2")
	}
	c.requiredText(body, "content", rule, "the text to check")
}

// textCheckV2 checks the members of version 2 except content.
func (c *checker) textCheckV2(body strictjson.Value) {
	if !body.Member("scene").Present() {
		c.faultAt("body.scene", "required: 1 profile, 2 comment, 3 forum, 4 social log")
	} else {
		c.lenientInteger(body, "scene", 1, 4)
	}
	c.opaqueID(body, "openid", "the openid of the author, who visited the mini program within 2 hours")
	for _, name := range [...]string{"title", "nickname", "signature"} {
		c.optionalText(body, name, textRule{})
	}
}

// lenientInteger is like integer, but also accepts a number in quotes, as older pages of
// WeChat show it.
func (c *checker) lenientInteger(in strictjson.Value, name string, lo, hi int64) (int64, bool) {
	if v := in.Member(name); v.Kind() == strictjson.String {
		return c.inRange(v, v.Unquoted(), lo, hi, "")
	}
	return c.integer(in, name, lo, hi, "")
}

// checkMedia checks the body of seccheck:media. Only version 2 of media_check_async is allowed: the
// push of version 1 has no verdict of the same form.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/sec-center/sec-check/mediaCheckAsync.html
func checkMedia(c *checker, body strictjson.Value) {
	if v, ok := c.required(body, mediaURLField, strictjson.String, "the http:// or https:// address of the sound or the image"); ok {
		u, err := url.Parse(string(v.Unquoted()))
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			c.fault(v, "not an address: https://host/path is expected")
		}
	}
	for _, m := range [...]struct {
		name   string
		lo, hi int64
		desc   string
	}{
		{"media_type", 1, 2, "1 sound, 2 image"},
		{"scene", 1, 4, "1 profile, 2 comment, 3 forum, 4 social log"},
	} {
		if !body.Member(m.name).Present() {
			c.faultAt("body."+m.name, "required: %s", m.desc)
		} else {
			c.lenientInteger(body, m.name, m.lo, m.hi)
		}
	}
	if v := body.Member("version"); !v.Present() {
		c.faultAt("body.version", "required: 2")
	} else if raw := string(v.Raw()); raw != "2" && raw != `"2"` {
		c.fault(v, "must be 2: the push of version 1 has no verdict of this form")
	}
	c.opaqueID(body, "openid", "the openid of the author, who visited the mini program within 2 hours")
}

// The members of an image check; a body has one of them. media holds the image. The worker
// downloads the image at a media_url. A media_blob refers to an image that our Client has
// stored; producers must not set it.
const (
	mediaField     = "media"
	mediaURLField  = "media_url"
	mediaBlobField = "media_blob"
)

// checkImage checks the body of seccheck:image:
// https://developers.weixin.qq.com/miniprogram/dev/api-backend/open-api/sec-check/security.imgSecCheck.html
func checkImage(c *checker, body strictjson.Value) {
	if v := body.Member(mediaBlobField); v.Kind() != strictjson.Absent {
		c.fault(v, "set by wxcourier only: send media or media_url")
		return
	}
	media, link := body.Member(mediaField), body.Member(mediaURLField)
	switch {
	case media.Present() && link.Present():
		c.fault(link, "given together with media: keep one of them")
	case media.Present():
		if c.want(media, strictjson.String, "the image in base64") {
			c.image(media)
		}
	case link.Present():
		if c.want(link, strictjson.String, "") {
			c.imageURL(link)
		}
	default:
		c.faultAt("body.media", "required: the image in base64, or its address as media_url")
	}
}

// image checks that an image is base64, in a format that WeChat accepts and not too large.
func (c *checker) image(v strictjson.Value) {
	s := v.Unquoted()
	if bytes.HasPrefix(s, []byte("data:")) {
		c.fault(v, `a data: URL: send only the base64 after its comma`)
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

// ImageType returns the media type of an image by its first bytes: "image/png",
// "image/jpeg", "image/gif", or "" for any other type.
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

// imageURL checks the address of an image.
func (c *checker) imageURL(v strictjson.Value) {
	const maxBytes = 2048
	s := v.Unquoted()
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
