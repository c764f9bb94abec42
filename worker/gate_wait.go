package worker

import "time"

// The backoff bounds the pause after a dequeue that failed. asynq itself asks again
// at once, and would spin for as long as Redis is away.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff  = 2 * time.Second
)

// recheckSlots is how long a gate waits for a handler's end before it counts the free slots
// again: permits that were assigned become too late by time alone.
const recheckSlots = time.Second

// run prepares dequeues and offers them until the lane closes. offer returns when the
// dequeuer has asked the gate, or will not.
func (g *gate) run(offer func(*gate)) {
	defer close(g.done)
	for g.prepare() {
		offer(g)
	}
	g.releaseHeld()
}

// prepare waits until the lane can use a dequeue: there may be work, a slot is free and a
// permit is held. It returns false when the lane closes.
func (g *gate) prepare() bool {
	for g.pause() && g.awaitWork() && g.awaitSlot() && g.awaitAdmission() {
		g.dropLate(time.Now())
		if len(g.held) > 0 {
			return true
		}
		g.nextQueue = 0 // the wait may be long, and urgent tasks come first
		permit, err := g.pace.Acquire(g.ctx, g.recheckPace)
		if err == nil {
			g.held = append(g.held, permit)
			return g.ctx.Err() == nil
		}
		g.failures++
	}
	return false
}

// pause waits after failures, longer after each. It returns false when the lane closes.
func (g *gate) pause() bool {
	if g.failures == 0 {
		return g.ctx.Err() == nil
	}
	t := time.NewTimer(min(minBackoff<<min(g.failures-1, 10), maxBackoff))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.ctx.Done():
		return false
	}
}

// awaitWork waits until a queue may have work. It returns false when the lane closes.
func (g *gate) awaitWork() bool {
	if g.mayHaveWork {
		return true
	}
	select {
	case <-g.work:
		g.mayHaveWork = true
		return true
	default:
	}
	g.releaseHeld() // while it sleeps, another replica may use them
	g.asleep.Store(true)
	defer g.asleep.Store(false)
	select {
	case <-g.work:
		g.mayHaveWork = true
		return true
	case <-g.ctx.Done():
		return false
	}
}

// awaitSlot waits until a slot is free. It returns false when the lane closes.
func (g *gate) awaitSlot() bool {
	for g.freeSlots(time.Now()) < 1 {
		g.nextQueue = 0 // the wait may be long, and urgent tasks come first
		again := time.NewTimer(recheckSlots)
		select {
		case <-g.slots:
		case <-again.C:
		case <-g.ctx.Done():
			again.Stop()
			return false
		}
		again.Stop()
	}
	return true
}

// awaitAdmission waits until the server's tasks are not too many. It returns false when the lane
// closes.
func (g *gate) awaitAdmission() bool { return g.admission == nil || g.admission.await(g.ctx) }
