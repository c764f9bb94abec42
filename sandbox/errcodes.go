package sandbox

import (
	"fmt"
	"time"
)

// Unanswered stands as the errcode of calls that were not accepted and got no answer of WeChat's: reset, hang, garbage,
// badgateway.
const Unanswered = -1000

// refusal is an errcode other than 0, with WeChat's wording.
type refusal struct {
	code int
	msg  string
}

func refuse(code int) *refusal { return &refusal{code: code, msg: errmsg(code)} }

// errmsg is WeChat's wording where it is known from its pages or from answers that users show, and short English elsewhere.
// Source: https://developers.weixin.qq.com/doc/oplatform/developers/errCode/errCode.html
func errmsg(code int) string {
	texts := [...]struct {
		code int
		text string
	}{
		{-1, "system error"},
		{40001, "invalid credential, access_token is invalid or not latest, could get access_token by getStableAccessToken, more details at https://mmbizurl.cn/s/JtxxFh33r"},
		{40002, "invalid grant_type"},
		{40003, "invalid openid"},
		{40006, "invalid media size"},
		{40007, "invalid media_id"},
		{40008, "invalid message type"},
		{40013, "invalid appid"},
		{40014, "invalid access_token"},
		{40037, "invalid template_id"},
		{40066, "invalid url"},
		{40097, "invalid args"},
		{40125, "invalid appsecret"},
		{40129, "invalid scene"},
		{40137, "invalid image format"},
		{40159, "invalid length for path, or the data is not json string"},
		{40165, "invalid weapp pagepath"},
		{40169, "invalid length for scene, or the data is not json string"},
		{40212, "invalid query"},
		{41001, "access_token missing"},
		{41002, "appid missing"},
		{41004, "appsecret missing"},
		{41005, "media data missing"},
		{41030, "invalid page"},
		{42001, "access_token expired"},
		{43001, "require GET method"},
		{43002, "require POST method"},
		{43004, "require subscribe"},
		{43101, "user refuse to accept the msg"},
		{43108, "Cannot make concurrent calls to the same OpenID, please try again"},
		{44002, "empty post data"},
		{44003, "empty news data"},
		{44004, "empty content"},
		{44990, "reach max api second frequence limit"},
		{44991, "reach max api minute frequence limit"},
		{44993, "reach max api day frequence limit"},
		{45002, "content size out of limit"},
		{45008, "article size out of limit"},
		{45009, "reach max api daily quota limit"},
		{45011, "api minute-quota reach limit, must slower, retry next minute"},
		{45015, "response out of time limit or subscription is canceled"},
		{45029, "qrcode count out of limit"},
		{45109, "This API has been unsupported"},
		{47001, "data format error"},
		{48006, "forbid to clear quota because of reaching the limit"},
		{76003, "invalid cgi_path"},
		{76021, "cgi_path not found"},
		{76022, "could not use this cgi_path, no permission"},
		{85096, "not allow include scancode_time field"},
		{85401, "invalid expire_time"},
		{85402, "invalid env_version"},
		{87014, "risky content"},
	}
	for _, t := range texts {
		if t.code == code {
			return t.text
		}
	}
	return "error"
}

// rid is the request id that WeChat puts at the end of an errmsg: the time and two words, in hexadecimal.
func rid(at time.Time, serial uint64) string {
	mixed := scramble(serial)
	return fmt.Sprintf("%08x-%08x-%08x", uint32(at.Unix()), uint32(mixed>>32), uint32(mixed)) //nolint:gosec // only the low words are shown
}

// scramble spreads consecutive numbers over all 64 bits (the finaliser of SplitMix64), one to one.
func scramble(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
