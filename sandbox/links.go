package sandbox

import (
	"cmp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

const (
	maxQueryChars = 1024 // characters
	minExpiry     = time.Minute
	maxExpiry     = 30 * 24 * time.Hour
	maxExpiryDays = 30
	maxTitleChars = 20 // characters
	queryLetters  = sceneLetters + "%"
)

// expiry is the lifetime of a link: until a time (type 0) or a number of days (type 1).
type expiry struct {
	IsExpire bool  `json:"is_expire"` // from older pages: requires an expiry
	Type     int   `json:"expire_type"`
	Time     int64 `json:"expire_time"`     // Unix seconds
	Interval int   `json:"expire_interval"` // days
}

func (e expiry) check(now time.Time) *refusal {
	switch e.Type {
	case 0:
		if e.Time == 0 && !e.IsExpire {
			return nil
		}
		if left := time.Unix(e.Time, 0).Sub(now); left <= minExpiry || left > maxExpiry {
			return refuse(85401)
		}
	case 1:
		if e.Interval < 1 || e.Interval > maxExpiryDays {
			return refuse(85401)
		}
	default:
		return refuse(40097)
	}
	return nil
}

// target is a page of the mini program and its query.
type target struct {
	Path       string `json:"path"`
	Query      string `json:"query"`
	EnvVersion string `json:"env_version"`
}

func (t target) check(env *checkEnv) *refusal {
	switch {
	case strings.Contains(t.Path, "?"), !env.hasPage(t.Path):
		return refuse(40165)
	case len(t.Query) > maxQueryChars, strings.Trim(t.Query, queryLetters) != "":
		return refuse(40212)
	case !oneOf(t.EnvVersion, "", "release", "trial", "develop"):
		return refuse(85402)
	}
	return nil
}

// schemeRequest is the body of generatescheme.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-scheme/api_generatescheme.html
type schemeRequest struct {
	anonymous
	expiry
	Jump object[target] `json:"jump_wxa"`
}

func (q *schemeRequest) faultSource() string { return q.Jump.Value.Query }

func (q *schemeRequest) check(env *checkEnv) *refusal {
	if refused := q.Jump.Value.check(env); refused != nil {
		return refused
	}
	return q.expiry.check(env.now())
}

// urlLinkRequest is the body of generate_urllink.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-link/api_generateurllink.html
type urlLinkRequest struct {
	anonymous
	expiry
	target
}

func (q *urlLinkRequest) faultSource() string { return q.Query }

func (q *urlLinkRequest) check(env *checkEnv) *refusal {
	if refused := q.target.check(env); refused != nil {
		return refused
	}
	return q.expiry.check(env.now())
}

func answerScheme(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		plainAnswer
		OpenLink string `json:"openlink"`
	}{plainAnswer{ErrMsg: "ok"}, "weixin://dl/business/?t=" + ticket(x.serial)})
}

func answerURLLink(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		plainAnswer
		URLLink string `json:"url_link"`
	}{plainAnswer{ErrMsg: "ok"}, "https://wxaurl.cn/" + ticket(x.serial)})
}

// nfcRequest is the body of generatenfcscheme. The sandbox does not know whether a model requires sn.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/url-scheme/api_generatenfcscheme.html
type nfcRequest struct {
	anonymous
	Jump    object[target] `json:"jump_wxa"`
	ModelID string         `json:"model_id"`
	SN      string         `json:"sn"`
}

func (q *nfcRequest) faultSource() string { return q.Jump.Value.Query }

func (q *nfcRequest) check(env *checkEnv) *refusal {
	if q.ModelID == "" {
		return refuse(9800003)
	}
	return q.Jump.Value.check(env)
}

// shortLinkRequest is the body of genwxashortlink.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/qrcode-link/short-link/api_generateshortlink.html
type shortLinkRequest struct {
	anonymous
	PageURL   string `json:"page_url"` // with its query
	PageTitle string `json:"page_title"`
	Permanent bool   `json:"is_permanent"`
}

func (q *shortLinkRequest) faultSource() string { return queryFault(q.PageURL) }

func (q *shortLinkRequest) check(env *checkEnv) *refusal {
	if q.PageURL == "" || utf8.RuneCountInString(q.PageURL) > maxPathChars || !env.hasPage(q.PageURL) {
		return refuse(40066)
	}
	return nil
}

// grantShortLink counts a permanent link towards the lifetime quota.
func grantShortLink(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*shortLinkRequest)
	if !q.Permanent {
		return nil
	}
	_, refused := s.limits.countTotal(x.app, x.row.path, s.hashOf(q.PageURL, q.PageTitle))
	return refused
}

func answerShortLink(_ *Server, x *exchange) reply {
	q, _ := x.req.(*shortLinkRequest)
	return jsonReply(struct {
		plainAnswer
		Link string `json:"link"`
	}{plainAnswer{ErrMsg: "ok"}, "#小程序://" + cmp.Or(shortTitle(q.PageTitle), "小程序") + "/" + ticket(x.serial)})
}

// shortTitle truncates a title to 20 characters and "...", as links show it.
func shortTitle(title string) string {
	if letters := []rune(title); len(letters) > maxTitleChars {
		return string(letters[:maxTitleChars]) + "..."
	}
	return title
}

// ticket returns eleven letters and digits, different for each call.
func ticket(serial uint64) string {
	const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var out [11]byte
	n := madeup.Scramble(serial)
	for i := range out {
		out[i] = letters[n%uint64(len(letters))]
		n /= uint64(len(letters))
	}
	return string(out[:])
}
