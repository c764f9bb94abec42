package tasks

import (
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// The bodies of links, and what bodies of links and codes have in common.

// queryMarks are the characters that a query may contain besides letters and digits:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateScheme.html
// A scene may contain the same characters except the percent sign:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/qr-code/getUnlimitedQRCode.html
const (
	sceneMarks = "!#$&'()*+,/:;=?@-._~"
	queryMarks = sceneMarks + "%"
)

func isSceneChar(r rune) bool { return isAlnum(r) || strings.ContainsRune(sceneMarks, r) }
func isQueryChar(r rune) bool { return isAlnum(r) || strings.ContainsRune(queryMarks, r) }

// maxPath is the limit of a path, in characters, on those of WeChat's pages that state one.
const maxPath = 1024

// checkScheme checks the body of scheme:generate:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateScheme.html
func checkScheme(c *checker, body strictjson.Value) {
	if c.plaintext {
		checkPlaintext(c, body)
		return
	}
	if target, ok := c.optional(body, "jump_wxa", strictjson.Object); ok {
		c.target(target)
	}
	c.expiry(body)
}

// checkURLLink checks the body of scheme:urllink:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-link/generateUrlLink.html
func checkURLLink(c *checker, body strictjson.Value) {
	c.target(body)
	c.expiry(body)
	if cloud, ok := c.optional(body, "cloud_base", strictjson.Object); ok {
		c.requiredText(cloud, "env", textRule{}, "the id of the cloud environment")
		for _, name := range [...]string{"domain", "path", "resource_appid"} {
			c.optionalText(cloud, name, textRule{})
		}
		c.query(cloud)
	}
}

// permanentField is the member of a short link's body that makes it permanent: an account has
// 100,000 of those for life (85400).
const permanentField = "is_permanent"

// checkShortLink checks the body of scheme:shortlink:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/short-link/generateShortLink.html
// WeChat truncates a title of more than 20 characters.
func checkShortLink(c *checker, body strictjson.Value) {
	c.requiredText(body, "page_url", textRule{runes: maxPath}, "a released page, with its parameters")
	c.optionalText(body, "page_title", textRule{})
	c.flag(body, permanentField)
}

// checkNFCScheme checks the body of scheme:nfc:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/qrcode-link/url-scheme/generateNFCScheme.html
func checkNFCScheme(c *checker, body strictjson.Value) {
	if target, ok := c.optional(body, "jump_wxa", strictjson.Object); ok {
		c.target(target)
	}
	c.requiredText(body, "model_id", textRule{}, "the id of the device model, from WeChat's console")
	c.optionalText(body, "sn", textRule{})
}

// target checks the page that a link opens.
func (c *checker) target(in strictjson.Value) {
	c.optionalText(in, "path", textRule{runes: maxPath, noQuery: queryHint})
	c.query(in)
	c.envVersion(in)
}

func (c *checker) query(in strictjson.Value) { c.queryOf(in, 1024) }

func (c *checker) queryOf(in strictjson.Value, most int) {
	c.optionalText(in, "query", textRule{runes: most, allowed: isQueryChar, allowedNames: "letters, digits and " + queryMarks})
}

func (c *checker) envVersion(in strictjson.Value) {
	c.oneOf(in, "env_version", "release", "trial", "develop")
}

// expiry checks when a link expires. Two forms are accepted: the older one, with is_expire
// (false, the default, means never) and up to a year, and the current one, without is_expire
// and up to 30 days. A form between the two is left to WeChat.
func (c *checker) expiry(body strictjson.Value) {
	const (
		longest     = 366 * 24 * time.Hour // the year of the older page; it may be a leap year
		shortest    = time.Minute
		longestDays = 365
	)
	expires, stated := c.flag(body, "is_expire")
	kind, hasKind := c.integer(body, "expire_type", 0, 1, "0 (at expire_time) or 1 (after expire_interval days)")
	if stated && !expires {
		return
	}
	if kind == 1 {
		if !body.Member("expire_interval").Present() {
			c.faultAt("body.expire_interval", "required with expire_type 1: the days, 1 to 30")
		}
		c.integer(body, "expire_interval", 1, longestDays, "days")
		return
	}
	v := body.Member("expire_time")
	if v.IsZero() {
		if expires && (hasKind || !body.Member("expire_type").Present()) {
			c.faultAt("body.expire_time", "required when is_expire is true and expire_type is 0: the end as Unix time in seconds")
		}
		return
	}
	at, ok := c.integer(body, "expire_time", 0, maxUnixMillis, "")
	if !ok {
		return
	}
	switch end := time.Unix(at, 0); {
	case at >= maxUnixSeconds:
		c.fault(v, "looks like milliseconds: Unix time in seconds is expected")
	case !end.After(c.from.Add(shortest)):
		c.fault(v, "%s the time of sending; more than 1 minute after it is required (85401)", timeOffset(c.from.Sub(end)))
	case end.After(c.from.Add(longest)):
		c.fault(v, "%d days after the time of sending; WeChat allows 30, and 1 year at most (85401)", int(end.Sub(c.from).Hours()/24))
	}
}

const (
	maxUnixSeconds = 100_000_000_000 // the year 5138; as milliseconds, the year 1973
	maxUnixMillis  = maxUnixSeconds * 1000
)

// timeOffset describes a time that is d before another one: "2h0m0s before".
func timeOffset(d time.Duration) string {
	if d <= 0 {
		return "less than a minute after"
	}
	return d.Truncate(time.Second).String() + " before"
}

// flag checks an optional boolean. It returns its value, and whether it is present.
func (c *checker) flag(in strictjson.Value, name string) (is, present bool) {
	v, ok := c.optional(in, name, strictjson.Bool)
	return ok && v.Raw()[0] == 't', ok
}

// integer checks an optional integer from lo to hi and returns it. desc names its unit or
// the meaning of its values.
func (c *checker) integer(in strictjson.Value, name string, lo, hi int64, desc string) (int64, bool) {
	v, ok := c.optional(in, name, strictjson.Number)
	if !ok {
		return 0, false
	}
	return c.inRange(v, v.Raw(), lo, hi, desc)
}

// inRange parses digits as an integer and checks that it is from lo to hi.
func (c *checker) inRange(v strictjson.Value, digits []byte, lo, hi int64, desc string) (int64, bool) {
	if desc != "" {
		desc = ": " + desc
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || n < lo || n > hi {
		c.fault(v, "out of range; must be a whole number from %d to %d%s", lo, hi, desc)
		return 0, false
	}
	return n, true
}
