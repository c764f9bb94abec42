package worker

import (
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// verdict judges the attempt of a job. The length of a hold depends on how many holds of the
// same scope and reason there were in a row.
func (r *Replica) verdict(ctx context.Context, j *job) verdict {
	a := attempt{
		err: j.err, repeat: j.spec.Repeat, doubt: j.opened.Doubt,
		failed: j.failed, budget: r.cfg.Attempts, now: time.Now(),
	}
	r.logUnlisted(j)
	a.tokenWorks = r.tokenWorksElsewhere(ctx, j)
	a.consecutive = r.breakers.record(laneKey{j.App, j.Type}, a)
	v := judge(a)
	if v.stops == stopNothing {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	before, held, err := r.holds.Get(ctx, j.App, j.scope(v.stops))
	if err != nil || held || before.Reason != v.hold.reason {
		return v
	}
	a.holds = before.Tries
	return judge(a)
}

// codeOf returns WeChat's errcode, or 0.
func codeOf(err error) int {
	var api *wechat.APIError
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}
