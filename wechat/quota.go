package wechat

import (
	"context"
	"encoding/json"
	"time"
)

// Quota is an app's quota of one API, as WeChat counts it. Counts may be off by up to 1 %.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getapiquota.html
type Quota struct {
	DailyLimit int64 // calls per calendar day; 0: no such limit
	Used       int64 // today
	Remain     int64 // today
	// Rate is the app's own limit over a short window, ComponentRate the limit of the
	// third-party platform that operates the app. Zero: no such limit.
	Rate, ComponentRate RateLimit
}

// RateLimit is a number of calls per time window.
type RateLimit struct {
	Calls int64
	Per   time.Duration // whole seconds
}

// Quota queries WeChat for the quota of an API, by its path. WeChat refuses paths with a
// host, and those under /sns/.
func (c *Client) Quota(ctx context.Context, app string, path Endpoint) (Quota, error) {
	return query(ctx, c, app, EndpointQuota, map[string]string{"cgi_path": string(path)}, decodeQuota)
}

// ClearQuota resets the app's use of all APIs today to zero. WeChat allows this ten times a
// month, including the button in its console.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_clearquota.html
func (c *Client) ClearQuota(ctx context.Context, app string) error {
	body, err := json.Marshal(map[string]string{"appid": app})
	if err != nil {
		return &TransportError{Endpoint: EndpointClearQuota, Op: "prepare", Err: err}
	}
	_, err = c.Call(ctx, app, Request{Path: EndpointClearQuota, Body: body})
	return err
}

type rateJSON struct {
	Calls   number `json:"call_count"`
	Seconds number `json:"refresh_second"`
}

func (r rateJSON) limit() RateLimit {
	return RateLimit{Calls: r.Calls.value, Per: time.Duration(r.Seconds.value) * time.Second}
}

// quotaJSON accepts the rates in both places where WeChat sends them: next to "quota", as
// documented, and inside it.
type quotaJSON struct {
	status
	Quota *struct {
		DailyLimit    number   `json:"daily_limit"`
		Used          number   `json:"used"`
		Remain        number   `json:"remain"`
		Rate          rateJSON `json:"rate_limit"`
		ComponentRate rateJSON `json:"component_rate_limit"`
	} `json:"quota"`
	Rate          rateJSON `json:"rate_limit"`
	ComponentRate rateJSON `json:"component_rate_limit"`
}

func decodeQuota(rep reply, sensitive sensitiveValues) (Quota, error) {
	var v quotaJSON
	if err := rep.decode(&v, &v.status, sensitive); err != nil {
		return Quota{}, err
	}
	if v.Quota == nil {
		return Quota{}, rep.answerError("no quota in the answer")
	}
	q := Quota{
		DailyLimit:    v.Quota.DailyLimit.value,
		Used:          v.Quota.Used.value,
		Remain:        v.Quota.Remain.value,
		Rate:          v.Rate.limit(),
		ComponentRate: v.ComponentRate.limit(),
	}
	if q.Rate == (RateLimit{}) {
		q.Rate = v.Quota.Rate.limit()
	}
	if q.ComponentRate == (RateLimit{}) {
		q.ComponentRate = v.Quota.ComponentRate.limit()
	}
	return q, nil
}

// CallInfo is what WeChat knows about a call that it answered with a rid.
type CallInfo struct {
	Time     time.Time     // to the second
	Cost     time.Duration // of the call at WeChat
	URL      string        // without a token
	ClientIP string        // the address that made the call
	// Request and Response are the bodies, which may contain openids and texts of messages.
	Request, Response Secret
}

// CallInfo asks WeChat about a call of the app in the last seven days, by the rid of its answer
// ([APIError].RID).
// https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getridinfo.html
func (c *Client) CallInfo(ctx context.Context, app, rid string) (CallInfo, error) {
	return query(ctx, c, app, EndpointRID, map[string]string{"rid": rid}, decodeCallInfo)
}

func decodeCallInfo(rep reply, sensitive sensitiveValues) (CallInfo, error) {
	var v struct {
		status
		Request *struct {
			Time     number `json:"invoke_time"`
			Cost     number `json:"cost_in_ms"`
			URL      text   `json:"request_url"`
			Request  text   `json:"request_body"`
			Response text   `json:"response_body"`
			ClientIP text   `json:"client_ip"`
		} `json:"request"`
	}
	if err := rep.decode(&v, &v.status, sensitive); err != nil {
		return CallInfo{}, err
	}
	if v.Request == nil {
		return CallInfo{}, rep.answerError("no request in the answer")
	}
	r := v.Request
	return CallInfo{
		Time: time.Unix(r.Time.value, 0), Cost: time.Duration(r.Cost.value) * time.Millisecond,
		URL: sensitive.redact(string(r.URL)), ClientIP: string(r.ClientIP), Request: Secret(r.Request), Response: Secret(r.Response),
	}, nil
}
