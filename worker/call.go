package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// call makes the attempt. It turns a panic into a *panicError, since the request may or
// may not have been written by then.
func (r *Replica) call(ctx context.Context, l *lane, j *job) (answer wechat.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("panic in a call", j.attrs(slog.String("panic", fmt.Sprintf("%T", v)))...)
			err = &panicError{}
		}
	}()
	j.called = true
	started, written := time.Now(), false
	j.request.BeforeWrite = func(ctx context.Context) error {
		if err := r.useAtInstant(ctx, l, j); err != nil {
			j.called = written
			return err
		}
		if !written {
			started, written = time.Now(), true
		}
		return nil
	}
	answer, err = r.wechat.Call(ctx, j.App, j.request)
	var token *wechat.TokenError
	if errors.As(err, &token) && !errors.Is(err, wechat.ErrTokenRejected) {
		j.called = false // there was no token to call with
	}
	var guard *guardError
	if !errors.As(err, &guard) { // a guardError: nothing was written, for lack of a permit
		r.metrics.countCall(j.App, j.spec.Path, err, time.Since(started))
	}
	return answer, err
}
