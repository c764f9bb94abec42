package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// The backoff bounds the pause after a dequeue that failed. asynq itself asks again
// at once, and would spin for as long as Redis is away.
const (
	shortestBackoff = 50 * time.Millisecond
	longestBackoff  = 2 * time.Second
)

// pacer is what a gate needs of the limiter.
//
// Acquire may return a permit shortly before its instant. AtHand returns more of the same
// without waiting, at most n. Release takes one back, Rest also what else was leased:
// the lane has nothing to do.
type pacer interface {
	Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error)
	AtHand(ctx context.Context, n int) []*ratelimit.Permit
	Release(ctx context.Context, p *ratelimit.Permit)
	Rest(ctx context.Context)
}

// mostAtOnce is how many tasks one round trip takes out of a queue at most.
const mostAtOnce = 32

// gate stands before the dequeues of one lane. asynq has one goroutine that dequeues:
// it asks the urgent queue, and the bulk queue where that was empty, again and again.
// For each question the hook calls pop, and where that has nothing pass, then, if it
// passed, dequeued:
//
//	pop           a task that came with an earlier one
//	pass(urgent)  waits for work, then for a permit, which is then in hand, with as many
//	              more as are there at once and find a free slot
//	pass(bulk)    goes through with the same permits, but for those kept for urgent tasks
//	dequeued      tasks: a permit goes to each handler, and the cycle begins again
//	              nothing, in the last queue: the lane sleeps, and the permits go back
//	              an error: the next pass(urgent) pauses first
//
// How many tasks are asked for at once doubles while the queue has them, and begins at
// one again when it has fewer. It is no more than there are free slots, so that asynq
// starts them at once: what is taken ahead does not wait with nobody extending its lease.
//
// take is the handlers' side; wake and close are everybody's.
type gate struct {
	queues []string // in the order in which asynq asks them: urgent, bulk
	pace   pacer
	free   func() int      // slots of the lane that are free
	ctx    context.Context //nolint:containedctx // the lane's life: asynq dequeues with the background context
	close  context.CancelFunc
	work   chan struct{} // holds one token when a queue may have work
	again  chan struct{} // holds one token when the pace is to be asked again at once

	hand     []*ratelimit.Permit // of the dequeuing goroutine
	atOnce   int                 // how many tasks to ask for
	failures int                 // dequeues that failed in a row
	look     bool                // the queues may have work
	empty    bool                // the last queue that was asked had none
	afresh   bool                // the first queue is to be asked anew, before the second

	mu      sync.Mutex
	asking  bool                // guarded by mu; a dequeue that was let through is under way
	granted []*ratelimit.Permit // guarded by mu; of dequeued tasks whose handlers have not taken them
	ahead   []any               // guarded by mu; tasks that came with others, as the script replied
}

func newGate(queues []string, pace pacer, free func() int) *gate {
	g := &gate{
		queues: queues, pace: pace, free: free, look: true, atOnce: 1,
		work: make(chan struct{}, 1), again: make(chan struct{}, 1),
	}
	g.ctx, g.close = context.WithCancel(context.Background())
	return g
}

// rouse tells the gate that a queue may have work.
func (g *gate) rouse() { signal(g.work) }

// wake tells the gate that a queue may have work, or that a hold may have ended.
func (g *gate) wake() {
	signal(g.work)
	signal(g.again)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // it knows already
	}
}

// pass blocks until the queue may be asked: there may be work and a permit is in hand.
// It returns for how many tasks; 0 when the lane closes, when the permit could not be
// had, when bulk tasks may not have it, or when the question has become too old.
func (g *gate) pass(queue string) int {
	if g.ctx.Err() != nil {
		g.putBack()
		return 0
	}
	if queue != g.queues[0] {
		return g.begin(g.passBulk()) // the first queue was asked just now
	}
	began := time.Now()
	if !g.pause() || !g.awaitWork() {
		g.putBack()
		return 0
	}
	g.dropLate(time.Now())
	if len(g.hand) == 0 {
		permit, err := g.pace.Acquire(g.ctx, g.again)
		if err != nil {
			g.failures++
			return 0
		}
		g.hand = append(g.hand, permit)
	}
	if time.Since(began) > longWait {
		g.afresh = true
		return 0
	}
	most := max(1, min(g.atOnce, g.free()-g.undelivered()))
	if more := most - len(g.hand); more > 0 {
		g.hand = append(g.hand, g.pace.AtHand(g.ctx, more)...)
	}
	return g.begin(min(most, len(g.hand)))
}

// longWait is how long a question may have waited at the gate. asynq reckons the lease of
// what it gets from when it asked: one that asked long ago is told that there is nothing,
// and asks again at once. The permits stay in hand.
const longWait = 5 * time.Second

