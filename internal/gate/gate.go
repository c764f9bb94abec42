// Package gate stands between asynq and Redis: it decides when a lane's tasks are dequeued.
//
// asynq dequeues a task as soon as a server has a free slot. A lane may send its task only
// with a permit, though, and a replica has many lanes that share few asynq servers. The
// package is a go-redis [Hook] on the client of those servers. It answers their dequeues from
// the queues of the lanes, each of which has a [Gate] that waits for work, a free slot and a
// permit. Tasks that wait for a permit therefore stay pending, without a slot or a lease, and
// urgent tasks pass bulk tasks at once.
//
//	hook := gate.NewHook(rdb)
//	rdb.AddHook(hook)
//	server := hook.NewServer("lanes-1") // the only queue of an asynq server
//	g := gate.New(queues, pace, freeSlots)
//	server.Add(g)
//
// The hook also saves round trips: lanes share those of their dequeues, of asynq's forwarder,
// recoverer and janitor ([fanOut]) and of lease extensions ([leases]), and concurrent script
// calls share theirs ([scriptBatcher]). The package knows nothing of WeChat or of deliveries.
package gate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// Pacer is the part of the limiter that a gate uses.
//
// Acquire waits for a permit, which it may return shortly before the permit's instant.
// TryAcquire returns up to n more without waiting. Release returns an unused permit;
// ReturnUnused returns all that was leased for the lane, which has no work.
type Pacer interface {
	Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error)
	TryAcquire(ctx context.Context, n int) []*ratelimit.Permit
	Release(ctx context.Context, p *ratelimit.Permit)
	ReturnUnused(ctx context.Context)
}

// drainPoll is how often Drain looks whether asynq has taken the prefetched tasks.
const drainPoll = time.Millisecond

// maxPerQueue bounds the tasks that one round trip dequeues from one queue.
const maxPerQueue = 32

// Gate decides when one lane dequeues, and how many tasks. Its goroutine, run, waits until
// the lane can dequeue; then it offers the gate to the [dequeuer] of its asynq server, which
// dequeues for many lanes in one round trip:
//
//	prepare      waits for work, a free slot and a permit, and holds the permit
//	offer        the dequeuer owns the gate until it returns it
//	nextDequeue  the queue and the number of tasks, as many as there are permits without
//	             a wait and free slots; the urgent queue first, then, where it was empty,
//	             the bulk queue, with the permits that are not reserved for urgent tasks
//	dequeued     tasks: each is assigned a permit, and the cycle starts again
//	             fewer tasks than requested, in the last queue: the lane sleeps and
//	             returns its permits
//	             an error: the next prepare pauses first
//
// The number of tasks doubles while a queue has as many, and falls back to one when it has
// fewer. It does not exceed the free slots, so that asynq starts the tasks at once: the
// lease of a prefetched task is not extended.
//
// HandlerStarted, TakePermit, DonePreparing and HandlerEnded are for the handlers of its tasks.
// All exported methods may be called from any goroutine.
type Gate struct {
	queues      []laneQueue // in strict priority: urgent, bulk
	pace        Pacer
	free        func() int      // returns the free slots of the lane
	admission   *admission      // of the asynq server; nil in tests of the gate alone
	ctx         context.Context //nolint:containedctx // the lane's lifetime: asynq dequeues with the background context
	cancel      context.CancelFunc
	work        chan struct{} // holds one token when a queue may have work
	recheckPace chan struct{} // holds one token when Acquire should check the limits again at once
	slots       chan struct{} // holds one token when a slot has become free
	returned    chan struct{} // gets one token when the dequeuer returns the gate
	done        chan struct{} // closed when run has returned
	asleep      atomic.Bool   // run waits for work

	// Owned by run, and by the dequeuer from offer until it returns the gate.
	held        []*ratelimit.Permit
	nextQueue   int  // the index of the queue to dequeue from next
	failures    int  // failures in a row
	mayHaveWork bool // the queues may have work

	mu         sync.Mutex
	assigned   []*ratelimit.Permit // guarded by mu; for dequeued tasks whose handlers have not taken them yet
	prefetched int                 // guarded by mu; dequeued tasks that were not passed to asynq yet
	started    []*StartedTask      // guarded by mu; tasks that were passed to asynq and have no handler yet
}

