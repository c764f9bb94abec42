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
		return func() {
			mine.free <- struct{}{}
			t.part(key, mine)
		}, nil
	case <-ctx.Done():
		t.part(key, mine)
		return nil, ctx.Err()
	}
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
