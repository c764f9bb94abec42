package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

func TestEveryClassHasARule(t *testing.T) {
	for _, class := range wechat.Classes() {
		r, ok := rules[class]
		if !ok {
			t.Errorf("class %s has no rule", class)
			continue
		}
		if r.outcome == "" && r.wait == nil {
			t.Errorf("class %s has neither an outcome nor a wait", class)
		}
		if r.stops != stopNothing && (r.wait == nil || r.reason == "") {
			t.Errorf("class %s has a hold without an end or a reason", class)
		}
	}
	if len(rules) != len(wechat.Classes()) {
		t.Errorf("%d rules for %d classes", len(rules), len(wechat.Classes()))
	}
}

// TestEveryCodeHasAVerdict: each code of the code table leads to an outcome or a delay.
func TestEveryCodeHasAVerdict(t *testing.T) {
	for _, row := range wechat.Codes() {
		v := judge(Attempt{Err: &wechat.APIError{Endpoint: row.Endpoint, Code: row.Code}, Repeat: tasks.Never, Budget: 8, now: time.Now()})
		if v.Outcome == "" && v.Delay <= 0 {
			t.Errorf("%d at %q: neither an outcome nor a delay", row.Code, row.Endpoint)
		}
		if v.Outcome == tasks.OutcomeUnknown {
			t.Errorf("%d at %q: unknown, although WeChat answered", row.Code, row.Endpoint)
		}
	}
}

func TestJudge(t *testing.T) {
	const send = wechat.Endpoint("/cgi-bin/message/subscribe/send")
	api := func(code int) error { return &wechat.APIError{Endpoint: send, Code: code} }
	unwritten := &wechat.TransportError{Endpoint: send, Op: "dial", Err: io.EOF}
	written := &wechat.TransportError{Endpoint: send, Op: "read", Written: true, Err: io.EOF}
	html := &wechat.AnswerError{Endpoint: send, Status: 502, Reason: "HTML"}
	noToken := func(err error) error { return &wechat.TokenError{App: "wx", Err: err} }
	noon := time.Date(2026, 11, 20, 12, 0, 30, 0, time.FixedZone("Asia/Shanghai", 8*3600))
	for _, c := range []struct {
		name    string
		err     error
		repeat  tasks.Repeat
		failed  int
		doubt   bool
		outcome tasks.Outcome
		counts  bool
		stops   stop
		atLeast time.Duration
		atMost  time.Duration
	}{
		{"taken", nil, tasks.Never, 0, false, tasks.OutcomeAccepted, false, stopNothing, 0, 0},
		{"not subscribed", api(43101), tasks.Never, 0, false, tasks.OutcomeRefused, false, stopNothing, 0, 0},
		{"bad data", api(47003), tasks.Never, 0, false, tasks.OutcomeRejected, false, stopNothing, 0, 0},
		{"risky image", &wechat.APIError{Endpoint: "/wxa/img_sec_check", Code: 87014}, tasks.Always, 0, false, tasks.OutcomeAccepted, false, stopNothing, 0, 0},
		{"busy", api(-1), tasks.Never, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"busy again", api(-1), tasks.Never, 1, false, "", true, stopNothing, 15 * time.Second, 18 * time.Second},
		{"busy for the last time", api(-1), tasks.Never, 7, false, tasks.OutcomeFailed, false, stopNothing, 0, 0},
		{"an unlisted code", api(99999), tasks.Never, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"same openid at once", api(43108), tasks.Never, 0, false, "", false, stopNothing, 3 * time.Second, 4 * time.Second},
		{"day's quota", api(45009), tasks.Never, 7, false, "", false, stopLane, 11*time.Hour + 59*time.Minute, 12*time.Hour + time.Minute},
		{"minute", api(45011), tasks.Never, 7, false, "", false, stopLane, 25 * time.Second, 35 * time.Second},
		{"minute on the code endpoint", &wechat.APIError{Endpoint: "/wxa/getwxacodeunlimit", Code: 45009}, tasks.Always, 0, false, "", false, stopLane, 25 * time.Second, 35 * time.Second},
		{"second", api(44990), tasks.Never, 7, false, "", false, stopLane, time.Second, 2 * time.Second},
		{"template taken away", api(43107), tasks.Never, 0, false, tasks.OutcomeRejected, false, stopTemplate, time.Minute, time.Hour},
		{"capability", api(48001), tasks.Never, 7, false, "", false, stopLane, 5 * time.Minute, 6 * time.Minute},
		{"wrong secret", noToken(&wechat.APIError{Endpoint: "/cgi-bin/stable_token", Code: 40125}), tasks.Never, 7, false, "", false, stopApp, 10 * time.Second, 12 * time.Second},
		{"token endpoint away", noToken(unwritten), tasks.Never, 7, false, "", false, stopApp, 2 * time.Second, 3 * time.Second},
		{"token rejected again", noToken(wechat.ErrTokenRejected), tasks.Never, 7, false, "", false, stopApp, 10 * time.Second, 12 * time.Second},
		{"token endpoint out of quota", noToken(&wechat.APIError{Endpoint: "/cgi-bin/token", Code: 45009}), tasks.Never, 0, false, "", false, stopApp, 11 * time.Hour, 13 * time.Hour},
		{"unreachable", unwritten, tasks.Never, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"unreachable to the end", unwritten, tasks.Never, 7, false, tasks.OutcomeFailed, false, stopNothing, 0, 0},
		{"no answer", written, tasks.Never, 0, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"no answer, deduplicated", written, tasks.Deduped, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"no answer, deduplicated, to the end", written, tasks.Deduped, 7, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"busy to the end, after no answer", api(-1), tasks.Deduped, 7, true, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"no answer, safe", written, tasks.Always, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"no answer, safe, to the end", written, tasks.Always, 7, false, tasks.OutcomeFailed, false, stopNothing, 0, 0},
		{"a proxy's page", html, tasks.Never, 0, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"a proxy's page, safe", html, tasks.Always, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"a panic", &panicError{}, tasks.Never, 0, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"a panic, safe", &panicError{}, tasks.Always, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"an unknown error", errors.New("?"), tasks.Never, 0, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"a context's end", context.DeadlineExceeded, tasks.Never, 0, false, tasks.OutcomeUnknown, false, stopNothing, 0, 0},
		{"an image that could not be fetched", &PrepareError{Err: io.EOF}, tasks.Always, 0, false, "", true, stopNothing, 5 * time.Second, 7 * time.Second},
		{"a guard", &NotSentError{Outcome: tasks.OutcomeRejected, Reason: "staging"}, tasks.Never, 0, false, tasks.OutcomeRejected, false, stopNothing, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.err
			if err != nil {
				err = fmt.Errorf("wrapped: %w", err)
			}
			v := judge(Attempt{Err: err, Repeat: c.repeat, Doubt: c.doubt, Failed: c.failed, Budget: 8, now: noon})
			if v.Outcome != c.outcome || v.Counts != c.counts || v.stops != c.stops {
				t.Errorf("verdict %+v", v)
			}
			if v.Delay < c.atLeast || v.Delay > c.atMost {
				t.Errorf("delay %v, want %v to %v", v.Delay, c.atLeast, c.atMost)
			}
		})
	}
}