// laneQueue is one queue of a gate.
type laneQueue struct {
	name   string
	atOnce int // how many tasks to dequeue
}

// New makes the gate of a lane. queues are the names of its queues in strict priority, urgent
// and bulk; free returns the free slots of the lane. [Server.Add] starts it.
func New(queues []string, pace Pacer, free func() int) *Gate {
	g := &Gate{
		pace: pace, free: free, mayHaveWork: true,
		work: make(chan struct{}, 1), recheckPace: make(chan struct{}, 1), slots: make(chan struct{}, 1),
		returned: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for _, name := range queues {
		g.queues = append(g.queues, laneQueue{name, 1})
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// Context returns the context of the lane's lifetime: it ends when the gate closes.
func (g *Gate) Context() context.Context { return g.ctx }

// Asleep reports whether the gate waits for work.
func (g *Gate) Asleep() bool { return g.asleep.Load() }

// Close ends the dequeues, without waiting.
func (g *Gate) Close() { g.cancel() }

// Drain closes the gate and waits, at most for so long, until the prefetched tasks have been
// passed to asynq. Their handlers hand them back: asynq has no other way to return a task.
func (g *Gate) Drain(timeout time.Duration) {
	g.Close()
	after := time.NewTimer(timeout)
	defer after.Stop()
	select {
	case <-g.done:
	case <-after.C:
		return
	}
	for began := time.Now(); !g.drained() && time.Since(began) < timeout; {
		time.Sleep(drainPoll)
	}
}

// Wake signals that a queue may have work.
func (g *Gate) Wake() { signal(g.work) }

// Recheck signals that a queue may have work, or that a hold may have ended.
func (g *Gate) Recheck() {
	signal(g.work)
	signal(g.recheckPace)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // a token is there already
	}
}

// nextDequeue returns the queue to dequeue from, and for how many tasks, at most limit. n is
// 0 when the lane closes, when the permits are too late to use, and when those that are left are
// reserved for urgent tasks.
func (g *Gate) nextDequeue(now time.Time, limit int) (queue, n int) {
	if g.ctx.Err() != nil {
		return 0, 0
	}
	g.dropLate(now)
	if len(g.held) == 0 {
		return 0, 0
	}
	limit = max(1, min(limit, g.freeSlots(now)))
	if g.nextQueue > 0 {
		n = min(limit, g.queues[g.nextQueue].atOnce, g.bulkPermits())
		if n == 0 { // bulk tasks stay pending until the gate is woken
			g.nextQueue, g.mayHaveWork = 0, false
		}
		return g.nextQueue, n
	}
	want := 0
	for _, q := range g.queues {
		want = max(want, min(limit, q.atOnce))
	}
	if more := want - len(g.held); more > 0 {
		g.held = append(g.held, g.pace.TryAcquire(g.ctx, more)...)
	}
	return 0, min(limit, g.queues[0].atOnce, len(g.held))
}

// bulkPermits counts the held permits that bulk tasks may use. Those that are reserved for
// urgent tasks come last in held.
func (g *Gate) bulkPermits() int {
	n := 0
	for n < len(g.held) && g.held[n].Bulk() {
		n++
	}
	return n
}

// freeSlots counts the free slots without those of dequeued tasks whose handlers have not
// started. It ignores assigned permits that are too late to use: asynq did not run their tasks.
func (g *Gate) freeSlots(now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	room := g.free()
	for _, p := range g.assigned {
		if p.Fresh(now) {
			room--
		}
	}
	return room
}

// dropLate returns the held permits that are too late to use.
func (g *Gate) dropLate(now time.Time) {
	g.held = slices.DeleteFunc(g.held, func(p *ratelimit.Permit) bool {
		late := !p.Fresh(now)
		if late {
			g.pace.Release(g.ctx, p)
		}
		return late
	})
}

// dequeued handles the result of a dequeue of requested tasks: how many it got, and the error of
// the others, redis.Nil where the queue had no more.
func (g *Gate) dequeued(queue, requested, got int, err error) {
	g.assign(got)
	switch q := &g.queues[queue]; {
	case got == requested:
		g.failures, g.nextQueue = 0, 0
		q.atOnce = min(2*requested, maxPerQueue)
	case errors.Is(err, redis.Nil):
		g.failures, q.atOnce = 0, 1
		if g.nextQueue = (queue + 1) % len(g.queues); g.nextQueue == 0 {
			g.mayHaveWork = false // all queues are empty or paused: sleep until woken
		}
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq sends the script next; the gate keeps its permits
	default:
		g.failures++
		g.nextQueue = 0
		for i := range g.queues {
			g.queues[i].atOnce = 1
		}
		for len(g.held) > 1 { // the next dequeue is for one task
			last := len(g.held) - 1
			g.pace.Release(g.ctx, g.held[last])
			g.held = g.held[:last]
		}
	}
}

// assign moves held permits to the tasks that were dequeued.
func (g *Gate) assign(tasks int) {
	n := min(tasks, len(g.held))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.assigned = append(g.assigned, g.held[:n]...)
	g.prefetched += tasks
	g.held = slices.Clone(g.held[n:])
}

// passedToAsynq counts a prefetched task that was passed to asynq.
func (g *Gate) passedToAsynq(r *StartedTask) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prefetched--
	g.started = append(g.started, r)
}

// HandlerStarted returns the startedTask of a handler that starts; nil when there is none.
func (g *Gate) HandlerStarted() *StartedTask {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.started) > 0 && time.Since(g.started[0].began) >= preparingFor {
		g.started = g.started[1:] // admission no longer counts it; asynq did not run it
	}
	if len(g.started) == 0 {
		return nil
	}
	first := g.started[0]
	g.started = g.started[1:]
	return first
}

