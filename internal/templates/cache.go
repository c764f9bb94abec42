package templates

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
)

// Key returns the key of the registry of an app.
func Key(app string) string { return "wxcourier:{" + app + "}:templates" }

// DueKey is the sorted set of the apps whose templates are asked for; the score is when, in seconds
// since 1970.
const DueKey = "wxcourier:templates:due"

// readEvery is how long a [Cache] uses what it has read; readAgain, after an error of Redis.
const (
	readEvery   = time.Minute
	readAgain   = 5 * time.Second
	readTimeout = time.Second
)

// Cache reads the registries of apps. The first calls for an app wait until its registry is read. It is
// read again at most once a minute, in the background, when a call finds it too old; calls use what is
// known meanwhile, also while Redis does not answer. Between these reads a Cache has no goroutine. It is
// safe for concurrent use. The caller closes it.
type Cache struct {
	rdb  redis.UniversalClient
	now  func() time.Time
	apps sync.Map     // app → *cached
	away atomic.Int64 // Redis is not asked until then, in ns since 1970: it did not answer

	background *background.Group
	mu         sync.Mutex
	closed     bool // guarded by mu: no goroutine is started any more
}

// cached is the registry of an app, as it was read.
type cached struct {
	reading  sync.Mutex               // held during a read, which may be that of a goroutine
	registry atomic.Pointer[Registry] // nil: there is none
	next     atomic.Int64             // when to read again, in ns since 1970; 0: it was not read yet
	asked    atomic.Int64             // when Want last asked for a fetch
}

// NewCache creates a Cache. It does no I/O. A nil clock is time.Now.
func NewCache(rdb redis.UniversalClient, clock func() time.Time) *Cache {
	if clock == nil {
		clock = time.Now
	}
	return &Cache{rdb: rdb, now: clock, background: background.NewGroup()}
}

// Close ends the reads in the background, and waits for them. Later calls use what is known then.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.background.Close()
}

func (c *Cache) app(id string) *cached {
	if found, ok := c.apps.Load(id); ok {
		return found.(*cached) //nolint:forcetypeassert // the map has no other type
	}
	found, _ := c.apps.LoadOrStore(id, new(cached))
	return found.(*cached) //nolint:forcetypeassert // likewise
}

// Get returns the registry of an app, nil if there is none or Redis does not answer. The caller must
// not change it.
func (c *Cache) Get(ctx context.Context, app string) *Registry {
	entry := c.app(app)
	now, next := c.now().UnixNano(), entry.next.Load()
	switch {
	case now < next || now < c.away.Load():
	case next != 0:
		c.readLater(app, entry, next)
	default: // the first calls wait for the first one
		entry.reading.Lock()
		defer entry.reading.Unlock()
		if entry.next.Load() == 0 {
			c.read(ctx, app, entry)
		}
	}
	return entry.registry.Load()
}

// readLater reads a registry in the background, unless that is under way, or was done after the caller
// found that it was due at next.
func (c *Cache) readLater(app string, entry *cached, next int64) {
	if !entry.reading.TryLock() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || entry.next.Load() != next {
		entry.reading.Unlock()
		return
	}
	c.background.Go(func(ctx context.Context) {
		defer entry.reading.Unlock()
		c.read(ctx, app, entry)
	})
}

// read reads the registry of an app. The caller holds entry.reading.
func (c *Cache) read(ctx context.Context, app string, entry *cached) {
	if c.now().UnixNano() < c.away.Load() {
		return // another app's read has just failed
	}
	reading, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	registry, err := Read(reading, c.rdb, app)
	switch {
	case err == nil:
		entry.registry.Store(registry)
	case ctx.Err() != nil: // of this caller only
		return
	case !errors.Is(err, errDecode):
		c.away.Store(c.now().Add(readAgain).UnixNano())
		return
	}
	entry.next.Store(c.now().Add(readEvery).UnixNano())
}

// Read reads the registry of an app, nil if there is none.
func Read(ctx context.Context, rdb redis.UniversalClient, app string) (*Registry, error) {
	text, err := rdb.Get(ctx, Key(app)).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	return Decode(text)
}

// Kind returns whether a template is for one message for each acceptance (OneTime) or for any number
// (LongTerm). known is false for a template that is in no list yet, or not for subscribe messages. Of
// an app that was not read yet it asks Redis, for at most a second.
func (c *Cache) Kind(app, template string) (kind int, known bool) {
	t := c.Get(context.Background(), app).Template(Subscribe, template)
	if t == nil || t.Kind != OneTime && t.Kind != LongTerm {
		return 0, false
	}
	return t.Kind, true
}

// Want asks for a fetch of an app's templates, since a message did not fit what is known: by a replica
// that serves the app, as soon as the pauses between fetches allow. Each Cache asks at most once a
// minute for each app. An error of Redis is ignored.
func (c *Cache) Want(ctx context.Context, app string) {
	entry, now := c.app(app), c.now()
	last := entry.asked.Load()
	if now.UnixNano()-last < int64(readEvery) || !entry.asked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_ = c.rdb.ZAdd(ctx, DueKey, redis.Z{Score: float64(now.Unix()), Member: app}).Err()
}
