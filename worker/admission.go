package worker

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxPreparing is how many tasks of one asynq server may have begun recently and neither
	// wait for another system nor have ended. Past it a replica gets behind: more tasks at
	// once need memory, their permits become too late, and none of them ends sooner.
	maxPreparing = 128
	// resumePreparing is how few they must have become then: lanes go on many at a time, and share
	// round trips.
	resumePreparing = maxPreparing * 3 / 4
	// preparingFor is how old a run is that counts. What takes longer waits for something that
	// may be slow for one app, and is no reason to let the others wait.
	preparingFor = time.Second
	// recountEvery is how often a full server counts again, since runs become old by time alone.
	recountEvery = 50 * time.Millisecond
)

// admission keeps an asynq server's lanes from beginning more tasks than the machine can
// carry. One lane's own concurrency is not its concern.
type admission struct {
	limit int

	mu      sync.Mutex
	started    []*startedTask          // guarded by mu; in the order in which they began, the first one counts
	preparing int             // guarded by mu; of them those that are not over
	full    bool            // guarded by mu
	waiting []chan struct{} // guarded by mu; lanes that wait to be admitted
}

// startedTask is a task that asynq got.
type startedTask struct {
	began time.Time
	over  bool // guarded by admission.mu; it counts no more
}

// begin counts a run.
func (a *admission) begin(now time.Time) *startedTask {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &startedTask{began: now}
	a.started = append(a.started, r)
	a.preparing++
	a.full = a.full || a.preparing >= a.limit
	return r
}

// end counts a run no more: it waits for another system, or has ended. nil is none.
func (a *admission) end(r *startedTask) {
	if r == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(r)
	a.admit()
}

// remove ends a run. The caller holds mu.
func (a *admission) remove(r *startedTask) {
	if !r.over {
		r.over = true
		a.preparing--
	}
	for len(a.started) > 0 && a.started[0].over {
		a.started[0] = nil
		a.started = a.started[1:]
	}
}

// admit lets lanes go on when there is room. The caller holds mu.
func (a *admission) admit() {
	if a.full && a.preparing > a.limit*resumePreparing/maxPreparing {
		return
	}
	a.full = false
	n := min(len(a.waiting), a.limit-a.preparing)
	for _, next := range a.waiting[:n] {
		close(next)
	}
	a.waiting = a.waiting[n:]
}

// room returns how many tasks may begin.
func (a *admission) room(now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.started) > 0 && now.Sub(a.started[0].began) >= preparingFor {
		a.remove(a.started[0])
	}
	a.admit()
	if a.full {
		return 0
	}
	return a.limit - a.preparing
}

// hasWaiting tells whether lanes wait to be admitted.
func (a *admission) hasWaiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting) > 0
}

// await waits until a lane may get ready for a dequeue. It returns false when ctx ends.
func (a *admission) await(ctx context.Context) bool {
	a.mu.Lock()
	if !a.full && len(a.waiting) == 0 {
		a.mu.Unlock()
		return ctx.Err() == nil
	}
	turn := make(chan struct{})
	a.waiting = append(a.waiting, turn)
	a.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
		a.mu.Lock()
		defer a.mu.Unlock()
		a.waiting = slices.DeleteFunc(a.waiting, func(c chan struct{}) bool { return c == turn })
		return false
	}
}
