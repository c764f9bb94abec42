package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// call makes the attempt. A panic in it becomes an error: whether anything was written
// is not known then.
func (r *Replica) call(ctx context.Context, l *lane, j *job) (answer wechat.Answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			r.log.Error("panic in a call", j.attrs(slog.String("panic", fmt.Sprintf("%T", v)))...)
			err = &panicError{}
		}
	}()
	j.called = true
	started, written := time.Now(), false
	j.request.Ready = func(ctx context.Context) error {
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
		j.called = false // it got no further than the token
	}
	var guard *guardError
	if !errors.As(err, &guard) { // else the pace held it back
		r.metrics.countCall(j.App, j.spec.Path, err, time.Since(started))
	}
	return answer, err
}