func TestProbesGrow(t *testing.T) {
	err := &wechat.TokenError{App: "wx", Err: &wechat.APIError{Endpoint: "/cgi-bin/stable_token", Code: 40125}}
	last := time.Duration(0)
	for n := range len(appProbes) {
		v := judge(Attempt{Err: err, Budget: 8, holds: n, now: time.Now()})
		if v.Delay <= last {
			t.Errorf("probe %d waits %v, the one before %v", n, v.Delay, last)
		}
		last = v.Delay
	}
}

// TestUnchecked: what the content of a client's request may have caused holds nothing; what WeChat
// says of the app does. A call without a lane or a template holds none.
func TestUnchecked(t *testing.T) {
	const path = wechat.Endpoint("/wxa/business/x")
	for _, c := range []struct {
		name               string
		code               int
		noLane, noTemplate bool
		stops              stop
		outcome            tasks.Outcome
	}{
		{"a wrong app id in the request", 40013, false, false, stopNothing, tasks.OutcomeRejected},
		{"a wrong secret in the request", 40125, false, false, stopNothing, tasks.OutcomeRejected},
		{"an unlisted code", 987654, false, false, stopNothing, ""},
		{"the IP list", 40164, false, false, stopApp, ""},
		{"the IP list, without a lane", 40164, true, true, stopApp, ""},
		{"no permission", 48001, false, false, stopLane, ""},
		{"no permission, without a lane", 48001, true, false, stopNothing, ""},
		{"a spent quota, without a lane", 45009, true, false, stopNothing, ""},
		{"a template", 43107, false, false, stopTemplate, tasks.OutcomeRejected},
		{"a template that is not known", 43107, false, true, stopNothing, tasks.OutcomeRejected},
	} {
		a := Attempt{
			Err: &wechat.APIError{Endpoint: path, Code: c.code}, Repeat: tasks.Never, Budget: 8, Unchecked: true,
			noLane: c.noLane, noTemplate: c.noTemplate, consecutive: 2 * breakerThreshold, now: time.Now(),
		}
		v := judge(a)
		if v.stops != c.stops || v.Outcome != c.outcome || v.stops == stopNothing && (v.learns || v.slows != "") {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}
