package dispatch

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

// Attempt is what a [Verdict] depends on.
type Attempt struct {
	Err    error        // of the call, or why there was none; nil for errcode 0
	Repeat tasks.Repeat // whether the request may be repeated after no answer
	Doubt  bool         // an earlier request got no answer, and may have been taken
	Failed int          // attempts that failed before this one
	Budget int          // attempts that may fail
	// Unchecked: a client wrote the request, and nothing checked it. An answer that its content may
	// have caused concerns no other call.
	Unchecked bool
	Secret    bool // the request had the app's own id and secret: codes about these concern the app

	noLane      bool // the call has no lane to hold
	noTemplate  bool // the call has no template to hold
	holds       int  // earlier holds of the same scope and reason in a row
	consecutive int  // answers in a row that count for the lane's breaker, including this one
	tokenWorks  bool // WeChat takes the token, which it refused for this API, for another
	now         time.Time
}

// Judge returns the verdict on a call, and carries out what it means for other calls: the
// pace, holds, breakers, and WeChat's limits. The length of a hold depends on how many holds
// of the same scope and reason there were in a row.
func (d *Dispatcher) Judge(ctx context.Context, c *Call, a Attempt) Verdict {
	a.now = time.Now()
	a.noLane, a.noTemplate = c.Type == "", c.Template == ""
	d.logUnlisted(c, a.Err)
	a.tokenWorks = d.tokenWorksElsewhere(ctx, c, a.Err)
	if !a.noLane {
		a.consecutive = d.breakers.record(c.lane(), a)
	}
	v := judge(a)
	if v.stops != stopNothing {
		a.holds = d.earlierHolds(ctx, c, v)
		v = judge(a)
	}
	return d.feedBack(ctx, c, a.Err, v)
}

// earlierHolds returns how many holds like that of a verdict there were in a row, the last of
// which has ended.
func (d *Dispatcher) earlierHolds(ctx context.Context, c *Call, v Verdict) int {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	before, held, err := d.holds.Get(ctx, c.App, c.scope(v.stops))
	if err != nil || held || before.Reason != v.hold.reason {
		return 0
	}
	return before.Tries
}

// feedBack carries out what a verdict means for other calls.
func (d *Dispatcher) feedBack(ctx context.Context, c *Call, err error, v Verdict) Verdict {
	if v.slows != "" {
		d.lowerPace(ctx, c, v.slows)
	}
	if v.stops != stopNothing {
		v = d.hold(ctx, c, err, v)
	}
	if v.learns {
		d.learner.refused(c.lane())
	}
	return v
}

// scope returns the scope of the hold that a verdict sets.
func (c *Call) scope(s stop) string {
	switch s {
	case stopApp:
		return hold.WholeApp
	case stopTemplate:
		return hold.TemplateScope(c.Template)
	case stopLane, stopNothing:
	}
	return c.Type
}
