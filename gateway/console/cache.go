package console

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// sharing is how long a reading of Redis is shown: all viewers share it.
const sharing = 2 * time.Second

// cache has the last readings of Redis by name.
type cache struct {
	now func() time.Time

	mu       sync.Mutex
	readings map[string]*reading // guarded by mu
}

// reading is one reading. Its fields are set when done is closed.
type reading struct {
	done  chan struct{}
	at    time.Time
	took  time.Duration
	value any
	err   error
}

func newCache() *cache { return &cache{now: time.Now, readings: make(map[string]*reading)} }

// shared returns the value of a name, which load reads: at most every two seconds, and once for all
// that ask at the same time. The value is shared: do not change it. It must not depend on a key's
// permissions, except by the name.
func shared[T any](ctx context.Context, c *Console, name string, load func(context.Context) (T, error)) (T, error) {
	return sharedFor(ctx, c, name, sharing, load)
}

// sharedFor is shared with another time between two readings.
func sharedFor[T any](ctx context.Context, c *Console, name string, span time.Duration, load func(context.Context) (T, error)) (T, error) {
	var zero T
	c.cache.mu.Lock()
	r, ok := c.cache.readings[name]
	first := !ok || r.over(c.cache.now(), span)
	if first {
		c.cache.sweep()
		r = &reading{done: make(chan struct{}), err: errNotRead}
		c.cache.readings[name] = r
	}
	c.cache.mu.Unlock()
	if first {
		r.read(ctx, c.cache.now, func(ctx context.Context) (any, error) { return load(ctx) })
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return zero, ctx.Err()
	}
	if r.err != nil {
		return zero, r.err
	}
	value, _ := r.value.(T)
	return value, nil
}

// errNotRead is the error of a reading that panicked.
var errNotRead = errors.New("console: a reading failed")

// readTimeout bounds a reading.
const readTimeout = 10 * time.Second

// read makes the reading. Others wait for it too: it does not end with the request that makes it.
func (r *reading) read(ctx context.Context, now func() time.Time, load func(context.Context) (any, error)) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	start := time.Now()
	r.at = now()
	r.value, r.err = load(ctx)
	if r.at = now(); r.err == nil {
		r.took = time.Since(start)
	}
}

// forget lets the next reading of a name be a new one, after a change.
func (c *cache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readings, name)
}

// maxReadings is from which number of readings on old ones are deleted.
const maxReadings = 64

// sweep deletes old readings: names have ids of batches and the like. c.mu is held.
func (c *cache) sweep() {
	if len(c.readings) < maxReadings {
		return
	}
	now := c.now()
	maps.DeleteFunc(c.readings, func(_ string, r *reading) bool { return r.over(now, maxPause) })
}

const (
	// pauseFactor bounds what readings cost: after one that took long, the next one is made that many
	// times as long later, but after maxPause at the latest.
	pauseFactor = 20
	maxPause    = 10 * time.Second
)

// over reports whether a reading is older than span, or than the pause after one that took long.
func (r *reading) over(now time.Time, span time.Duration) bool {
	select {
	case <-r.done:
		return now.Sub(r.at) >= max(span, min(pauseFactor*r.took, maxPause))
	default:
		return false
	}
}
