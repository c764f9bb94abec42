package api

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// followEvery is the time between two reads of the streams. They do not block: a read that
	// blocks keeps a connection of the pool, and on Redis Cluster one for each app.
	followEvery = 20 * time.Millisecond
	// followPage is the maximum number of entries of one app in a read.
	followPage = 1000
)

// taskRef names a task.
type taskRef struct{ app, id string }

// followers tell requests that their tasks have ended. One goroutine reads the streams of results
// of all apps for which requests wait, in one pipeline, and only while some do.
type followers struct {
	background *background.Group
	rdb        redis.UniversalClient
	end        func(ctx context.Context, app string) (tasks.Cursor, error)

	mu      sync.Mutex
	apps    map[string]*followedApp                // guarded by mu
	waiters map[taskRef]map[chan struct{}]struct{} // guarded by mu; each channel has room for one
	running bool                                   // guarded by mu; the goroutine
}

// followedApp is an app for which requests wait.
type followedApp struct {
	cursor  string // of the last entry that was read; used by the goroutine only
	waiters int
}

func newFollowers(group *background.Group, rdb redis.UniversalClient, inspector *tasks.Inspector) *followers {
	return &followers{
		background: group, rdb: rdb, end: inspector.End,
		apps: make(map[string]*followedApp), waiters: make(map[taskRef]map[chan struct{}]struct{}),
	}
}

// Follow returns a channel that receives when an outcome of a task is recorded after the call; a
// redrive may be followed by further ones. Call stop when the channel is no longer needed.
func (f *followers) Follow(ctx context.Context, app, id string) (ended <-chan struct{}, stop func(), err error) {
	ref, waiter := taskRef{app, id}, make(chan struct{}, 1)
	if !f.join(ref, waiter, "") {
		end, err := f.end(ctx, app)
		if err != nil {
			return nil, nil, err
		}
		f.join(ref, waiter, string(end))
	}
	return waiter, func() { f.leave(ref, waiter) }, nil
}

// join adds a waiter. It returns false if it is the first of the app and cursor is empty: the
// streams are then to be read from a cursor on.
func (f *followers) join(ref taskRef, waiter chan struct{}, cursor string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	app := f.apps[ref.app]
	if app == nil {
		if cursor == "" {
			return false
		}
		app = &followedApp{cursor: cursor}
		f.apps[ref.app] = app
	}
	app.waiters++
	if f.waiters[ref] == nil {
		f.waiters[ref] = make(map[chan struct{}]struct{}, 1)
	}
	f.waiters[ref][waiter] = struct{}{}
	if !f.running {
		f.running = true
		f.background.Go(f.run)
	}
	return true
}

func (f *followers) leave(ref taskRef, waiter chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if delete(f.waiters[ref], waiter); len(f.waiters[ref]) == 0 {
		delete(f.waiters, ref)
	}
	app := f.apps[ref.app]
	if app.waiters--; app.waiters == 0 {
		delete(f.apps, ref.app)
	}
}

// run reads the streams until no request waits or ctx ends. While Redis does not answer it tries
// again: the requests look at their tasks by themselves, too.
func (f *followers) run(ctx context.Context) {
	for {
		apps := f.followed(ctx)
		if len(apps) == 0 {
			return
		}
		if full := f.readAll(ctx, apps); !full {
			background.Sleep(ctx, followEvery)
		}
	}
}

// followed returns the apps for which requests wait. Without any, or when ctx has ended, the
// goroutine is no longer running.
func (f *followers) followed(ctx context.Context) map[string]*followedApp {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil || len(f.apps) == 0 {
		f.running = false
		return nil
	}
	apps := make(map[string]*followedApp, len(f.apps))
	for name, app := range f.apps {
		apps[name] = app
	}
	return apps
}

// readAll reads what is new in the streams, and reports whether a stream may have more.
func (f *followers) readAll(ctx context.Context, apps map[string]*followedApp) (full bool) {
	reads := make(map[string]*redis.XStreamSliceCmd, len(apps))
	_, _ = f.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each read has its error
		for name, app := range apps {
			reads[name] = p.XRead(ctx, &redis.XReadArgs{Streams: []string{ledger.StreamKey(name), app.cursor}, Count: followPage, Block: -1})
		}
		return nil
	})
	for name, read := range reads {
		streams, err := read.Result()
		if err != nil || len(streams) == 0 { // redis.Nil: nothing new
			continue
		}
		entries := streams[0].Messages
		apps[name].cursor = entries[len(entries)-1].ID
		full = full || len(entries) == followPage
		f.notify(name, entries)
	}
	return full
}

// notify tells the waiters of the tasks in some entries.
func (f *followers) notify(app string, entries []redis.XMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		text, _ := e.Values["result"].(string)
		for waiter := range f.waiters[taskRef{app, idOf(text)}] {
			select {
			case waiter <- struct{}{}:
			default: // it has not looked since the last entry
			}
		}
	}
}

// idOf returns the id in a recorded result.
func idOf(result string) string {
	var r struct {
		ID string `json:"id"`
	}
	if json.Unmarshal([]byte(result), &r) != nil {
		return "" // no task has this id
	}
	return r.ID
}
