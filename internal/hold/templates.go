package hold

import (
	"context"
	"sync"
	"time"
)

// templateTTL is how long it is cached whether a template is held. The message about a hold
// clears the cache at once; the TTL is for messages that are lost.
const templateTTL = time.Second

// maxTemplates bounds the cached templates of an app. WeChat allows an app some dozens.
const maxTemplates = 1000

// Templates caches which message templates are held, so that not every message costs a call to
// Redis. It is safe for concurrent use.
type Templates struct {
	store *Store

	mu     sync.Mutex
	cached map[string]map[string]cachedHold // guarded by mu; app → template → hold
}

type cachedHold struct {
	held   bool
	reason string
	until  time.Time // the entry is valid
}

// NewTemplates returns an empty cache.
func NewTemplates(store *Store) *Templates {
	return &Templates{store: store, cached: make(map[string]map[string]cachedHold)}
}

// Held reports whether a template is held, and why. It returns false where Redis does not
// answer: the hold only saves calls that WeChat would refuse.
func (t *Templates) Held(ctx context.Context, app, id string) (reason string, held bool) {
	t.mu.Lock()
	c, ok := t.cached[app][id]
	t.mu.Unlock()
	if ok && time.Now().Before(c.until) {
		return c.reason, c.held
	}
	h, held, err := t.store.Get(ctx, app, TemplateScope(id))
	if err != nil {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cached[app] == nil || len(t.cached[app]) >= maxTemplates {
		t.cached[app] = make(map[string]cachedHold)
	}
	t.cached[app][id] = cachedHold{held: held, reason: h.Reason, until: time.Now().Add(templateTTL)}
	return h.Reason, held
}

// Forget clears the cache of an app. Call it when a hold of the app was set or lifted.
func (t *Templates) Forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.cached, app)
}
