package worker

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// mostPreparing is how many tasks of one asynq server may have begun recently and neither
	// wait for another system nor have ended. Past it a replica gets behind: more tasks at
	// once need memory, their permits become too late, and none of them ends sooner.
	mostPreparing = 128
	// resumeAt is how few they must have become then: lanes go on many at a time, and share
	// round trips.
	resumeAt = mostPreparing * 3 / 4
	// recently is how old a run is that counts. What takes longer waits for something that
	// may be slow for one app, and is no reason to let the others wait.
	recently = time.Second
	// admitAgain is how often a full server counts again, since runs become old by time alone.
	admitAgain = 50 * time.Millisecond
)

// admission keeps an asynq server's lanes from beginning more tasks than the machine can
// carry. One lane's own concurrency is not its concern.
type admission struct {
	most int

	mu      sync.Mutex
	runs    []*run          // guarded by mu; in the order in which they began, the first one counts
	counted int             // guarded by mu; of them those that are not over
	full    bool            // guarded by mu
	waiting []chan struct{} // guarded by mu; lanes that wait to be admitted
}

// run is a task that asynq got.
type run struct {
	began time.Time
	over  bool // guarded by admission.mu; it counts no more
}

// begin counts a run.
func (a *admission) begin(now time.Time) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &run{began: now}
	a.runs = append(a.runs, r)
	a.counted++
	a.full = a.full || a.counted >= a.most
	return r
}

// end counts a run no more: it waits for another system, or has ended. nil is none.
func (a *admission) end(r *run) {
	if r == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(r)
	a.admit()
}

// drop ends a run. The caller holds mu.
func (a *admission) drop(r *run) {
	if !r.over {
		r.over = true
		a.counted--
	}
	for len(a.runs) > 0 && a.runs[0].over {
		a.runs[0] = nil
		a.runs = a.runs[1:]
	}
}

// admit lets lanes go on when there is room. The caller holds mu.
func (a *admission) admit() {
	if a.full && a.counted > a.most*resumeAt/mostPreparing {
		return
	}
	a.full = false
	n := min(len(a.waiting), a.most-a.counted)
	for _, next := range a.waiting[:n] {
		close(next)
	}
	a.waiting = a.waiting[n:]
}

// room returns how many tasks may begin.
func (a *admission) room(now time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.runs) > 0 && now.Sub(a.runs[0].began) >= recently {
		a.drop(a.runs[0])
	}
	a.admit()
	if a.full {
		return 0
	}
	return a.most - a.counted
}

// waits tells whether lanes wait to be admitted.
func (a *admission) waits() bool {
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
