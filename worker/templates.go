package worker

import (
	"context"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// seenFor is how long a replica believes what it saw of a template's hold. The message
// that tells of a hold makes it look again at once; this is for one that was lost.
const seenFor = time.Second

// mostSeen bounds the memory of an app's templates. WeChat allows an app some dozens.
const mostSeen = 1000

// templates remembers for a moment which message templates are held, so that not every
// message asks Redis.
type templates struct {
	ask func(ctx context.Context, app, scope string) (ratelimit.Hold, bool, error)

	mu   sync.Mutex
	seen map[string]map[string]sighting // guarded by mu; by app and template
}

type sighting struct {
	held   bool
	reason string
	until  time.Time // it is believed
}

// held tells whether a template is held, and why. That Redis does not answer counts as
// no: the hold spares WeChat calls, it does not protect people.
func (t *templates) held(ctx context.Context, app, id string) (reason string, held bool) {
	t.mu.Lock()
	s, ok := t.seen[app][id]
	t.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		return s.reason, s.held
	}
	hold, held, err := t.ask(ctx, app, ratelimit.TemplateScope(id))
	if err != nil {
		return "", false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.seen == nil {
		t.seen = make(map[string]map[string]sighting)
	}
	if t.seen[app] == nil || len(t.seen[app]) >= mostSeen {
		t.seen[app] = make(map[string]sighting)
	}
	t.seen[app][id] = sighting{held: held, reason: hold.Reason, until: time.Now().Add(seenFor)}
	return hold.Reason, held
}

// forget makes the next message of an app look again: a hold was set or lifted.
func (t *templates) forget(app string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, app)
}
