package gate

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// maxPreparing bounds the tasks of one asynq server that started recently and neither
	// wait for another system nor have ended. More of them only need more memory and use
	// their permits too late; none ends sooner.
	maxPreparing = 128
	// resumePreparing is the low-water mark at which a full server admits lanes again.
	// Many lanes then continue together and share round trips.
	resumePreparing = maxPreparing * 3 / 4
	// preparingFor is how long a started task counts. One that takes longer waits for
	// something that may be slow for its app alone, and must not delay the other apps.
	preparingFor = time.Second
	// recountEvery is how often a full server counts again: tasks stop counting by age, too.
	recountEvery = 50 * time.Millisecond
)

// admission limits how many tasks all lanes of one asynq server prepare at the same time.
// The concurrency of a single lane is limited by its [Gate].
type admission struct {
	limit int

	mu        sync.Mutex
	started   []*StartedTask  // guarded by mu; the oldest first, and that one is not over
	preparing int             // guarded by mu; how many of started are not over
	full      bool            // guarded by mu; from limit down to the low-water mark
	waiting   []chan struct{} // guarded by mu; one for each lane that waits in await
}

// StartedTask is a task that was passed to asynq.
type StartedTask struct {
	began time.Time
	over  bool // guarded by admission.mu; no longer counted
}

// begin counts a task that starts at now.
func (a *admission) begin(now time.Time) *StartedTask {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &StartedTask{began: now}
	a.started = append(a.started, r)
	a.preparing++
	a.full = a.full || a.preparing >= a.limit
	return r
}

// end stops counting a task, which has ended or waits for another system. r may be nil.
func (a *admission) end(r *StartedTask) {
	if r == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(r)
	a.admit()
}

// remove stops counting a task. The caller holds mu.
func (a *admission) remove(r *StartedTask) {
	if !r.over {
		r.over = true
		a.preparing--
	}
	for len(a.started) > 0 && a.started[0].over {
		a.started[0] = nil
		a.started = a.started[1:]
	}
}

// admit wakes as many waiting lanes as there is room for. The caller holds mu.
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

// room returns how many more tasks may start.
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

// hasWaiting reports whether a lane waits in await.
func (a *admission) hasWaiting() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting) > 0
}

// await waits until a lane may prepare a dequeue. It returns false when ctx ends first.
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
