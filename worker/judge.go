package worker

import (
	"context"
	"errors"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// judge gives the verdict on the attempt of a job.
func (r *Replica) judge(ctx context.Context, j *job) verdict {
	a := attempt{
		err: j.err, repeat: j.spec.Repeat, failed: j.failed, budget: r.cfg.Attempts, now: time.Now(),
	}
	v := judge(a)
	if v.stops == stopNothing {
		return v
	}
	// How long it is held depends on how often it was held in a row.
	hold, held, err := r.limiter.HoldFor(ctx, j.App, j.scope(v.stops))
	if err != nil || hold.Tries == 0 {
		return v
	}
	if held { // another run met the same, and has set it
		v.delay = time.Until(hold.Until)
		return v
	}
	a.holds = hold.Tries
	return judge(a)
}

func codeOf(err error) int {
	var api *wechat.APIError
	if errors.As(err, &api) {
		return api.Code
	}
	return 0
}
