package worker

import (
	"context"
	"sync"
)

// turns lets one task at a time send to one person. WeChat refuses a second message to
// an openid while the first is under way (43108).
type turns struct {
	mu   sync.Mutex
	held map[string]*turn // guarded by mu, also what is in them; people whom somebody sends to or waits for
}

type turn struct {
	users int           // who send or wait
	free  chan struct{} // of those who wait: gets a token when whoever sends is done; nil while nobody waits
}

func newTurns() *turns { return &turns{held: make(map[string]*turn)} }

// enter waits for the turn of a key, and returns the function that ends it. An empty
// key has no turns. It returns ctx's error when ctx ends first.
func (t *turns) enter(ctx context.Context, key string) (leave func(), err error) {
	if key == "" {
		return func() {}, nil
	}
	mine, first := t.join(key)
	if first {
		return func() { t.part(key, mine, true) }, nil
	}
	select {
	case <-mine.free:
		return func() { t.part(key, mine, true) }, nil
	case <-ctx.Done():
		t.part(key, mine, false)
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
	mine := &turn{users: 1}
	t.held[key] = mine
	return func() { t.part(key, mine, true) }, true
}

// join is for who sends or waits. The first has the turn at once.
func (t *turns) join(key string) (mine *turn, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	mine = t.held[key]
	if mine == nil {
		mine, first = new(turn), true
		t.held[key] = mine
	} else if mine.free == nil {
		mine.free = make(chan struct{}, 1)
	}
	mine.users++
	return mine, first
}

// part is for who sent, and passes the turn on, or waited no longer. A turn that nobody
// uses is forgotten.
func (t *turns) part(key string, mine *turn, had bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if mine.users--; mine.users == 0 {
		delete(t.held, key)
	} else if had {
		mine.free <- struct{}{} // of those who are left, all wait
	}
}
