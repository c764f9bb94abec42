package worker

import (
	"context"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
)

// templateCacheTTL is how long a replica caches whether a template is held. The message
// about a hold clears the cache at once; the TTL is for messages that are lost.
const templateCacheTTL = time.Second

// maxTemplates bounds the cached templates of an app. WeChat allows an app some dozens.
const maxTemplates = 1000

// templateHolds caches which message templates are held, so that not every message costs a
// call to Redis.
type templateHolds struct {
	lookup func(ctx context.Context, app, scope string) (hold.Hold, bool, error)

	mu     sync.Mutex
	cached map[string]map[string]cachedHold // guarded by mu; app → template → hold
}

type cachedHold struct {
	held   bool
	reason string
	until  time.Time // the entry is valid
}

// held reports whether a template is held, and why. It returns false where Redis does not
// answer: the hold only saves calls that WeChat would refuse.
func (t *templateHolds) held(ctx context.Context, app, id string) (reason string, held bool) {
	t.mu.Lock()
	s, ok := t.cached[app][id]
	t.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.reason, s.held
	}
	hold, held, err := t.lookup(ctx, app, hold.TemplateScope(id))
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

// forget clears the cache of an app, since a hold was set or lifted.
func (t *templateHolds) forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cached, app)
}
