package templates_test

import (
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
)

const (
	shopApp  = "wx0123456789abcdef"
	otherApp = "wx00000000000000aa"
)

// clock is a clock that tests move.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// reads counts the GETs of a client, and may hold them back or make them fail.
type reads struct {
	n     atomic.Int64
	ended atomic.Int64
	mu    sync.Mutex
	block chan struct{} // guarded by mu; a GET waits until it is closed
	hang  bool          // guarded by mu; a GET waits until its context is canceled
	fail  error         // guarded by mu
}

func (r *reads) set(block chan struct{}, fail error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.block, r.fail = block, fail
}

func (*reads) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*reads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *reads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "get" || !strings.HasSuffix(cmd.Args()[1].(string), ":templates") {
			return next(ctx, cmd)
		}
		r.n.Add(1)
		defer r.ended.Add(1)
		r.mu.Lock()
		block, hang, fail := r.block, r.hang, r.fail
		r.mu.Unlock()
		switch {
		case block != nil:
			<-block
			return next(context.WithoutCancel(ctx), cmd)
		case hang:
			<-ctx.Done()
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
		if fail != nil {
			cmd.SetErr(fail)
			return fail
		}
		return next(ctx, cmd)
	}
}

// store writes a registry with one template, whose title tells the registries apart.
func store(t *testing.T, rdb redis.UniversalClient, app, title string) {
	t.Helper()
	r := &templates.Registry{Mode: templates.Mode{Check: templates.CheckReject, Fix: true}}
	r.SetList(templates.Subscribe, []templates.Template{
		{ID: "T1", Title: title, Kind: templates.OneTime, Fields: []templates.Field{{Name: "thing1", Kind: "thing"}}},
		{ID: "T2", Kind: templates.LongTerm},
		{ID: "T3"},
	}, time.Now())
	text, err := json.Marshal(r)
	if err == nil {
		err = rdb.Set(t.Context(), templates.Key(app), text, 0).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// title returns the title of the template that store wrote, "" for no registry.
func title(r *templates.Registry) string {
	if found := r.Template(templates.Subscribe, "T1"); found != nil {
		return found.Title
	}
	return ""
}

// until waits until a call that may start a read in the background finds a title.
func until(t *testing.T, c *templates.Cache, app, want string) {
	t.Helper()
	redistest.Until(t, time.Minute, "the registry has the title "+want, func() bool { return title(c.Get(t.Context(), app)) == want })
}

// TestCache: the first call reads, later ones use what it read for a minute, and then read in the
// background. What is deleted or broken in Redis is seen too.
func TestCache(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, now, counted := t.Context(), newClock(), new(reads)
		rdb.AddHook(counted)
		cache := templates.NewCache(rdb, now.now)
		defer cache.Close()
		if cache.Get(ctx, shopApp) != nil {
			t.Error("an app without a registry has one")
		}
		store(t, rdb, shopApp, "one")
		store(t, rdb, otherApp, "other")
		if cache.Get(ctx, shopApp) != nil {
			t.Error("a registry was read again within a minute")
		}
		if got := title(cache.Get(ctx, otherApp)); got != "other" {
			t.Errorf("the first call for another app found %q", got)
		}
		now.advance(time.Minute)
		until(t, cache, shopApp, "one")
		store(t, rdb, shopApp, "two")
		if got := title(cache.Get(ctx, shopApp)); got != "one" {
			t.Errorf("%q was read within a minute", got)
		}
		now.advance(time.Minute)
		until(t, cache, shopApp, "two")
		if err := rdb.Set(ctx, templates.Key(shopApp), "{", 0).Err(); err != nil {
			t.Fatal(err)
		}
		before := counted.n.Load()
		now.advance(time.Minute)
		redistest.Until(t, time.Minute, "the broken registry was read", func() bool {
			return title(cache.Get(ctx, shopApp)) == "two" && counted.n.Load() > before
		})
		if err := rdb.Del(ctx, templates.Key(shopApp)).Err(); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, time.Minute, "the deleted registry is not known any more", func() bool {
			now.advance(10 * time.Second) // a read that began before the deletion keeps the old one for a minute
			return cache.Get(ctx, shopApp) == nil
		})
	})
}

