package proxy

import (
	"cmp"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// windowCode is WeChat's answer to a call that exceeds a limit over a span.
type windowCode struct {
	span  ratelimit.Span
	types []string // nil: where no other row names the type
	code  int
	msg   string
}

// windowCodes are the answers to calls for which there is no permit in time.
var windowCodes = []windowCode{
	{ratelimit.PerSecond, nil, 44990, "reach max api second frequence limit"},
	{ratelimit.PerMinute, []string{tasks.TypeUnlimitedCode}, 45009, "api freq out of limit, retry next minute"},
	{ratelimit.PerMinute, []string{tasks.TypeTextCheck, tasks.TypeImageCheck, tasks.TypeMediaCheck}, 44991, "reach max api minute frequence limit"},
	{ratelimit.PerMinute, nil, 45011, "api minute-quota reach limit, must slower, retry next minute"},
	{ratelimit.PerDay, []string{tasks.TypeScheme, tasks.TypeURLLink, tasks.TypeNFCScheme}, 44993, "reach max api day frequence limit"},
	{ratelimit.PerDay, nil, 45009, "reach max api daily quota limit"},
	{ratelimit.Total, nil, 45029, "qrcode count out of limit"},
}

// windowRefusal returns the answer to a call without a permit, because a window is full until a time;
// zero: that is not known.
func windowRefusal(call *dispatch.Call, span ratelimit.Span, until time.Time) *Refusal {
	i := slices.IndexFunc(windowCodes, func(w windowCode) bool { return w.span == span && slices.Contains(w.types, call.Type) })
	if i < 0 {
		i = slices.IndexFunc(windowCodes, func(w windowCode) bool { return w.span == span && w.types == nil })
	}
	if i < 0 {
		return errBusy
	}
	r := &Refusal{Code: windowCodes[i].code, Msg: windowCodes[i].msg}
	if until.IsZero() {
		return r.because("no permit in time by our own count; WeChat was not called")
	}
	return r.because("the limit is used up by our own count, until %s; WeChat was not called", until.UTC().Format(time.RFC3339))
}

// holdMessages are WeChat's words for the codes of holds that SDKs look at.
var holdMessages = map[int]string{
	45009: "reach max api daily quota limit", 44993: "reach max api day frequence limit",
	45011: "api minute-quota reach limit, must slower, retry next minute", 48001: "api unauthorized",
}

// holdRefusal returns the answer to a call that a hold stops: the code that led to it. A code that an
// SDK would take for one about its ticket is not passed on.
func holdRefusal(h hold.Hold) *Refusal {
	r := &Refusal{Code: cmp.Or(h.Code, -1)}
	if slices.Contains([]int{40001, 40014, 42001}, r.Code) {
		r.Code = -1
	}
	r.Msg = cmp.Or(holdMessages[r.Code], "held")
	what := "the API is held"
	switch {
	case h.Scope == hold.WholeApp:
		what = "the app is held"
	case hold.IsTemplate(h.Scope):
		what = "the template is held"
	}
	until := "until it is released"
	if !h.Until.IsZero() {
		until = "until " + h.Until.UTC().Format(time.RFC3339)
	}
	if !dispatch.IsHoldReason(h.Reason) { // an operator's text, which is not for clients
		return r.because("%s by an operator, %s; WeChat was not called", what, until)
	}
	return r.because("%s, %s, %s; WeChat was not called", what, h.Reason, until)
}
