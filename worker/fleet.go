package worker

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// pollEvery is how often the watcher looks at queues. A wake-up message makes it
	// unnecessary; a queue that is fed by a plain asynq client is found by it.
	pollEvery = 500 * time.Millisecond
	// dueSoon is how far ahead a delayed task opens its lane.
	dueSoon = 2 * time.Second
	// idleTimeout is how long a lane must have had nothing to do before it closes.
	idleTimeout = 5 * time.Second
)

// fleet is all lanes of a replica: it opens those that have work, and closes those
// that have none or are held. One goroutine, run, owns it; others only ask it to wake a
// lane.
type fleet struct {
	replica *Replica
	wakes   chan string // queue names, or "hold:<app>"
	holds   holdCache    // of run alone
	index   *queueIndex // of run alone
	throttle    logThrottle

	mu    sync.RWMutex
	lanes map[laneKey]*lane // guarded by mu; written by run alone
	depth map[laneKey]int64 // guarded by mu; pending tasks as they were found last
}

// redisAway is said when a look fails, and once a minute as long as looks do.
const redisAway = "Redis does not answer; nothing is sent meanwhile"

type laneKey struct{ app, typ string }

func newFleet(r *Replica) *fleet {
	return &fleet{
		replica: r, wakes: make(chan string, 1024), holds: newHoldCache(), index: newQueueIndex(r.apps),
		lanes: make(map[laneKey]*lane), depth: make(map[laneKey]int64),
	}
}

// run watches until ctx ends. The lanes stay open: shutdown closes them.
func (f *fleet) run(ctx context.Context) {
	var listener sync.WaitGroup
	listener.Go(func() { f.listen(ctx) })
	defer listener.Wait()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	slow := time.NewTicker(pollHoldsEvery)
	defer slow.Stop()
	f.pollHolds(ctx)
	f.refreshQueues(ctx)
	f.poll(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case name := <-f.wakes:
			f.wake(ctx, name)
			if len(f.wakes) == 0 { // many holds at once are read together
				f.readChangedHolds(ctx)
			}
		case <-slow.C:
			f.pollHolds(ctx)
		case <-ticker.C:
			f.readChangedHolds(ctx)
			f.refreshQueues(ctx)
			f.poll(ctx)
		}
	}
}

// listen passes the wake-up messages on. go-redis subscribes again after a lost
// connection; what was said meanwhile, the next look finds.
func (f *fleet) listen(ctx context.Context) {
	sub := f.replica.rdb.Subscribe(ctx, ledger.WakeChannel)
	defer func() { _ = sub.Close() }()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, ok := <-messages:
			if !ok {
				return
			}
			select {
			case f.wakes <- m.Payload:
			default: // so many wake-ups at once: the next look finds them all
			}
		}
	}
}

func (f *fleet) wake(ctx context.Context, name string) {
	if app, ok := strings.CutPrefix(name, ratelimit.HoldMessage); ok {
		f.replica.limiter.revoke(ctx, app)
		f.replica.templateHolds.forget(app)
		if _, mine := f.replica.apps[app]; mine {
			f.holds.unread[app] = true
		}
		return
	}
	app, typ, priority, _ := tasks.ParseQueue(name)
	_, known := tasks.Lookup(typ) // a newer producer's types wait for newer replicas
	if _, mine := f.replica.apps[app]; !known || !mine {
		return
	}
	f.index.add(queueRef{laneKey{app, typ}, priority})
	if f.holds.held(laneKey{app, typ}) {
		return
	}
	if l := f.ensure(laneKey{app, typ}); l != nil {
		l.gate.wake()
	}
}

// ensure returns the lane, opening it if need be. It returns nil when that fails.
func (f *fleet) ensure(key laneKey) *lane {
	if l := f.lane(key); l != nil {
		l.idleSince = time.Time{}
		return l
	}
	l, err := f.replica.openLane(key.app, key.typ)
	if err != nil {
		f.replica.log.Error("a lane could not be opened", slog.Any("err", err))
		return nil
	}
	f.mu.Lock()
	f.lanes[key] = l
	f.mu.Unlock()
	return l
}

// snapshot is a copy of the open lanes.
func (f *fleet) snapshot() map[laneKey]*lane {
	f.mu.RLock()
	defer f.mu.RUnlock()
	open := make(map[laneKey]*lane, len(f.lanes))
	for k, l := range f.lanes {
		open[k] = l
	}
	return open
}

// depths is a copy of the pending tasks of the lanes that have some.
func (f *fleet) depths() map[laneKey]int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.depth)
}

// lane returns an open lane; nil when it is closed.
func (f *fleet) lane(key laneKey) *lane {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.lanes[key]
}

func (f *fleet) close(key laneKey, l *lane) {
	l.stop() // here, not below: the next lane of this name must be the only one that dequeues
	f.mu.Lock()
	delete(f.lanes, key)
	f.mu.Unlock()
	f.replica.closing.Go(l.shutdown)
}