// TestCacheReadsInTheBackground: while Redis does not answer, calls return at once with what is known;
// one read is under way, and Close ends it.
func TestCacheReadsInTheBackground(t *testing.T) {
	_, rdb := redistest.Mini(t)
	now, counted := newClock(), new(reads)
	rdb.AddHook(counted)
	store(t, rdb, shopApp, "one")
	before := runtime.NumGoroutine()
	cache := templates.NewCache(rdb, now.now)
	if got := title(cache.Get(t.Context(), shopApp)); got != "one" {
		t.Fatalf("the first call found %q", got)
	}
	redistest.Until(t, time.Minute, "there is no goroutine between two reads", func() bool { return runtime.NumGoroutine() <= before })
	store(t, rdb, shopApp, "two")
	release := make(chan struct{})
	counted.set(release, nil)
	now.advance(time.Minute)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 100 {
				if got := title(cache.Get(context.Background(), shopApp)); got != "one" {
					t.Errorf("while Redis does not answer the title is %q", got)
				}
			}
		})
	}
	returned := make(chan struct{})
	go func() { callers.Wait(); close(returned) }()
	select {
	case <-returned:
	case <-time.After(time.Minute):
		t.Fatal("calls wait for a read")
	}
	redistest.Until(t, time.Minute, "a read is under way", func() bool { return counted.n.Load() == 2 })
	close(release)
	redistest.Until(t, time.Minute, "the read has ended", func() bool { return counted.ended.Load() == 2 })
	until(t, cache, shopApp, "two")

	counted.mu.Lock()
	counted.block, counted.hang = nil, true
	counted.mu.Unlock()
	now.advance(time.Minute)
	cache.Get(t.Context(), shopApp)
	redistest.Until(t, time.Minute, "a read is under way", func() bool { return counted.n.Load() == 3 })
	cache.Close()
	if counted.ended.Load() != 3 {
		t.Error("Close did not wait for the read")
	}
	now.advance(time.Hour)
	if got := title(cache.Get(t.Context(), shopApp)); got != "two" || counted.n.Load() != 3 {
		t.Errorf("after Close: %q, %d reads", got, counted.n.Load())
	}
	cache.Close() // again
}

// TestCacheWithoutRedis: after an error Redis is asked again some seconds later, for all apps; a call
// that was given up by its caller says nothing about Redis.
func TestCacheWithoutRedis(t *testing.T) {
	_, rdb := redistest.Mini(t)
	now, counted := newClock(), new(reads)
	rdb.AddHook(counted)
	store(t, rdb, shopApp, "one")
	cache := templates.NewCache(rdb, now.now)
	defer cache.Close()
	ctx := t.Context()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if cache.Get(gone, shopApp) != nil {
		t.Error("a canceled call read the registry")
	}
	counted.set(nil, errors.New("no Redis"))
	if cache.Get(ctx, shopApp) != nil || counted.n.Load() != 2 {
		t.Errorf("%d reads", counted.n.Load())
	}
	counted.set(nil, nil)
	if cache.Get(ctx, shopApp) != nil || cache.Get(ctx, otherApp) != nil || counted.n.Load() != 2 {
		t.Errorf("%d reads within seconds of an error", counted.n.Load())
	}
	now.advance(5 * time.Second)
	if got := title(cache.Get(ctx, shopApp)); got != "one" {
		t.Errorf("after the error the title is %q", got)
	}

	counted.set(nil, errors.New("no Redis"))
	store(t, rdb, shopApp, "two")
	now.advance(time.Minute)
	from := counted.n.Load()
	redistest.Until(t, time.Minute, "a read failed", func() bool {
		return title(cache.Get(ctx, shopApp)) == "one" && counted.n.Load() > from
	})
	counted.set(nil, nil)
	redistest.Until(t, time.Minute, "the registry is read again", func() bool {
		now.advance(time.Second)
		return title(cache.Get(ctx, shopApp)) == "two"
	})
}

// TestKind: only templates for subscribe messages have a kind.
func TestKind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		store(t, rdb, shopApp, "one")
		cache := templates.NewCache(rdb, nil)
		defer cache.Close()
		for template, want := range map[string]int{"T1": templates.OneTime, "T2": templates.LongTerm, "T3": 0, "T9": 0} {
			if kind, known := cache.Kind(shopApp, template); kind != want || known != (want != 0) {
				t.Errorf("%s: %d, %v", template, kind, known)
			}
		}
		if _, known := cache.Kind(otherApp, "T1"); known {
			t.Error("a template of an app without a registry has a kind")
		}
	})
}

// TestWant: a fetch is asked for at most once a minute and app, and makes the app due now.
func TestWant(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, now := t.Context(), newClock()
		cache := templates.NewCache(rdb, now.now)
		defer cache.Close()
		due := func(app string) float64 {
			t.Helper()
			at, err := rdb.ZScore(ctx, templates.DueKey, app).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
			return at
		}
		if err := rdb.ZAdd(ctx, templates.DueKey, redis.Z{Score: 1e12, Member: shopApp}).Err(); err != nil {
			t.Fatal(err)
		}
		cache.Want(ctx, shopApp)
		if got := due(shopApp); got != float64(now.now().Unix()) {
			t.Errorf("due at %v, now is %d", got, now.now().Unix())
		}
		if due(otherApp) != 0 {
			t.Error("another app is due")
		}
		if err := rdb.Del(ctx, templates.DueKey).Err(); err != nil {
			t.Fatal(err)
		}
		now.advance(time.Minute - time.Second)
		cache.Want(ctx, shopApp)
		if due(shopApp) != 0 {
			t.Error("asked for twice in a minute")
		}
		now.advance(time.Second)
		cache.Want(ctx, shopApp)
		if due(shopApp) == 0 {
			t.Error("not asked for after a minute")
		}
	})
}
