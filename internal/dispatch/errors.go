package dispatch

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// ShortDelay is the delay of a task that cannot be sent for the moment.
const ShortDelay = time.Second

// NotSentError means that a request must not be sent, now or ever. It was not written.
type NotSentError struct {
	Outcome tasks.Outcome // the task's end; "" when it may be sent later
	Reason  string
	Delay   time.Duration // until it may be sent; 0 means ShortDelay
}

func (e *NotSentError) Error() string { return "not sent: " + e.Reason }

func (e *NotSentError) verdict() Verdict {
	v := Verdict{Outcome: e.Outcome, Reason: e.Reason}
	if e.Outcome == "" {
		v.Delay = cmp.Or(e.Delay, ShortDelay)
	}
	return v
}

// PrepareError means that the content of a request could not be prepared this time, such as an
// image that could not be fetched. The request was not written; the attempt counts as failed.
type PrepareError struct {
	What string // such as "media"
	Err  error
}

func (e *PrepareError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }
func (e *PrepareError) Unwrap() error { return e.Err }

// panicError stands for a panic. It leaves out the value, which may contain a secret.
type panicError struct{}

func (*panicError) Error() string { return "panic in a delivery" }

// NoAnswer reports whether WeChat may have taken the request without an answer. It returns
// true for errors that it does not know, and false for nil.
func NoAnswer(err error) bool {
	var (
		api      *wechat.APIError
		unsent   *NotSentError
		prepared *PrepareError
	)
	if errors.As(err, &api) || errors.As(err, &unsent) || errors.As(err, &prepared) {
		return false
	}
	return wechat.Written(err)
}

// codeOf returns WeChat's errcode, or 0.
func codeOf(err error) int {
	var api *wechat.APIError
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}
