package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// learner asks WeChat for the limits that it keeps for an app, and hands them to the
// limiter. It asks seldom, since quota/get is limited itself, and in the background: what
// it learns makes the pace better, and no delivery waits for it or fails by it.
//
// What quota/get tells is about one API, so it is kept for the row of the type alone. A
// group (links, qrcode) keeps its own window beside it.
type learner struct {
	replica *Replica
	mu      sync.Mutex
	next    map[string]time.Time // guarded by mu; by key in Redis: nobody asks before
}

func newLearner(r *Replica) *learner {
	return &learner{replica: r, next: make(map[string]time.Time)}
}

// trigger is a reason to ask, and how often all replicas together may do so for it.
type trigger struct {
	suffix string // of the key in Redis that says that it was asked
	every  time.Duration
}

// The occasions. A lane that stays open asks again and again: a limit that WeChat has
// raised would otherwise never be learned by a lane that has it used up every day.
var (
	laneOpen  = trigger{"", time.Hour}
	onRefusal = trigger{":refused", 10 * time.Minute}
)

const (
	queryTimeout   = 20 * time.Second // one question, with its token
	queryAgain    = 5 * time.Minute  // after a question that failed, or that others asked
	queryTomorrow = 24 * time.Hour   // after an answer that will be the same for long
)

// quotaKey marks a question as asked: an empty string that expires when the next may be
// asked. Private.
func quotaKey(app, typ string, o trigger) string {
	return "wxcourier:{" + app + "}:quota:" + typ + o.suffix
}

// follow learns the limits of a lane as long as it is open.
func (l *learner) follow(lane *lane) {
	l.replica.background.Go(func(ctx context.Context) {
		open, done := lane.whileOpen(ctx)
		defer done()
		for {
			l.learn(ctx, lane.app, lane.typ, laneOpen) // its answer is for others, too
			if !sleep(open, l.wait(lane.app, lane.typ, laneOpen)) {
				return
			}
		}
	})
}

// refused learns the limits of a type anew, since WeChat refused to go on.
func (l *learner) refused(app, typ string) {
	if l.wait(app, typ, onRefusal) > 0 {
		return // as after nearly all refusals: calls under way meet the same one
	}
	l.replica.background.Go(func(ctx context.Context) { l.learn(ctx, app, typ, onRefusal) })
}

// learn asks once, if it is time.
func (l *learner) learn(ctx context.Context, app, typ string, o trigger) {
	if !l.claim(app, typ, o) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	r := l.replica
	say := func(message string, err error) {
		r.log.Debug(message, slog.String("app", app), slog.String("type", typ), slog.Any("err", err))
	}
	key := quotaKey(app, typ, o)
	mine, err := r.rdb.SetNX(ctx, key, "", o.every).Result() // first: most lanes that open need no more
	if err != nil || !mine {
		return // another replica has asked
	}
	if _, held, err := r.limiter.HoldFor(ctx, app, ratelimit.WholeApp); err != nil || held {
		l.postponeAll(ctx, key, queryAgain) // an app that is held would not get an answer
		return
	}
	spec, _ := tasks.Lookup(typ)
	quota, err := r.wechat.Quota(ctx, app, wechat.Endpoint(spec.Path))
	if err != nil {
		say("WeChat does not tell its limits", err)
		l.postponeAll(ctx, key, afterFailure(err))
		return
	}
	l.postpone(key, o.every)
	if err := r.limiter.Learn(ctx, app, typ, learned(quota)); err != nil {
		say("WeChat's limits could not be kept", err)
	}
}

// wait is how long nobody asks.
func (l *learner) wait(app, typ string, o trigger) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, time.Until(l.next[quotaKey(app, typ, o)]))
}

// claim tells whether this replica may ask now, and then keeps it from asking again
// before long.
func (l *learner) claim(app, typ string, o trigger) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := quotaKey(app, typ, o)
	if time.Now().Before(l.next[key]) {
		return false
	}
	l.next[key] = time.Now().Add(queryAgain)
	return true
}

// postpone keeps this replica from asking for a while.
func (l *learner) postpone(key string, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next[key] = time.Now().Add(pause)
}

// postponeAll keeps all replicas from asking for a while.
func (l *learner) postponeAll(ctx context.Context, key string, pause time.Duration) {
	l.postpone(key, pause)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	_ = l.replica.rdb.Expire(ctx, key, pause).Err() // else it stays as long as it was claimed for
}

// afterFailure is how long nobody asks after an error: WeChat that does not know the API
// here (76021), does not tell (76022) or has told enough today will not do so soon.
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

// learned is what an answer says in the limiter's terms. A daily limit of 0 is none. Of
// the quota that remains nothing is believed: an answer without it would stop the type for
// the day.
func learned(q wechat.Quota) ratelimit.Learned {
	rate := stricter(q.Rate, q.ComponentRate)
	return ratelimit.Learned{PerDay: q.DailyLimit, UsedToday: q.Used, Calls: rate.Calls, Per: rate.Per}
}

// stricter is one limit that keeps both. Two of different spans are kept by calls that are
// spaced out as the slower one demands: they hold in any span.
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
