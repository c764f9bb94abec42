package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Request is a call that a client wants.
type Request struct {
	App         string
	Path        string
	Method      string // GET or POST
	Query       url.Values
	ContentType string
	Body        []byte
	Secret      bool // WeChat wants the app's id and secret in place of a token
}

// CallerDeps are the dependencies of a Caller. All but Registry and Tracer are required.
type CallerDeps struct {
	Redis    redis.UniversalClient
	Limiter  *ratelimit.Limiter
	WeChat   *wechat.Client
	Registry prometheus.Registerer // nil: metrics are recorded, not exported
	Log      *slog.Logger
	Tracer   trace.Tracer // makes spans of the calls; nil: none
}

// A Caller makes calls for clients under the limits and holds of the lanes. It is safe for concurrent
// use. Create it with NewCaller.
type Caller struct {
	wait       time.Duration
	dispatcher *dispatch.Dispatcher
	holds      *hold.Store
	limiter    *ratelimit.Limiter
	log        *slog.Logger
	heldApps   sync.Map // app → true: something of it was held when last asked
}

// NewCaller creates a Caller whose calls wait for a permit up to a time. It does no I/O.
func NewCaller(wait time.Duration, deps CallerDeps) (*Caller, error) {
	c := &Caller{
		wait: wait, limiter: deps.Limiter, holds: hold.NewStore(deps.Redis), log: deps.Log,
		dispatcher: dispatch.New(dispatch.Deps{
			Redis: deps.Redis, WeChat: deps.WeChat, Limiter: deps.Limiter, Logger: deps.Log,
			Replica: "gateway-" + strings.ToLower(rand.Text()[:10]), Tracer: deps.Tracer,
		}),
	}
	if deps.Registry != nil {
		if err := c.dispatcher.Metrics.Register(deps.Registry); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Close ends what runs in the background. All calls must have ended.
func (c *Caller) Close() { c.dispatcher.Close() }

// Do makes a call. The error is a *Refusal: there is no answer of WeChat's. An answer may be an error
// of WeChat's, too.
func (c *Caller) Do(ctx context.Context, r Request) (wechat.RawAnswer, error) {
	a := c.attempt(ctx, endpointOf(r.Path), r, nil)
	if a.refusal != nil {
		return wechat.RawAnswer{}, a.refusal
	}
	return a.answer, nil
}

// attempt is what became of a call.
type attempt struct {
	answer  wechat.RawAnswer
	err     error            // of the call, or why there was none
	called  bool             // WeChat was called
	verdict dispatch.Verdict // zero for a call that was not tried
	refusal *Refusal         // the answer where there is none of WeChat's
}

// attempt takes a call through the steps of a lane. open is called when only the call itself is left;
// after an error of it there is none, and the error is the attempt's. It may be nil.
func (c *Caller) attempt(ctx context.Context, e endpoint, r Request, open func() error) (a attempt) {
	call := dispatch.Call{
		App: r.App, Type: e.lane(), Endpoint: wechat.Endpoint(e.path), API: e.api(), Template: e.template(r.Body),
		Log: func(more ...any) []any {
			return append([]any{slog.String("app", r.App), slog.String("api", e.api())}, more...)
		},
	}
	detached := context.WithoutCancel(ctx) // an answer counts also when the client has gone
	defer c.dispatcher.Release(detached, &call)
	if a.refusal = c.held(ctx, &call); a.refusal != nil {
		return a
	}
	endProbe, err := c.dispatcher.Probe(ctx, &call)
	if err != nil {
		a.refusal = errBusy.because("another call finds out whether the API works again; not sent; try later")
		return a
	}
	defer endProbe()
	if !r.Secret {
		err = c.dispatcher.FetchToken(ctx, &call)
	}
	if err == nil {
		if a.refusal = c.permit(ctx, &call); a.refusal != nil {
			return a
		}
		if open != nil {
			if err := open(); err != nil {
				a.err = err
				return a
			}
		}
		a.answer, err = c.dispatcher.SendRaw(detached, ctx, &call, wechat.RawRequest{
			Path: call.Endpoint, Method: r.Method, Query: r.Query, ContentType: r.ContentType, Body: r.Body, Secret: r.Secret,
		})
	}
	a.err, a.called = err, call.Called()
	a.verdict = c.dispatcher.Judge(detached, &call, dispatch.Attempt{
		Err: err, Repeat: tasks.Never, Budget: attemptBudget, Unchecked: true, Secret: r.Secret,
	})
	a.refusal = c.refusalOf(detached, &call, a)
	return a
}

// attemptBudget is never used up: a client decides itself how often it tries.
const attemptBudget = 1 << 30

// template returns the message template in a body, whose holds apply.
func (e endpoint) template(body []byte) string {
	if e.spec.Template == "" {
		return ""
	}
	return tasks.Envelope{Type: e.spec.Type, Body: body}.TemplateID()
}

// refusalOf returns the answer to a call without one of WeChat's, else nil.
func (c *Caller) refusalOf(ctx context.Context, call *dispatch.Call, a attempt) *Refusal {
	var (
		unsent *dispatch.NotSentError
		token  *wechat.TokenError
	)
	switch {
	case errors.Is(a.err, wechat.ErrNoCredentials):
		return errNoSecret
	case errors.As(a.err, &token):
		return tokenRefusal(token)
	case a.answer.Status != 0:
		return nil
	case errors.As(a.err, &unsent):
		return c.noPermit(ctx, call)
	case dispatch.NoAnswer(a.err):
		return errNoAnswer
	}
	return errUnreachable
}

// tokenRefusal returns the answer to a call for which there was no token: the code of the token
// endpoint, unless an SDK would take it for one about its ticket.
func tokenRefusal(err *wechat.TokenError) *Refusal {
	var api *wechat.APIError
	if errors.As(err, &api) && api.Class() == wechat.ClassConfig {
		return errNoToken.because("WeChat gives no access token of the app (errcode %d); not sent; `wxcourier check` says what to do", api.Code)
	}
	return errNoToken
}

// held returns the answer to a call that a hold stops, or nil.
func (c *Caller) held(ctx context.Context, call *dispatch.Call) *Refusal {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	scopes := []string{hold.WholeApp}
	if call.Type != "" {
		scopes = append(scopes, call.Type)
	}
	if call.Template != "" {
		scopes = append(scopes, hold.TemplateScope(call.Template))
	}
	holds, err := c.holds.InForce(ctx, call.App, scopes...)
	switch {
	case err != nil:
		return errRedis
	case len(holds) > 0:
		c.heldApps.Store(call.App, true)
		return holdRefusal(holds[0])
	}
	if _, before := c.heldApps.LoadAndDelete(call.App); before {
		c.dispatcher.HoldsChanged(ctx, call.App) // the limiter asks again at once
	}
	return nil
}

// permit waits for a permit. A limit of the day that is spent is not waited for.
func (c *Caller) permit(ctx context.Context, call *dispatch.Call) *Refusal {
	if call.Type == "" {
		return nil
	}
	deadline := time.Now().Add(max(c.wait, minWait))
	for _, until := range []time.Time{earlier(deadline, time.Now().Add(spentCheck)), deadline} {
		waiting, cancel := context.WithDeadline(ctx, until)
		p, err := c.dispatcher.Pace(call.App, call.Type, wechat.Endpoint(call.API)).Acquire(waiting, nil)
		cancel()
		switch {
		case err == nil:
			call.Assign(p)
			return nil
		case ctx.Err() != nil:
			return errBusy.because("the client did not wait for a permit; not sent")
		case !errors.Is(err, context.DeadlineExceeded):
			return errRedis
		}
		if refusal := c.spent(ctx, call, deadline); refusal != nil {
			return refusal
		}
	}
	return c.noPermit(ctx, call)
}

// minWait is how long a call waits for a permit at least: also a free one takes a round trip to Redis.
const minWait = 500 * time.Millisecond

// spentCheck is how long a call waits for a permit before it finds out whether a limit is spent.
const spentCheck = 200 * time.Millisecond

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// spent returns the answer to a call under a limit that is spent until after the deadline, or nil.
func (c *Caller) spent(ctx context.Context, call *dispatch.Call, deadline time.Time) *Refusal {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	windows, err := c.limiter.SpentWindows(ctx, call.App, call.Type, false)
	if err != nil {
		return nil // the limiter says it, too
	}
	for _, w := range windows {
		if w.Spent() && (w.Until.IsZero() || w.Until.After(deadline)) {
			return windowRefusal(call, w.Window, w.Until)
		}
	}
	return nil
}

// noPermit returns the answer to a call that got no permit in time: that of a hold, or of the window
// that is full.
func (c *Caller) noPermit(ctx context.Context, call *dispatch.Call) *Refusal {
	if refusal := c.held(ctx, call); refusal != nil {
		return refusal
	}
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	if windows, err := c.limiter.SpentWindows(ctx, call.App, call.Type, false); err == nil && len(windows) > 0 {
		return windowRefusal(call, windows[0].Window, windows[0].Until)
	}
	for _, w := range c.limiter.Windows(call.App, call.Type) {
		if w.Span == ratelimit.PerSecond || w.Span == ratelimit.PerMinute { // full a moment ago
			return windowRefusal(call, w.Span, time.Time{})
		}
	}
	return errBusy.because("no permit in time; not sent; try later")
}