// drained reports whether all dequeued tasks were passed to asynq. The gate's run must have
// returned.
func (g *Gate) drained() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.prefetched == 0
}

// DonePreparing stops counting a started task among those that its asynq server prepares: it
// is about to wait for its receiver or for another system. t may be nil.
func (g *Gate) DonePreparing(t *StartedTask) {
	if g.admission != nil {
		g.admission.end(t)
	}
}

// HandlerEnded reports that a handler has returned, and its slot is free. t may be nil.
func (g *Gate) HandlerEnded(t *StartedTask) {
	g.DonePreparing(t)
	signal(g.slots)
}

// TakePermit returns the oldest assigned permit that may still be used, or nil. It releases
// the ones before it that may not, left by tasks that asynq did not run.
func (g *Gate) TakePermit() *ratelimit.Permit {
	p, late := g.takePermit(time.Now())
	for _, l := range late {
		g.pace.Release(g.ctx, l)
	}
	return p
}

// takePermit returns the oldest assigned permit that may still be used, or nil. late are the
// ones before it that may not.
func (g *Gate) takePermit(now time.Time) (p *ratelimit.Permit, late []*ratelimit.Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer signal(g.slots) // the task counted twice so far, as assigned and as running
	for i, p := range g.assigned {
		if p.Fresh(now) {
			late, g.assigned = g.assigned[:i], g.assigned[i+1:]
			return p, late
		}
	}
	late, g.assigned = g.assigned, nil
	return nil, late
}

// ReleaseAssigned releases the permits that no handler has taken, after the handlers have
// ended.
func (g *Gate) ReleaseAssigned() {
	g.mu.Lock()
	all := g.assigned
	g.assigned = nil
	g.mu.Unlock()
	for _, p := range all {
		g.pace.Release(g.ctx, p)
	}
}

// releaseHeld returns all held permits, since the lane sleeps or closes.
func (g *Gate) releaseHeld() {
	if len(g.held) == 0 {
		return
	}
	for _, p := range g.held {
		g.pace.Release(g.ctx, p)
	}
	g.held = nil
	g.pace.ReturnUnused(g.ctx)
}
