package dispatch

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

// tokenWorksElsewhere reports whether WeChat refused a call for its token, but takes the app's
// token for another API: it calls quota/get for the call's endpoint. Calls that were refused at
// the same time share one check. It returns false without a call while the app is held.
func (d *Dispatcher) tokenWorksElsewhere(ctx context.Context, c *Call, cause error) bool {
	if !c.called || !errors.Is(cause, wechat.ErrTokenRejected) {
		return false
	}
	refused := time.Now()
	found, _ := d.tokenChecks.LoadOrStore(c.App, new(tokenCheck))
	check, _ := found.(*tokenCheck)
	check.mu.Lock()
	defer check.mu.Unlock()
	if check.began.After(refused) {
		return check.works
	}
	if _, held, err := d.holds.Get(ctx, c.App, hold.WholeApp); err != nil || held {
		return false
	}
	check.began = time.Now()
	endpoint := c.Endpoint
	if c.Type == "" { // WeChat may not know its path here
		endpoint = wechat.EndpointCustom
	}
	_, err := d.wechat.Quota(ctx, c.App, endpoint)
	check.works = showsTokenWorks(err)
	if check.works {
		d.log.Info("WeChat refuses the token for one API and takes it for another", c.Log(slog.Any("err", cause))...)
	}
	return check.works
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
