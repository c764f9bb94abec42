package worker

import (
	"context"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// templateCacheTTL is how long a replica believes what it saw of a template's hold. The message
// that tells of a hold makes it look again at once; this is for one that was lost.
const templateCacheTTL = time.Second

// maxTemplates bounds the memory of an app's templates. WeChat allows an app some dozens.
const maxTemplates = 1000

// templateHolds remembers for a moment which message templates are held, so that not every
// message asks Redis.
type templateHolds struct {
	lookup func(ctx context.Context, app, scope string) (ratelimit.Hold, bool, error)

	mu     sync.Mutex
	cached map[string]map[string]cachedHold // guarded by mu; by app and template
}

type cachedHold struct {
	held   bool
	reason string
	until  time.Time // it is believed
}

// held tells whether a template is held, and why. That Redis does not answer counts as
// no: the hold spares WeChat calls, it does not protect people.
func (t *templateHolds) held(ctx context.Context, app, id string) (reason string, held bool) {
	t.mu.Lock()
	s, ok := t.cached[app][id]
	t.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.reason, s.held
	}
	hold, held, err := t.lookup(ctx, app, ratelimit.TemplateScope(id))
	if err != nil {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cached == nil {
		t.cached = make(map[string]map[string]cachedHold)
	}
	if t.cached[app] == nil || len(t.cached[app]) >= maxTemplates {
		t.cached[app] = make(map[string]cachedHold)
	}
	t.cached[app][id] = cachedHold{held: held, reason: hold.Reason, until: time.Now().Add(templateCacheTTL)}
	return hold.Reason, held
}

// forget makes the next message of an app look again: a hold was set or lifted.
func (t *templateHolds) forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cached, app)
}
