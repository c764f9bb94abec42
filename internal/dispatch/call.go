package dispatch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// A Call is one request to WeChat for an app. It is used by one goroutine.
type Call struct {
	App string
	// Type names the lane whose limits, holds and breaker apply: a task type, or the path of an
	// endpoint without one. A call without a type has no lane: it takes no permit, and its answer
	// concerns only the app.
	Type     string
	Endpoint wechat.Endpoint // the path
	API      string          // names the endpoint in the metrics; "": its path
	Template string          // the message template, or ""
	Bulk     bool            // it may not use permits that are reserved for urgent calls

	// Log returns the attributes of a log line about the call, with more at the end. It must not
	// return a receiver or a text of a message. Required.
	Log func(more ...any) []any
	// BeforeWrite is called when the call has its permit and its connection, before each write
	// of the request. After an error, mostly a [NotSentError], the request is not written.
	// nil: always written.
	BeforeWrite func() error

	permit *ratelimit.Permit // nil when there is none, or it was used
	called bool              // WeChat was called
}

// Called reports whether WeChat was called. A call for which there was no token was not.
func (c *Call) Called() bool { return c.called }

func (c *Call) lane() lane { return lane{c.App, c.Type} }

// api returns the name of the endpoint in the metrics.
func (c *Call) api() string { return cmp.Or(c.API, string(c.Endpoint)) }

// FetchToken makes the app's token available, so that Send needs no call for it. It counts a
// call without a token in the metrics; the error is a *wechat.TokenError.
func (d *Dispatcher) FetchToken(ctx context.Context, c *Call) error {
	err := d.wechat.FetchToken(ctx, c.App)
	if err != nil {
		d.Metrics.countNoToken(c)
	}
	return err
}

// Send writes the request at the instant of the permit, and returns WeChat's answer. It waits
// at most permitTimeout for another permit where the one of the call is too late to use, and
// only until open ends. It turns a panic into an error after which the request may or may not
// have been written.
func (d *Dispatcher) Send(ctx, open context.Context, c *Call, request wechat.Request) (answer wechat.Answer, err error) {
	err = d.send(ctx, open, c, func(beforeWrite func(context.Context) error) (err error) {
		request.BeforeWrite = beforeWrite
		answer, err = d.wechat.Call(ctx, c.App, request)
		return err
	})
	return answer, err
}

// SendRaw is Send for a request that is passed on as a client wrote it. An answer that is an error
// is returned too.
func (d *Dispatcher) SendRaw(ctx, open context.Context, c *Call, request wechat.RawRequest) (answer wechat.RawAnswer, err error) {
	err = d.send(ctx, open, c, func(beforeWrite func(context.Context) error) (err error) {
		request.BeforeWrite = beforeWrite
		answer, err = d.wechat.CallRaw(ctx, c.App, request)
		return err
	})
	return answer, err
}

// send makes a call with a function, which must call beforeWrite before each write of the request.
func (d *Dispatcher) send(ctx, open context.Context, c *Call, do func(beforeWrite func(context.Context) error) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error("panic in a call", c.Log(slog.String("panic", fmt.Sprintf("%T", v)))...)
			err = &panicError{}
		}
	}()
	c.called = true
	started, written := time.Now(), false
	err = do(func(ctx context.Context) error {
		if err := d.useAtInstant(ctx, open, c); err != nil {
			c.called = written
			return err
		}
		if !written {
			started, written = time.Now(), true
		}
		return nil
	})
	var token *wechat.TokenError
	if errors.As(err, &token) && !errors.Is(err, wechat.ErrTokenRejected) {
		c.called = false // there was no token to call with
	}
	var unsent *NotSentError
	if !errors.As(err, &unsent) { // nothing was written, for lack of a permit
		d.Metrics.countCall(c, err, time.Since(started))
		d.traceCall(ctx, c, started, err)
	}
	return err
}
