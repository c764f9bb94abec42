package dispatch

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// countDelay is how long after a call's end WeChat's count of the day may still lack it. WeChat
// documents no delay.
const countDelay = 30 * time.Second

// SettleTime is how long after a permit was granted WeChat's count of the day has its call for
// certain, where attempt is the timeout of one attempt.
func SettleTime(attempt time.Duration) time.Duration { return attempt + countDelay }

// QuotaReader asks WeChat for quotas on an operator's behalf. Other than the queries of a
// [Dispatcher] it also passes a count lower than ours to the limiter.
type QuotaReader struct {
	WeChat  *wechat.Client
	Limiter *ratelimit.Limiter
	Attempt time.Duration // the timeout of one attempt, of all replicas
}

// Ask asks WeChat's quota/get for the limits and the count of a type, and passes them to the
// limiter. It also returns when it asked, by Redis' clock.
func (r QuotaReader) Ask(ctx context.Context, app, typ string) (quota wechat.Quota, asked time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	if asked, err = r.Limiter.Now(ctx); err != nil {
		return wechat.Quota{}, asked, err
	}
	if quota, err = r.WeChat.Quota(ctx, app, endpointOf(typ)); err != nil {
		return wechat.Quota{}, asked, err
	}
	l := learned(quota)
	if Countable(quota) {
		l.Asked, l.Settle = asked, SettleTime(r.Attempt)
	}
	return quota, asked, r.Limiter.Learn(ctx, app, typ, l)
}

// Countable reports whether an answer has a count of the day that can be believed where it is low:
// used and remaining calls make up the limit. An answer without the field "used" would clear our
// count.
func Countable(q wechat.Quota) bool { return q.DailyLimit > 0 && q.Used+q.Remain >= q.DailyLimit }
