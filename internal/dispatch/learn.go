package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// learner queries WeChat's quota/get for the limits of an app, and passes them to the
// limiter. It queries seldom, since quota/get has a limit itself, and in the background: no
// delivery waits for a query or fails with it.
//
// quota/get reports the limits of one API, so they apply to the row of the type alone. A
// group (links, qrcode) has its own window in addition.
type learner struct {
	rdb        redis.UniversalClient
	wechat     *wechat.Client
	limiter    *ratelimit.Limiter
	holds      *hold.Store
	log        *slog.Logger
	background *background.Group

	mu   sync.Mutex
	next map[string]time.Time // guarded by mu; by key in Redis: the time of the next query of this replica
}

// trigger is a reason to query.
type trigger struct {
	suffix string        // of the key in Redis that marks the query
	every  time.Duration // the interval between queries of all replicas together
}

// The triggers. A lane that stays open queries every hour. Otherwise a lane that uses up its
// quota every day, and is therefore always open, would never learn that WeChat raised it.
var (
	laneOpen  = trigger{"", time.Hour}
	onRefusal = trigger{":refused", 10 * time.Minute}
)

const (
	queryTimeout  = 20 * time.Second // bounds one query, with its token
	queryAgain    = 5 * time.Minute  // after a query that failed, or that another replica made
	queryTomorrow = 24 * time.Hour   // after an error that will not change soon
)

// quotaKey returns the key that marks a query as made: an empty string that expires when
// the next query is allowed. Private.
func quotaKey(at lane, o trigger) string {
	return "wxcourier:{" + at.app + "}:quota:" + at.typ + o.suffix
}

// follow queries the limits of a lane, again and again until open ends.
func (l *learner) follow(open context.Context, at lane) {
	l.background.Go(func(ctx context.Context) {
		open, cancel := context.WithCancel(open)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		for {
			l.learn(ctx, at, laneOpen) // not bound to the lane: the limits serve all replicas
			if !background.Sleep(open, l.wait(at, laneOpen)) {
				return
			}
		}
	})
}

// refused queries the limits of a type again, since WeChat refused a call for its quota.
func (l *learner) refused(at lane) {
	if l.wait(at, onRefusal) > 0 {
		return // the common case: concurrent calls get the same refusal
	}
	l.background.Go(func(ctx context.Context) { l.learn(ctx, at, onRefusal) })
}

// learn queries once, unless it is too early.
func (l *learner) learn(ctx context.Context, at lane, o trigger) {
	if !l.claim(at, o) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	debug := func(message string, err error) {
		l.log.Debug(message, slog.String("app", at.app), slog.String("type", at.typ), slog.Any("err", err))
	}
	key := quotaKey(at, o)
	mine, err := l.rdb.SetNX(ctx, key, "", o.every).Result() // the cheapest check first
	if err != nil || !mine {
		return // another replica made the query
	}
	if _, held, err := l.holds.Get(ctx, at.app, hold.WholeApp); err != nil || held {
		l.postponeAll(ctx, key, queryAgain) // WeChat would not answer for a held app
		return
	}
	quota, err := l.wechat.Quota(ctx, at.app, endpointOf(at.typ))
	if err != nil {
		debug("WeChat's limits could not be queried", err)
		l.postponeAll(ctx, key, afterFailure(err))
		return
	}
	l.postpone(key, o.every)
	if err := l.limiter.Learn(ctx, at.app, at.typ, learned(quota)); err != nil {
		debug("WeChat's limits could not be stored", err)
	}
}

// endpointOf returns the endpoint of a lane: that of its task type, or the type itself, which is a
// path where there is no task type.
func endpointOf(typ string) wechat.Endpoint {
	if spec, ok := tasks.Lookup(typ); ok {
		return wechat.Endpoint(spec.Path)
	}
	return wechat.Endpoint(typ)
}

// wait returns how long until the next query is allowed.
func (l *learner) wait(at lane, o trigger) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, time.Until(l.next[quotaKey(at, o)]))
}

// claim reports whether this replica may query now, and if so, allows the next query only
// after queryAgain.
func (l *learner) claim(at lane, o trigger) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := quotaKey(at, o)
	if time.Now().Before(l.next[key]) {
		return false
	}
	l.next[key] = time.Now().Add(queryAgain)
	return true
}

// postpone allows this replica's next query only after a pause.
func (l *learner) postpone(key string, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next[key] = time.Now().Add(pause)
}

// postponeAll allows the next query of all replicas only after a pause.
func (l *learner) postponeAll(ctx context.Context, key string, pause time.Duration) {
	l.postpone(key, pause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	_ = l.rdb.Expire(ctx, key, pause).Err() // on an error the key keeps its first expiry
}

// afterFailure returns the pause after an error. It is long where WeChat does not know the
// API in quota/get (76021), refuses the query (76022), or has spent the day's queries.
func afterFailure(err error) time.Duration {
	var api *wechat.APIError
	if errors.As(err, &api) {
		switch api.Class() {
		case wechat.ClassRejected, wechat.ClassRetired, wechat.ClassAccount, wechat.ClassQuotaDay:
			return queryTomorrow
		default:
		}
	}
	return queryAgain
}

// learned converts an answer to the limiter's terms. A daily limit of 0 means none. It
// ignores the remaining quota, because an answer without that field would stop the type for
// the day.
func learned(q wechat.Quota) ratelimit.Learned {
	rate := stricter(q.Rate, q.ComponentRate)
	return ratelimit.Learned{PerDay: q.DailyLimit, UsedToday: q.Used, Calls: rate.Calls, Per: rate.Per}
}

// stricter returns one limit that satisfies both. For limits of different spans that is the
// larger spacing between two calls, which satisfies both in any span.
func stricter(a, b wechat.RateLimit) wechat.RateLimit {
	switch {
	case a.Calls <= 0 || a.Per <= 0:
		return b
	case b.Calls <= 0 || b.Per <= 0:
		return a
	case a.Per == b.Per:
		return wechat.RateLimit{Calls: min(a.Calls, b.Calls), Per: a.Per}
	}
	spacing := max(a.Per/time.Duration(a.Calls), b.Per/time.Duration(b.Calls))
	return wechat.RateLimit{Calls: 1, Per: spacing}
}
