package dispatch

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// TestBreakerVerdicts: an answer whose cause may be the task alone counts as a failed attempt,
// and holds the lane at breakerThreshold such answers. A task that got its answer after
// another one set the hold loses no attempt.
func TestBreakerVerdicts(t *testing.T) {
	const send = wechat.Endpoint("/cgi-bin/message/subscribe/send")
	unlisted := error(&wechat.APIError{Endpoint: send, Code: 61999})
	rejected := error(&wechat.TokenError{App: "wx", Err: fmt.Errorf("%w (%w)", wechat.ErrTokenRejected, &wechat.APIError{Endpoint: send, Code: 40001})})
	for _, c := range []struct {
		name    string
		err     error
		inARow  int
		failed  int
		outcome tasks.Outcome
		counts  bool
		reason  string // of the hold; "" for none
	}{
		{"an unlisted code", unlisted, 1, 0, "", true, ""},
		{"again", unlisted, breakerThreshold - 1, 0, "", true, ""},
		{"and again", unlisted, breakerThreshold, 0, "", true, ReasonUnlistedCode},
		{"to the end", unlisted, breakerThreshold, 7, tasks.OutcomeFailed, false, ReasonUnlistedCode},
		{"a token that is taken elsewhere", rejected, 1, 0, "", true, ""},
		{"and is refused again and again", rejected, breakerThreshold + 1, 0, "", true, tokenRejected},
		{"to the end of one task", rejected, 1, 7, tasks.OutcomeFailed, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judge(Attempt{Err: c.err, Repeat: tasks.Never, Failed: c.failed, Budget: 8, consecutive: c.inARow, tokenWorks: true, now: time.Now()})
			if v.Outcome != c.outcome || v.Counts != c.counts || v.hold.reason != c.reason || (v.stops == stopLane) != (c.reason != "") {
				t.Errorf("verdict %+v", v)
			}
			if c.reason == "" {
				return
			}
			if got := v.underHold(true); got.Outcome != c.outcome || got.Counts != c.counts || got.Place != asynqwire.RetrySet {
				t.Errorf("the probe itself: %+v", got)
			}
			if got := v.underHold(false); got.Outcome != "" || got.Counts || got.Place != asynqwire.QueueBack {
				t.Errorf("a task under the hold of another one: %+v", got)
			}
		})
	}
}

// TestBreakerCount: only answers with the same errcode, without a success between, add up.
func TestBreakerCount(t *testing.T) {
	var s breakers
	here, there := lane{"wx", "send:subscribe"}, lane{"wx", "send:custom"}
	code := func(code int) error { return &wechat.APIError{Endpoint: "/cgi-bin/message/subscribe/send", Code: code} }
	for i, step := range []struct {
		lane    lane
		err     error
		want    int
		tripped bool
	}{
		{here, code(61999), 1, false},
		{here, code(61999), 2, false},
		{there, code(61999), 1, false},
		{there, nil, 0, false},
		{here, io.ErrUnexpectedEOF, 0, false}, // no answer: does not count
		{here, code(47003), 0, false},         // the request is wrong: does not count
		{here, code(61999), 3, true},
		{here, code(45009), 0, true},
		{here, code(61998), 1, false}, // another code
		{here, code(61998), 2, false},
		{here, code(43101), 0, false}, // the receiver's choice: the API works
		{here, code(61998), 1, false},
	} {
		got := s.record(step.lane, Attempt{Err: step.err, Budget: 8, now: time.Now()})
		if tripped := s.tripped(step.lane) != nil; got != step.want || tripped != step.tripped {
			t.Errorf("step %d: %d in a row, tripped %v", i, got, tripped)
		}
	}
}

// TestShowsTokenWorks: only answers that WeChat gives after it has checked the token count.
func TestShowsTokenWorks(t *testing.T) {
	api := func(code int) error { return &wechat.APIError{Endpoint: wechat.EndpointQuota, Code: code} }
	for err, want := range map[error]bool{
		nil: true, api(45009): true, api(48001): true,
		api(-1): false, api(40001): false, api(61999): false, io.EOF: false,
		&wechat.TokenError{App: "wx", Err: api(45009)}: false,
	} {
		if got := showsTokenWorks(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
