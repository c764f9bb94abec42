package worker

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

// pacer is what a gate needs of the limiter.
//
// Acquire may return a permit shortly before its instant. AtHand returns more of the same
// without waiting, at most n. Release takes one back, Rest also what else was leased:
// the lane has nothing to do.
type pacer interface {
	Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error)
	TryAcquire(ctx context.Context, n int) []*ratelimit.Permit
	Release(ctx context.Context, p *ratelimit.Permit)
	ReturnUnused(ctx context.Context)
}

// maxPerQueue is how many tasks one round trip takes out of a queue at most.
const maxPerQueue = 32

// gate decides when one lane dequeues, and for how many tasks. Its goroutine, run, waits
// for all that a dequeue needs; then it hands the gate to the [dequeuer] of its asynq
// server, which asks Redis for many lanes at once:
//
//	prepare   waits for work, a free slot and a permit, which is then held
//	offer     the gate is the dequeuer's until it has been asked for
//	question  the queue to ask and for how many tasks, as many as permits are at hand and
//	          slots are free; the urgent queue first, and the bulk queue where that one
//	          was empty, with the same permits but for those reserved for urgent tasks
//	dequeued  tasks: a permit is assigned to each, and the cycle begins again
//	          fewer than asked for, in the last queue: the lane sleeps, the permits go back
//	          an error: the next prepare pauses first
//
// How many tasks a queue is asked for doubles while it has them, and begins at one again
// when it has fewer. It is no more than there are free slots, so that asynq starts them at
// once: a task that was prefetched has a lease that is not extended yet.
//
// take is the handlers' side; wake, rouse, slotFreed and close are for all goroutines.
type gate struct {
	queues []laneQueue // in the order in which they are asked: urgent, bulk
	pace   pacer
	free   func() int      // slots of the lane that are free
	admission   *admission      // of the asynq server; nil in tests of the gate alone
	ctx    context.Context //nolint:containedctx // the lane's life: asynq dequeues with the background context
	close  context.CancelFunc
	work   chan struct{} // holds one token when a queue may have work
	recheckPace  chan struct{} // holds one token when the pace is to be asked again at once
	slots  chan struct{} // holds one token when a slot has become free
	returned  chan struct{} // gets one token when the dequeuer gives the gate back
	done   chan struct{} // closed when run has returned
	asleep atomic.Bool   // run waits for work

	// Of run, and between offer and its return of the dequeuer.
	held     []*ratelimit.Permit
	nextQueue     int  // the queue that is asked next
	failures int  // dequeues that failed in a row
	mayHaveWork     bool // the queues may have work

	mu         sync.Mutex
	assigned   []*ratelimit.Permit // guarded by mu; of dequeued tasks whose handlers have not taken them
	prefetched int                 // guarded by mu; dequeued tasks that asynq has not got yet
	started       []*startedTask              // guarded by mu; of tasks that asynq got and no handler has
}

// laneQueue is one queue of a gate.
type laneQueue struct {
	name   string
	atOnce int // how many tasks to ask for
}

func newGate(queues []string, pace pacer, free func() int) *gate {
	g := &gate{
		pace: pace, free: free, mayHaveWork: true,
		work: make(chan struct{}, 1), recheckPace: make(chan struct{}, 1), slots: make(chan struct{}, 1),
		returned: make(chan struct{}, 1), done: make(chan struct{}),
	}
	for _, name := range queues {
		g.queues = append(g.queues, laneQueue{name, 1})
	}
	g.ctx, g.close = context.WithCancel(context.Background())
	return g
}

// wake tells the gate that a queue may have work.
func (g *gate) wake() { signal(g.work) }

// recheck tells the gate that a queue may have work, or that a hold may have ended.
func (g *gate) recheck() {
	signal(g.work)
	signal(g.recheckPace)
}

// slotFreed tells the gate that a handler has returned.
func (g *gate) slotFreed() { signal(g.slots) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it knows already
	}
}

// nextDequeue returns which queue to ask, for how many tasks, at most most. n is 0 when there
// is nothing to ask: the lane closes, the permits have become too late, or those that are
// left are reserved for urgent tasks.
func (g *gate) nextDequeue(now time.Time, most int) (queue, n int) {
	if g.ctx.Err() != nil {
		return 0, 0
	}
	g.dropLate(now)
	if len(g.held) == 0 {
		return 0, 0
	}
	most = max(1, min(most, g.freeSlots(now)))
	if g.nextQueue > 0 {
		n = min(most, g.queues[g.nextQueue].atOnce, g.bulkPermits())
		if n == 0 { // its tasks stay pending until the day's next permits, or until the gate is woken
			g.nextQueue, g.mayHaveWork = 0, false
		}
		return g.nextQueue, n
	}
	want := 0
	for _, q := range g.queues {
		want = max(want, min(most, q.atOnce))
	}
	if more := want - len(g.held); more > 0 {
		g.held = append(g.held, g.pace.TryAcquire(g.ctx, more)...)
	}
	return 0, min(most, g.queues[0].atOnce, len(g.held))
}

