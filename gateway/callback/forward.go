package callback

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Forward is where pushes of an app go that wxcourier does not handle.
type Forward struct {
	webhook.Target
	All bool // also those that wxcourier handles
}

func (f Forward) equal(o Forward) bool {
	return f.URL == o.URL && f.Secret == o.Secret && f.All == o.All && slices.Equal(f.AllowPrivate, o.AllowPrivate)
}

const (
	// repeatsFor is how long after the first time a push is forwarded again: WeChat repeats a push
	// whose answer it did not get. What comes later is a replay.
	repeatsFor = 30 * time.Second
	// retryAfter is the pause before the second try, and retryWithin what must be left of the time then.
	retryAfter  = 300 * time.Millisecond
	retryWithin = time.Second
	// AppHeader is the header of a forwarded push with the app's id.
	AppHeader = "Wxcourier-App"
	// resultBadReply counts answers that are not a passive reply.
	resultBadReply = "not_a_reply"
)

// forwarder forwards pushes. It keeps one caller per app.
type forwarder struct {
	deps    Deps
	timeout time.Duration
	metrics *metrics

	mu      sync.Mutex
	callers map[string]*target // guarded by mu; by app
}

// target is a caller with what it was made from.
type target struct {
	Forward
	caller *webhook.Caller
}

func newForwarder(deps Deps, timeout time.Duration, m *metrics) *forwarder {
	return &forwarder{deps: deps, timeout: timeout, metrics: m, callers: make(map[string]*target)}
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.callers {
		t.caller.Close()
	}
}

// caller returns the caller of an app, made anew when its configuration has changed.
func (f *forwarder) caller(app string, to Forward) (*webhook.Caller, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.callers[app]
	if t != nil && t.equal(to) {
		return t.caller, nil
	}
	caller, err := webhook.NewCaller(to.Target, f.timeout, map[string]string{AppHeader: app})
	if err != nil {
		return nil, err
	}
	if t != nil {
		t.caller.Close()
	}
	f.callers[app] = &target{Forward: to, caller: caller}
	return caller, nil
}

// forward forwards a push, and passes the service's passive reply back. While the service fails WeChat
// is answered with "success": answers other than 200 would make it hold back receipts as well, and a
// push is not stored, so that it cannot be repeated later.
func (r *Receiver) forward(ctx context.Context, q request, to Forward, identity string, m callback.Message) answer {
	if r.forwarder.replayed(ctx, q.app, identity) {
		return success(resultDuplicate)
	}
	q.release()
	reply, class := []byte(nil), resultBusy
	select {
	case r.forwards <- struct{}{}:
		reply, class = r.forwarder.call(ctx, q.app, to, "msg_"+identity, m)
		<-r.forwards
	default:
	}
	if len(reply) > 0 && !isReply(m.Format, reply) {
		reply, class = nil, resultBadReply
	}
	r.metrics.forwards.WithLabelValues(q.app, class).Inc()
	if class != string(webhook.ClassOK) && r.warned.first(q.app+" forward "+class) {
		r.deps.Log.Warn("a push was not forwarded, or not answered: the person gets no reply", "app", q.app, "class", class)
	}
	body, contentType, err := q.keys.Reply(m, reply, time.Now())
	if err != nil {
		return success(resultForwarded)
	}
	return answer{result: resultForwarded, status: http.StatusOK, contentType: contentType, body: body}
}

// isReply reports whether a service's answer can be a passive reply: success, or in the format of the
// push. For another answer WeChat would show an error to the person.
func isReply(f callback.Format, reply []byte) bool {
	trimmed := bytes.TrimSpace(reply)
	if len(trimmed) == 0 || string(trimmed) == callback.Success {
		return true
	}
	return f == callback.XML && trimmed[0] == '<' || f == callback.JSON && trimmed[0] == '{'
}

// replayed reports whether a push was forwarded before, longer ago than WeChat repeats. While Redis
// does not answer, it is not known.
func (f *forwarder) replayed(ctx context.Context, app, identity string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	key, keep := forwardedKey(app, identity), seenFor(f.deps.MaxAge)
	var left *redis.DurationCmd
	_, err := f.deps.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SetNX(ctx, key, "", keep)
		left = p.PTTL(ctx, key) // the age by Redis' clock: those of two gateways may differ
		return nil
	})
	return err == nil && left.Val() >= 0 && keep-left.Val() > repeatsFor
}

// call calls the service, twice if it fails at once.
func (f *forwarder) call(ctx context.Context, app string, to Forward, id string, m callback.Message) (reply []byte, class string) {
	caller, err := f.caller(app, to)
	if err != nil {
		return nil, string(webhook.ClassProtocol)
	}
	var a webhook.Reply
	for try := range 2 {
		if try > 0 && !f.again(ctx, a) {
			break
		}
		a = caller.Call(ctx, id, m.Format.ContentType(), m.Body)
	}
	return a.Body, string(a.Class)
}

// again waits before a second try, and reports whether there is one.
func (f *forwarder) again(ctx context.Context, a webhook.Reply) bool {
	deadline, _ := ctx.Deadline()
	if a.Class != webhook.ClassNetwork && a.Class != webhook.ClassServer || time.Until(deadline) < retryAfter+retryWithin {
		return false
	}
	return background.Sleep(ctx, retryAfter) && !errors.Is(ctx.Err(), context.DeadlineExceeded)
}
