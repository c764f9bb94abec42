package tasks

import (
	"net/url"
	"strings"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// Plaintext schemes (明文 URL Scheme) are links that need no call:
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/url-scheme.html

// maxPlaintextQuery is the limit of the query of a plaintext scheme, in characters.
const maxPlaintextQuery = 512

// checkPlaintext checks the body of a plaintext scheme. Its page cannot be left out, and it never
// expires.
func checkPlaintext(c *checker, body strictjson.Value) {
	target, ok := c.required(body, "jump_wxa", strictjson.Object, "the page of a plaintext scheme: {\"path\":…,\"query\":…}")
	if ok {
		c.requiredText(target, "path", textRule{runes: maxPath, noQuery: queryHint, noSlash: true}, "a plaintext scheme names its page, which is declared in the mini program's console")
		c.queryOf(target, maxPlaintextQuery)
		c.envVersion(target)
	}
	for _, name := range [...]string{"is_expire", "expire_type", "expire_time", "expire_interval"} {
		if v := body.Member(name); v.Present() && !v.IsZero() {
			c.fault(v, "a plaintext scheme never expires: leave it out, or leave plaintext out")
		}
	}
}

// PlaintextScheme returns the link of a prepared scheme:generate task with Plaintext, which a worker
// makes without a call to WeChat: it uses no quota, waits for no limit, and never expires.
//
//	weixin://dl/business/?appid=wx0123456789abcdef&path=pages/index/index&query=id%3D1&env_version=release
//
// It opens only a page that is declared in the mini program's console (设置 → 隐私与安全 → 明文 scheme
// 拉起此小程序).
func (e Envelope) PlaintextScheme() string {
	doc, fault := parseBody(e.Body)
	if fault != nil {
		return ""
	}
	defer doc.Release()
	target := doc.Root().Member("jump_wxa")
	link := "weixin://dl/business/?appid=" + e.App + "&path=" + strings.ReplaceAll(escapeQuery(memberText(target, "path")), "%2F", "/")
	for _, name := range [...]string{"query", "env_version"} {
		if value := memberText(target, name); value != "" {
			link += "&" + name + "=" + escapeQuery(value)
		}
	}
	return link
}

// escapeQuery escapes a value of a query. A space becomes %20, as in JavaScript's encodeURIComponent.
func escapeQuery(value string) string {
	return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}
