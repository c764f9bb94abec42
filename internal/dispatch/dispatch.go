// Package dispatch makes calls to WeChat: permit → token → call → class → feedback.
//
// A [Dispatcher] belongs to one process and serves any number of apps and endpoints. A [Call]
// is one request; its steps are methods of the Dispatcher, since their order differs between a
// worker's lane, which got its permit before the task, and other callers:
//
//	call := dispatch.Call{App: app, Type: typ, Endpoint: path}
//	defer d.Release(ctx, &call)
//	d.FetchToken(ctx, &call)
//	d.AcquirePermit(ctx, &call)
//	answer, err := d.Send(ctx, ctx, &call, request)
//	verdict := d.Judge(ctx, &call, dispatch.Attempt{Err: err, …})
//
// Package wechat defines what an answer means (its class), verdict.go what follows from each
// class, schedules.go how long to wait. Judge also carries out what concerns other calls: it
// lowers the pace, sets holds for all replicas, and queries limits that WeChat changed. What
// concerns the task alone (its outcome, its next attempt) is in the [Verdict], for the caller.
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// redisTimeout bounds a call to Redis.
const redisTimeout = 3 * time.Second

// Deps are the dependencies of a Dispatcher. All but Tracer are required.
type Deps struct {
	Redis   redis.UniversalClient
	WeChat  *wechat.Client
	Limiter *ratelimit.Limiter
	Logger  *slog.Logger
	Replica string       // the name of this process in the holds that it sets
	Tracer  trace.Tracer // makes spans of the calls; nil: none
}

// A Dispatcher makes calls to WeChat for many apps. Its methods may be called from many
// goroutines at once.
type Dispatcher struct {
	Metrics *Metrics

	rdb         redis.UniversalClient
	wechat      *wechat.Client
	limiter     *ratelimit.Limiter
	log         *slog.Logger
	replica     string
	tracer      trace.Tracer
	background  *background.Group
	breakers    breakers
	holds       *hold.Store
	templates   *hold.Templates
	loggedHolds loggedHolds
	unlisted    unlistedCodes
	tokenChecks sync.Map // app → *tokenCheck
	learner     *learner
	recovery    *paceRecovery
}

// New creates a Dispatcher. It does no I/O. Call Close at the end.
func New(deps Deps) *Dispatcher {
	d := &Dispatcher{
		Metrics: newMetrics(),
		rdb:     deps.Redis, wechat: deps.WeChat, limiter: deps.Limiter, log: deps.Logger, replica: deps.Replica,
		tracer:     deps.Tracer,
		background: background.NewGroup(),
	}
	d.holds = hold.NewStore(d.rdb, hold.WithOnChange(d.RevokePermits))
	d.templates = hold.NewTemplates(d.holds)
	d.learner = &learner{rdb: d.rdb, wechat: d.wechat, limiter: d.limiter, holds: d.holds, log: d.log, background: d.background, next: make(map[string]time.Time)}
	d.recovery = &paceRecovery{limiter: d.limiter, log: d.log, background: d.background, watched: make(map[lane]int)}
	return d
}

// Close ends the queries in the background and waits for them. All calls must have ended.
func (d *Dispatcher) Close() { d.background.Close() }

// FollowLimits queries WeChat's limits of an app's type, now and once an hour, until open
// ends. It returns at once.
func (d *Dispatcher) FollowLimits(open context.Context, app, typ string) {
	d.learner.follow(open, lane{app, typ})
}

// HoldsChanged makes this process check the holds of an app again, since one was set or
// lifted: it returns the permits that were leased for the app, and forgets which of its
// templates are held.
func (d *Dispatcher) HoldsChanged(ctx context.Context, app string) {
	d.RevokePermits(ctx, app)
	d.templates.Forget(app)
}

// TemplateHeld reports whether a message template of an app is held, and why. It returns false
// where Redis does not answer: the hold only saves calls that WeChat would refuse.
func (d *Dispatcher) TemplateHeld(ctx context.Context, app, template string) (reason string, held bool) {
	return d.templates.Held(ctx, app, template)
}

// lane is an app and one of its types, whose calls share limits, holds and a breaker.
type lane struct{ app, typ string }
