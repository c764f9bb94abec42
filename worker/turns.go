package worker

import (
	"context"
	"sync"
)

// turns lets one task at a time send to one person. WeChat refuses a second message to
// an openid while the first is under way (43108).
type turns struct {
	mu   sync.Mutex
	held map[string]*turn // guarded by mu; people whom somebody sends to or waits for
}

type turn struct {
	free  chan struct{} // holds one token while nobody sends
	users int           // guarded by turns.mu; who send or wait
}

func newTurns() *turns { return &turns{held: make(map[string]*turn)} }

// enter waits for the turn of a key, and returns the function that ends it. An empty
// key has no turns. It returns ctx's error when ctx ends first.
func (t *turns) enter(ctx context.Context, key string) (leave func(), err error) {
	if key == "" {
		return func() {}, nil
	}
	mine := t.join(key)
	select {
	case <-mine.free:
		return func() { t.end(key, mine) }, nil
	case <-ctx.Done():
		t.part(key, mine)
		return nil, ctx.Err()
	}
}

// try is enter for those who do not wait: ok is false when somebody else has the turn.
func (t *turns) try(key string) (leave func(), ok bool) {
	if key == "" {
		return func() {}, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held[key] != nil {
		return nil, false
	}
	mine := &turn{free: make(chan struct{}, 1), users: 1}
	t.held[key] = mine
	return func() { t.end(key, mine) }, true
}

// end passes the turn on, or forgets it when nobody waits.
func (t *turns) end(key string, mine *turn) {
	mine.free <- struct{}{}
	t.part(key, mine)
}

func (t *turns) join(key string) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine, ok := t.held[key]
	if !ok {
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.held[key] = mine
	}
	mine.users++
	return mine
}

func (t *turns) part(key string, mine *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.held, key)
	}
}
