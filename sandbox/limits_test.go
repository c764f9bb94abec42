package sandbox

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// callEach sends n requests with different openids, scenes or paths, and returns the number of answers by errcode.
func callEach(t *testing.T, s *Server, path string, n int) map[int]int {
	t.Helper()
	token, codes := stableToken(t, s), map[int]int{}
	for i := range n {
		codes[do(t, s, "POST", path+"?access_token="+token, goodBody(path, fmt.Sprintf("o%d", i))).ErrCode]++
	}
	return codes
}

func TestDocumentedRates(t *testing.T) {
	tests := []struct {
		path   string
		most   int
		window time.Duration
		code   int
		text   string
	}{
		{pathScheme, 100, time.Second, 44990, "second"},
		{pathURLLink, 100, time.Second, 44990, "second"},
		{pathNFCScheme, 100, time.Second, 44990, "second"},
		{pathUnlimited, 5000, time.Minute, 45009, "api freq out of limit"},
		{pathTextCheck, 4000, time.Minute, 44991, "minute"},
		{pathImageCheck, 2000, time.Minute, 44991, "minute"},
		{pathMediaCheck, 2000, time.Minute, 44991, "minute"},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			clock := newClock()
			s := New(Options{Clock: clock.Now})
			half := tt.most / 2
			first := callEach(t, s, tt.path, half)
			clock.move(tt.window / 2)
			second := callEach(t, s, tt.path, tt.most-half+3)
			if first[0] != half || second[0] != tt.most-half || second[tt.code] != 3 {
				t.Fatalf("first half %v, second %v", first, second)
			}
			clock.move(tt.window/2 - 1)
			if got := callEach(t, s, tt.path, 1); got[tt.code] != 1 {
				t.Errorf("just within the window: %v", got)
			}
			clock.move(1)
			// The first half has left the window, the second has not.
			if got := callEach(t, s, tt.path, half+1); got[0] != half || got[tt.code] != 1 {
				t.Errorf("after the window: %v", got)
			}
			peak := s.Peak(testApp, tt.path)
			if got := map[time.Duration]int{time.Second: peak.Second, time.Minute: peak.Minute}[tt.window]; got < tt.most+3 || got > tt.most+5 {
				t.Errorf("peak %+v", peak)
			}
		})
	}
}

func TestDailyLimits(t *testing.T) {
	tests := []struct {
		path string
		most int64
		code int
	}{
		{pathSubscribe, 10_000_000, 45009},
		{pathTemplate, 100_000, 45009},
		{pathCustom, 500_000, 45009},
		{pathScheme, 500_000, 44993},
		{pathURLLink, 500_000, 44993},
		{pathNFCScheme, 500_000, 44993},
		{pathShortLink, 10_000_000, 45009},
		{pathMediaCheck, 200_000, 45009},
		{pathLive, 100_000, 45009},
		{pathTextCheck, 2_000_000, 45009},
		{pathImageCheck, 200_000, 45009},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			clock := newClock()
			clock.set(time.Date(2026, 12, 1, 15, 59, 59, 0, time.UTC)) // a second before midnight in Shanghai
			s := New(Options{Clock: clock.Now})
			if err := s.SetQuota(testApp, tt.path, tt.most-2); err != nil {
				t.Fatal(err)
			}
			if got := callEach(t, s, tt.path, 3); got[0] != 2 || got[tt.code] != 1 {
				t.Errorf("at the end of the quota: %v", got)
			}
			clock.move(time.Second)
			if got := callEach(t, s, tt.path, 3); got[0] != 3 {
				t.Errorf("on the next day: %v", got)
			}
		})
	}
}

func TestLinksShareDailyQuota(t *testing.T) {
	s := New(Options{Clock: newClock().Now, Limits: map[string]Limit{"links": {PerDay: 3}}})
	if a, b := callEach(t, s, pathScheme, 2), callEach(t, s, pathURLLink, 2); a[0] != 2 || b[0] != 1 || b[44993] != 1 {
		t.Errorf("schemes %v, links %v", a, b)
	}
}

func TestEqualLimitedCodesCountOnce(t *testing.T) {
	s := New(Options{})
	if err := s.SetQuota(testApp, pathQRCode, 99_998); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		path, body string
		code       int
		used       string
	}{
		{pathCode, `{"path":"a"}`, 0, "99999"},
		{pathCode, `{"path":"a"}`, 0, "99999"},
		{pathQRCode, `{"path":"a"}`, 0, "100000"},
		{pathCode, `{"path":"a","width":300}`, 45029, ""},
		{pathCode, `{"path":"a"}`, 0, "100000"},
		{pathUnlimited, `{"scene":"a"}`, 0, ""},
	} {
		a := post(t, s, step.path, step.body)
		if a.ErrCode != step.code || a.header.Get("Num-Used") != step.used {
			t.Errorf("step %d: %d, Num-Used %s", i, a.ErrCode, a.header.Get("Num-Used"))
		}
	}
}

