package worker

import (
	"context"
	"errors"
	"strings"
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

// dequeueHook is the go-redis hook that lets asynq's dequeue through only when the
// queue's lane has a permit in hand. Tasks that wait for their pace therefore stay
// pending: they hold no slot and no lease, and urgent ones pass bulk ones at once.
type dequeueHook struct {
	gates sync.Map // queue name → *gate
}

func (h *dequeueHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *dequeueHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *dequeueHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		queue, ok := dequeues(cmd)
		if !ok {
			return next(ctx, cmd)
		}
		g, ok := h.gates.Load(queue)
		if !ok || !g.(*gate).pass(queue) {
			cmd.SetErr(redis.Nil) // what asynq reads as: nothing here
			return redis.Nil
		}
		err := next(ctx, cmd)
		g.(*gate).dequeued(queue, err)
		return err
	}
}

func (h *dequeueHook) add(g *gate) {
	for _, q := range g.queues {
		h.gates.Store(q, g)
	}
}

func (h *dequeueHook) remove(g *gate) {
	for _, q := range g.queues {
		h.gates.CompareAndDelete(q, g)
	}
}

// dequeues tells whether a command is asynq's dequeue script, and of which queue. The
// script is known by its keys (pending, paused, active, lease), not by its hash, which
// may change with asynq's next release.
func dequeues(cmd redis.Cmder) (queue string, ok bool) {
	args := cmd.Args()
	if len(args) < 7 || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
		return "", false
	}
	pending, _ := args[3].(string)
	paused, _ := args[4].(string)
	queue, ok = strings.CutPrefix(pending, "asynq:{")
	if !ok {
		return "", false
	}
	if queue, ok = strings.CutSuffix(queue, "}:pending"); !ok {
		return "", false
	}
	return queue, paused == "asynq:{"+queue+"}:paused"
}

// pacer is what a gate needs of the limiter.
//
// Acquire may return a permit shortly before its instant. Release takes one back when the
// lane has nothing to do.
type pacer interface {
	Acquire(ctx context.Context, wake <-chan struct{}) (*ratelimit.Permit, error)
	Release(ctx context.Context, p *ratelimit.Permit)
}

// gate stands before the dequeues of one lane. asynq has one goroutine that dequeues:
// it asks the urgent queue, and the bulk queue where that was empty, again and again.
// For each question the hook calls pass, then, if it passed, dequeued:
//
//	pass(urgent)  waits for work, then for a permit, which is then in hand
//	pass(bulk)    goes through with the same permit, unless it is kept for urgent tasks
//	dequeued      a task: the permit goes to its handler, and the cycle begins again
//	              nothing, in the last queue: the lane sleeps, and the permit goes back
//	              an error: the next pass(urgent) pauses first
//
// take is the handlers' side; wake and close are everybody's.
type gate struct {
	queues []string // in the order in which asynq asks them: urgent, bulk
	pace   pacer
	ctx    context.Context //nolint:containedctx // the lane's life: asynq dequeues with the background context
	close  context.CancelFunc
	work   chan struct{} // holds one token when a queue may have work
	again  chan struct{} // holds one token when the pace is to be asked again at once

	inHand   *ratelimit.Permit // of the dequeuing goroutine
	failures int               // dequeues that failed in a row
	look     bool              // the queues may have work
	empty    bool              // the last queue that was asked had none

	mu      sync.Mutex
	granted []*ratelimit.Permit // guarded by mu; of dequeued tasks whose handlers have not taken them
}

func newGate(queues []string, pace pacer) *gate {
	g := &gate{
		queues: queues, pace: pace, look: true,
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
// It returns false when the lane closes, or when the permit could not be had.
func (g *gate) pass(queue string) bool {
	if g.ctx.Err() != nil {
		g.putBack()
		return false
	}
	if queue != g.queues[0] {
		return g.passBulk() // the first queue was asked just now
	}
	if !g.pause() || !g.awaitWork() {
		g.putBack()
		return false
	}
	if g.inHand == nil {
		permit, err := g.pace.Acquire(g.ctx, g.again)
		if err != nil {
			g.failures++
			return false
		}
		g.inHand = permit
	}
	return true
}

// passBulk tells whether the second queue may be asked with the permit that the first had
// no use for. Left out, its tasks stay pending until the day's next permits or somebody
// wakes the gate.
func (g *gate) passBulk() bool {
	if g.inHand == nil {
		return false
	}
	if !g.inHand.Bulk() {
		g.look = !g.empty
		return false
	}
	return true
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

// dequeued takes note of what the dequeue brought.
func (g *gate) dequeued(queue string, err error) {
	g.empty = errors.Is(err, redis.Nil)
	switch {
	case err == nil:
		g.failures = 0
		g.mu.Lock()
		g.granted = append(g.granted, g.inHand)
		g.mu.Unlock()
		g.inHand = nil
	case g.empty:
		g.failures = 0
		if queue == g.queues[len(g.queues)-1] {
			g.look = false // all queues are empty or paused: sleep until woken
		}
	case redis.HasErrorPrefix(err, "NOSCRIPT"):
		// asynq sends the script itself next; the permit stays in hand
	default:
		g.failures++
	}
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

func (g *gate) putBack() {
	if g.inHand != nil {
		g.pace.Release(g.ctx, g.inHand)
		g.inHand = nil
	}
}
