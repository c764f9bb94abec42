package gate

import "time"

// The bounds of the pause after a failed dequeue. asynq itself repeats a dequeue at once,
// and would spin while Redis is away.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// recheckSlots is how often a gate without free slots counts them again: an assigned permit
// stops counting when it is too late to use.
const recheckSlots = time.Second

// run prepares the gate and offers it to the dequeuer, again and again until the lane
// closes. offer returns when the dequeuer has returned the gate, or the lane closes.
func (g *Gate) run(offer func(*Gate)) {
	defer close(g.done)
	for g.prepare() {
		offer(g)
	}
	g.releaseHeld()
}

// prepare waits until the lane can dequeue: it may have work, and has a free slot and a
// permit. It returns false when the lane closes.
func (g *Gate) prepare() bool {
	for g.pause() && g.awaitWork() && g.awaitSlot() && g.awaitAdmission() {
		g.dropLate(time.Now())
		if len(g.held) > 0 {
			return true
		}
		g.nextQueue = 0 // urgent tasks may arrive during the wait
		permit, err := g.pace.Acquire(g.ctx, g.recheckPace)
		if err == nil {
			g.held = append(g.held, permit)
			return g.ctx.Err() == nil
		}
		g.failures++
	}
	return false
}

// pause waits after failures, with exponential backoff. It returns false when the lane
// closes.
func (g *Gate) pause() bool {
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
func (g *Gate) awaitWork() bool {
	if g.mayHaveWork {
		return true
	}
	select {
	case <-g.work:
		g.mayHaveWork = true
		return true
	default:
	}
	g.releaseHeld() // other replicas may use the permits
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
func (g *Gate) awaitSlot() bool {
	for g.freeSlots(time.Now()) < 1 {
		g.nextQueue = 0 // urgent tasks may arrive during the wait
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

// awaitAdmission waits while the asynq server prepares too many tasks. It returns false when
// the lane closes.
func (g *Gate) awaitAdmission() bool { return g.admission == nil || g.admission.await(g.ctx) }