// begin notes that a dequeue goes out, unless the lane has closed meanwhile.
func (g *gate) begin(n int) int {
	g.mu.Lock()
	closed := g.ctx.Err() != nil
	g.asking = n > 0 && !closed
	g.mu.Unlock()
	if closed {
		g.putBack()
		return 0
	}
	return n
}

// undelivered counts the tasks that were dequeued and have not reached a handler.
func (g *gate) undelivered() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.granted)
}

// dropLate gives back permits that stayed in hand for too long.
func (g *gate) dropLate(now time.Time) {
	g.hand = slices.DeleteFunc(g.hand, func(p *ratelimit.Permit) bool {
		late := !p.Fresh(now)
		if late {
			g.pace.Release(g.ctx, p)
		}
		return late
	})
}

// passBulk tells for how many tasks the second queue may be asked with the permits that
// the first had no use for. Left out, its tasks stay pending until the day's next permits
// or somebody wakes the gate.
func (g *gate) passBulk() int {
	if g.afresh || len(g.hand) == 0 {
		g.afresh = false
		return 0
	}
	n := 0
	for n < len(g.hand) && g.hand[n].Bulk() { // those that are kept for urgent tasks come last
		n++
	}
	if n == 0 {
		g.look = !g.empty
	}
	return n
}

// pause waits after failures, longer after each. It returns false when the lane closes.
func (g *gate) pause() bool {
	if g.failures == 0 {
		return true
	}
	t := time.NewTimer(min(shortestBackoff<<min(g.failures-1, 10), longestBackoff))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}

func (g *gate) awaitWork() bool {
	if g.look {
		return true
	}
	g.putBack() // while it sleeps, another replica may use it
	select {
	case <-g.work:
		g.look = true
		return true
	case <-g.ctx.Done():
		return false
	}
}

// pop is the next task that came with an earlier one, with its permit granted.
func (g *gate) pop() (task any, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.ahead) == 0 {
		return nil, false
	}
	task, g.ahead = g.ahead[0], g.ahead[1:]
	return task, true
}

// dequeued takes note of what the dequeue brought: the tasks beside the first one, of how
// many that were asked for, and the first one's error.
func (g *gate) dequeued(queue string, asked int, more []any, err error) {
	g.grant(more, err == nil)
	g.empty = errors.Is(err, redis.Nil)
	switch {
	case err == nil:
		g.failures = 0
		if g.atOnce = 1; len(more)+1 == asked {
			g.atOnce = min(2*asked, mostAtOnce)
		}
	case g.empty:
		g.failures, g.atOnce = 0, 1
		if queue == g.queues[len(g.queues)-1] {
			g.look = false // all queues are empty or paused: sleep until woken
		}
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq sends the script itself next; the permits stay in hand
	default:
		g.failures++
		g.atOnce = 1
		for len(g.hand) > 1 { // the next question is for one task
			last := len(g.hand) - 1
			g.pace.Release(g.ctx, g.hand[last])
			g.hand = g.hand[:last]
		}
	}
}

// grant ends a dequeue. Where it brought something, permits in hand are passed on: one to
// the handler of the task that asynq has now, and one to that of each that it gets ahead.
func (g *gate) grant(ahead []any, some bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asking = false
	if !some {
		return
	}
	n := min(1+len(ahead), len(g.hand))
	g.granted = append(g.granted, g.hand[:n]...)
	g.ahead = append(g.ahead, ahead...)
	g.hand = slices.Clone(g.hand[n:])
}

// drained tells whether asynq has all tasks that were dequeued, of a gate that is closed.
func (g *gate) drained() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.asking && len(g.ahead) == 0
}

// take gives a handler the oldest permit that a task of the lane was dequeued with and
// that may still be used. Those before it are too late, and the caller's to give back:
// asynq may also have dequeued what it could not run.
func (g *gate) take(now time.Time) (p *ratelimit.Permit, late []*ratelimit.Permit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, p := range g.granted {
		if p.Fresh(now) {
			late, g.granted = g.granted[:i], g.granted[i+1:]
			return p, late
		}
	}
	late, g.granted = g.granted, nil
	return nil, late
}

// clear takes all permits that no handler has taken.
func (g *gate) clear() []*ratelimit.Permit {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := g.granted
	g.granted = nil
	return all
}

// putBack gives back all permits: the lane sleeps or closes.
func (g *gate) putBack() {
	if len(g.hand) == 0 {
		return
	}
	for _, p := range g.hand {
		g.pace.Release(g.ctx, p)
	}
	g.hand = nil
	g.pace.Rest(g.ctx)
}