// bulkPermits counts the permits held that bulk tasks may have. Those that are reserved
// for urgent tasks come last.
func (g *gate) bulkPermits() int {
	n := 0
	for n < len(g.held) && g.held[n].Bulk() {
		n++
	}
	return n
}

// freeSlots counts the slots that are free and have no dequeued task on its way to them. A
// permit that no handler took in time says nothing: asynq could not run its task.
func (g *gate) freeSlots(now time.Time) int {
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

// dropLate gives back permits that were held for too long.
func (g *gate) dropLate(now time.Time) {
	g.held = slices.DeleteFunc(g.held, func(p *ratelimit.Permit) bool {
		late := !p.Fresh(now)
		if late {
			g.pace.Release(g.ctx, p)
		}
		return late
	})
}

// dequeued takes note of what a question brought: got tasks of those that were asked for,
// and the error of the others, redis.Nil where the queue had no more.
func (g *gate) dequeued(queue, asked, got int, err error) {
	g.assign(got)
	switch q := &g.queues[queue]; {
	case got == asked:
		g.failures, g.nextQueue = 0, 0
		q.atOnce = min(2*asked, maxPerQueue)
	case errors.Is(err, redis.Nil):
		g.failures, q.atOnce = 0, 1
		if g.nextQueue = (queue + 1) % len(g.queues); g.nextQueue == 0 {
			g.mayHaveWork = false // all queues are empty or paused: sleep until woken
		}
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq sends the script itself next; the permits stay
	default:
		g.failures++
		g.nextQueue = 0
		for i := range g.queues {
			g.queues[i].atOnce = 1
		}
		for len(g.held) > 1 { // the next question is for one task
			last := len(g.held) - 1
			g.pace.Release(g.ctx, g.held[last])
			g.held = g.held[:last]
		}
	}
}

// assign passes permits on to the handlers of tasks that were dequeued.
func (g *gate) assign(tasks int) {
	n := min(tasks, len(g.held))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.assigned = append(g.assigned, g.held[:n]...)
	g.prefetched += tasks
	g.held = slices.Clone(g.held[n:])
}

// passedToAsynq takes note that asynq has got a prefetched task, whose run has begun.
func (g *gate) passedToAsynq(r *startedTask) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.prefetched--
	g.started = append(g.started, r)
}

// handlerStarted takes note that a handler has begun. It returns the run, which is nil when the
// task came another way.
func (g *gate) handlerStarted() *startedTask {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.started) > 0 && time.Since(g.started[0].began) >= preparingFor {
		g.started = g.started[1:] // counts no more; asynq could not run its task
	}
	if len(g.started) == 0 {
		return nil
	}
	first := g.started[0]
	g.started = g.started[1:]
	return first
}

// drained tells whether asynq has got all tasks that were dequeued, of a gate whose run
// has returned.
func (g *gate) drained() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.prefetched == 0
}

// takePermit gives a handler the oldest permit that a task of the lane was dequeued with and
// that may still be used. Those before it are too late, and the caller's to give back:
// asynq may also have dequeued what it could not run.
func (g *gate) takePermit(now time.Time) (p *ratelimit.Permit, late []*ratelimit.Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.slotFreed() // until now the task counted twice, as assigned and as running
	for i, p := range g.assigned {
		if p.Fresh(now) {
			late, g.assigned = g.assigned[:i], g.assigned[i+1:]
			return p, late
		}
	}
	late, g.assigned = g.assigned, nil
	return nil, late
}

// takeAssigned takes all permits that no handler has taken.
func (g *gate) takeAssigned() []*ratelimit.Permit {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.assigned
	g.assigned = nil
	return all
}

// releaseHeld gives back all permits: the lane sleeps or closes.
func (g *gate) releaseHeld() {
	if len(g.held) == 0 {
		return
	}
	for _, p := range g.held {
		g.pace.Release(g.ctx, p)
	}
	g.held = nil
	g.pace.ReturnUnused(g.ctx)
}
