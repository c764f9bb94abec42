package sandbox

import (
	"net/http"
	"strings"
	"time"
)

// clearsPerMonth is how often an account may clear its quotas.
// Source: https://developers.weixin.qq.com/doc/service/api/apimanage/api_clearquota.html
const clearsPerMonth = 10

// quotaRequest is the body of quota/get.
type quotaRequest struct {
	anonymous
	CGIPath string `json:"cgi_path"`
}

func (q *quotaRequest) check(env *checkEnv) *refusal {
	switch {
	case strings.Contains(q.CGIPath, "://"):
		return refuse(76003)
	case strings.HasPrefix(q.CGIPath, "/sns/"):
		return refuse(76022)
	case !env.paths[q.CGIPath]:
		return refuse(76021)
	}
	return nil
}

// quotaFigures is the answer of quota/get.
type quotaFigures struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
	Quota   struct {
		DailyLimit int64 `json:"daily_limit"`
		Used       int64 `json:"used"`
		Remain     int64 `json:"remain"`
	} `json:"quota"`
	RateLimit     rateFigures `json:"rate_limit"`
	ComponentRate rateFigures `json:"component_rate_limit"`
}

type rateFigures struct {
	CallCount     int `json:"call_count"`
	RefreshSecond int `json:"refresh_second"`
}

func grantQuota(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*quotaRequest)
	x.quota.ErrMsg = "ok"
	for _, row := range s.limits.byPath[q.CGIPath] {
		u := x.app.usageOf(row.name)
		if row.limit.PerDay > 0 {
			x.quota.Quota.DailyLimit, x.quota.Quota.Used = row.limit.PerDay, u.usedOn(shanghaiDay(x.at))
			x.quota.Quota.Remain = max(0, x.quota.Quota.DailyLimit-x.quota.Quota.Used)
		}
		switch {
		case row.limit.PerSecond > 0:
			x.quota.RateLimit = rateFigures{row.limit.PerSecond, 1}
		case row.limit.PerMinute > 0:
			x.quota.RateLimit = rateFigures{row.limit.PerMinute, 60}
		}
	}
	return nil
}

func answerQuota(_ *Server, x *exchange) reply { return jsonReply(x.quota) }

// clearRequest is the body of clear_quota, which resets today's counts of all endpoints to zero.
type clearRequest struct {
	anonymous
	AppID string `json:"appid"`
}

func (*clearRequest) check(*checkEnv) *refusal { return nil }

// clearSecretRequest is the body of clear_quota/v2, which takes the app secret, for an app without token calls left.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_clearquotabyappsecret.html
type clearSecretRequest struct {
	clearRequest
	Secret string `json:"appsecret"`
}

func (q *clearSecretRequest) credentials() credentials { return credentials{q.AppID, q.Secret, true} }

// decodeClearSecret reads the app id and secret from the query, as on WeChat's page, or from a JSON body, as some SDKs send
// it.
func decodeClearSecret(r *http.Request, body []byte) (request, *refusal) {
	if query := r.URL.Query(); query.Has("appid") || query.Has("appsecret") || len(body) == 0 {
		return &clearSecretRequest{clearRequest{AppID: query.Get("appid")}, query.Get("appsecret")}, nil
	}
	return decodeJSON[clearSecretRequest](r, body)
}

func grantClear(_ *Server, x *exchange) *refusal {
	a := x.app
	if q, ok := x.req.(*clearRequest); ok && q.AppID != a.id {
		return refuse(40013)
	}
	if month := x.at.In(time.FixedZone("Asia/Shanghai", 8*3600)).Format("2006-01"); a.clearMonth != month {
		a.clearMonth, a.clears = month, 0
	}
	if a.clears >= clearsPerMonth {
		return refuse(48006)
	}
	a.clears++
	for _, u := range a.usage {
		u.used = 0
	}
	return nil
}

func answerOK(*Server, *exchange) reply { return jsonReply(plainAnswer{ErrMsg: "ok"}) }
