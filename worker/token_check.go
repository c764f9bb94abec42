package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/wechat"
)

// tokenCheck is the last check whether WeChat takes an app's token, which it refused for one
// API, for another API.
type tokenCheck struct {
	mu    sync.Mutex
	began time.Time // guarded by mu
	works bool      // guarded by mu; WeChat took the token
}

// tokenWorksElsewhere reports whether WeChat refused the job's call for its token, but takes
// the app's token for another API: it calls quota/get for the job's API. Calls that were
// refused at the same time share one check. It returns false without a call while the app
// is held.
func (r *Replica) tokenWorksElsewhere(ctx context.Context, j *job) bool {
	if !j.called || !errors.Is(j.err, wechat.ErrTokenRejected) {
		return false
	}
	refused := time.Now()
	found, _ := r.tokenChecks.LoadOrStore(j.App, new(tokenCheck))
	c, _ := found.(*tokenCheck)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.began.After(refused) {
		return c.works
	}
	if _, held, err := r.holds.Get(ctx, j.App, hold.WholeApp); err != nil || held {
		return false
	}
	c.began = time.Now()
	_, err := r.wechat.Quota(ctx, j.App, wechat.Endpoint(j.spec.Path))
	c.works = showsTokenWorks(err)
	if c.works {
		r.log.Info("WeChat refuses the token for one API and takes it for another", j.attrs(slog.Any("err", j.err))...)
	}
	return c.works
}

// showsTokenWorks reports whether an answer shows that WeChat took the token. It returns
// false for errors that WeChat may return before it checks the token.
func showsTokenWorks(err error) bool {
	var (
		api   *wechat.APIError
		token *wechat.TokenError
	)
	switch {
	case err == nil:
		return true
	case errors.As(err, &token) || !errors.As(err, &api):
		return false
	}
	switch api.Class() {
	case wechat.ClassAccount, wechat.ClassQuotaDay, wechat.ClassRateMinute, wechat.ClassRateSecond:
		return true
	default:
		return false
	}
}