func TestPermanentShortLinkQuota(t *testing.T) {
	s := New(Options{Limits: map[string]Limit{pathShortLink: {Total: 2}}})
	for i, step := range []struct {
		body string
		code int
	}{
		{`{"page_url":"a","is_permanent":true}`, 0},
		{`{"page_url":"a","is_permanent":true}`, 0},
		{`{"page_url":"b","is_permanent":true}`, 0},
		{`{"page_url":"c","is_permanent":true}`, 85400},
		{`{"page_url":"c"}`, 0},
	} {
		if a := post(t, s, pathShortLink, step.body); a.ErrCode != step.code {
			t.Errorf("step %d: %s, want %d", i, a.raw, step.code)
		}
	}
}

func TestTokenQuotas(t *testing.T) {
	clock := newClock()
	s := New(Options{Clock: clock.Now})
	if err := s.SetQuota(testApp, pathToken, 1_999); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{0, 45009} {
		if a := do(t, s, "GET", pathToken+"?grant_type=client_credential&secret=x&appid="+testApp, ""); a.ErrCode != want {
			t.Errorf("token: %s, want %d", a.raw, want)
		}
	}
	body := `{"grant_type":"client_credential","appid":"` + testApp + `","secret":"x"}`
	for range 10_000 {
		do(t, s, "POST", pathStableToken, body)
	}
	if a := do(t, s, "POST", pathStableToken, body); a.ErrCode != 45011 {
		t.Errorf("stable token 10,001 of a minute: %s", a.raw)
	}
}

func TestLimitsOverridden(t *testing.T) {
	s := New(Options{NoLimits: true, Limits: map[string]Limit{pathSubscribe: {PerSecond: 2}, pathBizSubscribe: {PerMinute: 1}}, Clock: newClock().Now})
	if got := callEach(t, s, pathScheme, 150); got[0] != 150 {
		t.Errorf("without limits: %v", got)
	}
	if got := callEach(t, s, pathSubscribe, 3); got[0] != 2 || got[44990] != 1 {
		t.Errorf("two a second: %v", got)
	}
	if got := callEach(t, s, pathBizSubscribe, 2); got[0] != 1 || got[45011] != 1 {
		t.Errorf("one a minute: %v", got)
	}
	for _, path := range []string{pathTemplate, "/cgi-bin/nothing"} {
		if err := s.SetQuota(testApp, path, 1); err == nil {
			t.Errorf("%s: SetQuota succeeded although there is no quota", path)
		}
	}
	if err := New(Options{Apps: map[string]string{}}).SetQuota(testApp, pathTemplate, 1); err == nil {
		t.Error("SetQuota succeeded for an unknown app")
	}
}

func TestQuotaGetAndClear(t *testing.T) {
	clock := newClock()
	s := New(Options{Clock: clock.Now})
	if err := s.SetQuota(testApp, pathTemplate, 99_999); err != nil {
		t.Fatal(err)
	}
	figures := func(path string) (f quotaFigures) {
		if err := json.Unmarshal([]byte(post(t, s, pathQuota, `{"cgi_path":"`+path+`"}`).raw), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	if got := callEach(t, s, pathTemplate, 2); got[45009] != 1 {
		t.Errorf("template: %v", got)
	}
	if f := figures(pathTemplate); f.Quota.DailyLimit != 100_000 || f.Quota.Used != 100_000 || f.Quota.Remain != 0 {
		t.Errorf("template: %+v", f)
	}
	if f := figures(pathScheme); f.Quota.DailyLimit != 500_000 || f.RateLimit != (rateFigures{100, 1}) {
		t.Errorf("scheme: %+v", f)
	}
	if f := figures(pathTextCheck); f.RateLimit != (rateFigures{4000, 60}) {
		t.Errorf("text check: %+v", f)
	}
	for i := range clearsPerMonth {
		if a := post(t, s, pathClearQuota, `{"appid":"`+testApp+`"}`); a.ErrCode != 0 {
			t.Fatalf("clearing %d: %s", i+1, a.raw)
		}
	}
	if got := callEach(t, s, pathTemplate, 1); got[0] != 1 {
		t.Errorf("after clearing: %v", got)
	}
	if a := post(t, s, pathClearQuota, `{"appid":"`+testApp+`"}`); a.ErrCode != 48006 {
		t.Errorf("clearing 11 of a month: %s", a.raw)
	}
	if a := do(t, s, "POST", pathClearQuotaV2+"?appid="+testApp+"&appsecret="+testSecret, ""); a.ErrCode != 48006 {
		t.Errorf("clearing 12 of a month, with the secret: %s", a.raw)
	}
	clock.move(31 * 24 * time.Hour)
	if a := post(t, s, pathClearQuota, `{"appid":"`+testApp+`"}`); a.ErrCode != 0 {
		t.Errorf("in the next month: %s", a.raw)
	}
}
