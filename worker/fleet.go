package worker

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// pollEvery is the interval of [fleet.poll]. Wake-up messages are faster; polling finds
	// the tasks of plain asynq clients, which send none.
	pollEvery = 500 * time.Millisecond
	// dueSoon is how long before a delayed task is due its lane opens.
	dueSoon = 2 * time.Second
	// idleTimeout is how long a lane stays open without work.
	idleTimeout = 5 * time.Second
)

// fleet is the set of all lanes of a replica. It opens lanes that have work, and closes
// lanes that have none or are held. Its goroutine, run, owns the fields; other goroutines
// only send to wakes and read copies.
type fleet struct {
	fleetDeps
	wakes       chan string   // queue names, or "hold:<app>"
	appsChanged chan struct{} // holds one token after SetApps
	holds       *hold.Watcher // owned by run
	spent       spentLimits
	index       *queueIndex    // owned by run; its apps are those that the lanes follow
	countPos    int            // owned by run; position among the held lanes
	closing     sync.WaitGroup // lanes that close while the replica runs
	polled      atomic.Bool    // the queues were polled at least once
	throttle    logThrottle

	mu    sync.RWMutex
	lanes map[laneKey]*lane // guarded by mu; written by run only
	depth map[laneKey]int64 // guarded by mu; pending tasks at the last poll, where not 0
	known []queueRef        // guarded by mu; the queues that exist or existed, at the last poll
}

type fleetDeps struct {
	apps       *appTable
	rdb        redis.UniversalClient
	limiter    *ratelimit.Limiter
	holdStore  *hold.Store
	dispatcher *dispatch.Dispatcher
	servers    *laneServers
	deliverer  *deliverer
	log        *slog.Logger
}

// redisAway is logged when a poll fails, and then once a minute until one succeeds.
const redisAway = "Redis does not answer; nothing is sent meanwhile"

type laneKey struct{ app, typ string }

func newFleet(deps fleetDeps) *fleet {
	index := newQueueIndex(deps.apps.ids())
	pauses := hold.NewPauses(deps.rdb, tasks.Types(), tasks.QueueNames)
	f := &fleet{
		fleetDeps: deps, wakes: make(chan string, 1024), appsChanged: make(chan struct{}, 1), index: index,
		lanes: make(map[laneKey]*lane), depth: make(map[laneKey]int64),
	}
	f.holds = hold.NewWatcher(deps.holdStore, pauses, f.readSpent, index.apps, deps.log)
	return f
}

// run opens and closes lanes until ctx ends. The lanes that are open then stay so:
// [Replica.closeAll] closes them.
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
			if len(f.wakes) == 0 { // read the holds of many messages together
				f.readChangedHolds(ctx)
			}
		case <-f.appsChanged:
			f.takeOverApps(ctx)
		case <-slow.C:
			f.pollHolds(ctx)
		case <-ticker.C:
			f.readChangedHolds(ctx)
			f.refreshQueues(ctx)
			f.poll(ctx)
		}
	}
}

// listen forwards the wake-up messages to wakes. go-redis subscribes again after a lost
// connection; polling makes up for messages that are lost meanwhile.
func (f *fleet) listen(ctx context.Context) {
	sub := f.rdb.Subscribe(ctx, ledger.WakeChannel)
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
			default: // wakes is full: polling finds the work
			}
		}
	}
}

// wake handles a wake-up message: it wakes or opens the lane of a queue, or marks the holds
// of an app as changed.
func (f *fleet) wake(ctx context.Context, name string) {
	if app, ok := hold.ParseMessage(name); ok {
		f.dispatcher.HoldsChanged(ctx, app)
		if f.index.serves(app) {
			f.holds.MarkChanged(app)
		}
		return
	}
	q, known := parseQueue(name)
	if !known || !f.index.serves(q.lane.app) {
		return
	}
	f.index.add(q)
	if f.holds.Held(q.lane.app, q.lane.typ) {
		return
	}
	if l := f.ensure(q.lane); l != nil { //nolint:contextcheck // the lane outlives ctx
		l.gate.Wake()
	}
}

// ensure returns the lane, and opens it where it is closed. It returns nil when that fails.
func (f *fleet) ensure(key laneKey) *lane {
	if l := f.lane(key); l != nil {
		l.idleSince = time.Time{}
		return l
	}
	l, err := f.openLane(key)
	if err != nil {
		f.log.Error("a lane could not be opened", slog.Any("err", err))
		return nil
	}
	f.mu.Lock()
	f.lanes[key] = l
	f.mu.Unlock()
	return l
}

// snapshot returns a copy of the open lanes.
func (f *fleet) snapshot() map[laneKey]*lane {
	f.mu.RLock()
	defer f.mu.RUnlock()
	open := make(map[laneKey]*lane, len(f.lanes))
	for k, l := range f.lanes {
		open[k] = l
	}
	return open
}

// depths returns a copy of the numbers of pending tasks.
func (f *fleet) depths() map[laneKey]int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return maps.Clone(f.depth)
}

// knownQueues returns the queues that exist or existed. The caller must not change them.
func (f *fleet) knownQueues() []queueRef {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.known
}

// lane returns an open lane; nil when it is closed.
func (f *fleet) lane(key laneKey) *lane {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.lanes[key]
}

func (f *fleet) close(key laneKey, l *lane) {
	l.stop() // before the delete: no two lanes of one key may dequeue
	f.mu.Lock()
	delete(f.lanes, key)
	f.mu.Unlock()
	f.closing.Go(l.shutdown)
}
