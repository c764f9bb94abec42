package dispatch

import (
	"errors"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestLearnedLimits(t *testing.T) {
	minute, second := time.Minute, time.Second
	for _, tt := range []struct {
		name  string
		quota wechat.Quota
		want  ratelimit.Learned
	}{
		{"nothing", wechat.Quota{}, ratelimit.Learned{}},
		{"a day, spent", wechat.Quota{DailyLimit: 10, Used: 10}, ratelimit.Learned{PerDay: 10, UsedToday: 10}},
		{"no limit a day", wechat.Quota{Used: 7}, ratelimit.Learned{UsedToday: 7}},
		{"nothing remains, and nothing was used", wechat.Quota{DailyLimit: 10, Remain: 0}, ratelimit.Learned{PerDay: 10}},
		{"a minute", wechat.Quota{Rate: wechat.RateLimit{Calls: 5, Per: minute}}, ratelimit.Learned{Calls: 5, Per: minute}},
		{"the platform's alone", wechat.Quota{ComponentRate: wechat.RateLimit{Calls: 5, Per: minute}}, ratelimit.Learned{Calls: 5, Per: minute}},
		{
			"the platform's is less",
			wechat.Quota{Rate: wechat.RateLimit{Calls: 9, Per: second}, ComponentRate: wechat.RateLimit{Calls: 5, Per: second}},
			ratelimit.Learned{Calls: 5, Per: second},
		},
		{
			"the platform's is more",
			wechat.Quota{Rate: wechat.RateLimit{Calls: 5, Per: second}, ComponentRate: wechat.RateLimit{Calls: 9, Per: second}},
			ratelimit.Learned{Calls: 5, Per: second},
		},
		{
			"of two spans both hold",
			wechat.Quota{Rate: wechat.RateLimit{Calls: 100, Per: second}, ComponentRate: wechat.RateLimit{Calls: 3000, Per: minute}},
			ratelimit.Learned{Calls: 1, Per: 20 * time.Millisecond},
		},
		{"calls without a span", wechat.Quota{Rate: wechat.RateLimit{Calls: 5}}, ratelimit.Learned{}},
	} {
		if got := learned(tt.quota); got != tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestQueryPauseAfterFailure(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want time.Duration
	}{
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: 76021}, queryTomorrow},
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: 76022}, queryTomorrow},
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: 48001}, queryTomorrow},
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: 45009}, queryTomorrow},
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: -1}, queryAgain},
		{&wechat.APIError{Endpoint: wechat.EndpointQuota, Code: 40164}, queryAgain},
		{&wechat.TokenError{Err: wechat.ErrTokenRejected}, queryAgain},
		{errors.New("cut off"), queryAgain},
	} {
		if got := afterFailure(tt.err); got != tt.want {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}
