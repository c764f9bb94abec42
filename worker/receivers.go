package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// receiverTimeout is how long a task waits at most for its receiver in a slot.
	receiverTimeout = 2 * time.Second
	// shortWait is how long more than two tasks may wait for one receiver.
	shortWait = 100 * time.Millisecond
	// defaultSendTime is how long a send to a receiver takes, until one has been measured.
	defaultSendTime = 50 * time.Millisecond
	// maxSendTime bounds what is measured: one call that hangs must not defer the tasks
	// after it by hours.
	maxSendTime = time.Second
)

// errReceiverBusy says that a task may not wait for its receiver's lock.
var errReceiverBusy = errors.New("worker: others send to the same person")

// receiverLocks lets one task of this replica at a time send to one receiver. WeChat
// refuses a second message to an openid while the first is under way (43108).
//
// It also keeps the tasks that were deferred as their receiver was busy, and recalls them
// one after the other.
type receiverLocks struct {
	recall func(key string, n int) // has n deferred tasks of a receiver recalled, and does not wait for it

	mu        sync.Mutex
	receivers map[string]*receiver // guarded by mu, also what is in them
	deferred  int                  // guarded by mu; tasks of all receivers
	closed    bool                 // guarded by mu; nothing more is recalled
}

// A receiver is known from its first Lock until no task uses its lock or is deferred.
type receiver struct {
	users       int           // tasks that hold the lock or wait for it
	unlocked    chan struct{} // gets a token for a waiter at Unlock; nil until a task waits
	lockedAt    time.Time
	avgSend     time.Duration // how long the lock was held lately; 0 until the first Unlock
	deferred    []deferral    // the oldest first
	recallTimer *time.Timer   // nil while no task is deferred
}

func newReceiverLocks(recall func(key string, n int)) *receiverLocks {
	return &receiverLocks{recall: recall, receivers: make(map[string]*receiver)}
}

// TryLock takes a receiver's lock where it is free. unlock ends it, once.
func (l *receiverLocks) TryLock(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receiver(key)
	if r.users > 0 {
		return nil, false
	}
	r.users, r.lockedAt = 1, time.Now()
	return func() { l.unlock(key, r) }, true
}

// Lock waits for a receiver's lock. Where it is not free, mayWait is asked first: ahead is
// how many tasks hold the lock or wait for it, and wait how long they will take. The error
// is errReceiverBusy then, or that of ctx when ctx ends first.
func (l *receiverLocks) Lock(ctx context.Context, key string, mayWait func(ahead int, wait time.Duration) bool) (unlock func(), err error) {
	if unlock, ok := l.TryLock(key); ok {
		return unlock, nil
	}
	r, ok := l.join(key, mayWait)
	if !ok {
		return nil, errReceiverBusy
	}
	select {
	case <-r.unlocked:
		l.mu.Lock()
		r.lockedAt = time.Now()
		l.mu.Unlock()
		return func() { l.unlock(key, r) }, nil
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		l.leave(key, r)
		return nil, ctx.Err()
	}
}

// receiver finds a receiver, which may be new. The caller holds mu.
func (l *receiverLocks) receiver(key string) *receiver {
	r := l.receivers[key]
	if r == nil {
		r = new(receiver)
		l.receivers[key] = r
	}
	return r
}

// join adds a task to those that use a lock.
func (l *receiverLocks) join(key string, mayWait func(ahead int, wait time.Duration) bool) (r *receiver, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r = l.receiver(key) // it may have been unlocked meanwhile
	if r.users > 0 && !mayWait(r.users, time.Duration(r.users)*r.sendTime()) {
		return nil, false
	}
	if r.unlocked == nil {
		r.unlocked = make(chan struct{}, 1)
	}
	if r.users++; r.users == 1 {
		r.unlocked <- struct{}{}
	}
	return r, true
}

// unlock passes the lock on to a task that waits.
func (l *receiverLocks) unlock(key string, r *receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := min(time.Since(r.lockedAt), maxSendTime)
	if r.avgSend == 0 {
		r.avgSend = took
	}
	r.avgSend += (took - r.avgSend) / 4
	if l.leave(key, r); r.users > 0 {
		r.unlocked <- struct{}{} // all that are left wait
	}
}

// leave ends one use of a receiver's lock. The caller holds mu.
func (l *receiverLocks) leave(key string, r *receiver) {
	if r.users--; r.users > 0 {
		return
	}
	r.unlocked = nil // a token in it is nobody's
	l.forget(key, r)
}

// forget drops a receiver that is of no use any more. The caller holds mu.
func (l *receiverLocks) forget(key string, r *receiver) {
	if r.users == 0 && len(r.deferred) == 0 {
		delete(l.receivers, key)
	}
}

func (r *receiver) sendTime() time.Duration {
	if r.avgSend == 0 {
		return defaultSendTime
	}
	return r.avgSend
}

// receiverWaitLimit bounds how many of a lane's slots are held by tasks that wait for their
// receivers: a sixteenth, unless half of the slots are free, so that no other receiver
// lacks one. Two tasks wait for one receiver, as many as keep it busy, or more where they
// wait for a moment only.
type receiverWaitLimit struct {
	slots   int
	waiting atomic.Int64
}

// acquire takes a place where there is one, when busy slots of the lane are taken, the
// task's own among them, and ahead tasks are before it at its receiver, for a time.
func (w *receiverWaitLimit) acquire(busy, ahead int, wait time.Duration) bool {
	n := int(w.waiting.Add(1))
	if (ahead <= 2 || wait <= shortWait) && (2*busy <= w.slots || n <= w.slots/16) {
		return true
	}
	w.release()
	return false
}

func (w *receiverWaitLimit) release() { w.waiting.Add(-1) }

// lockReceiver takes the lock of a job's receiver, which may take a while. Meanwhile
// another task may use the job's permit. The error is a *handedBack.
//
// A task that asynq would not bring back waits as long as the lane is open. One that has
// expired is not sent, and needs no lock.
func (r *Replica) lockReceiver(ctx context.Context, l *lane, j *job) (unlock func(), err error) {
	key := j.receiverKey()
	if key == "" || j.expired(r.now()) {
		return func() {}, nil
	}
	if unlock, ok := r.receivers.TryLock(key); ok {
		return unlock, nil
	}
	r.servers.donePreparing(j)
	r.limiter.release(ctx, j.permit)
	j.permit = nil
	waiting, cancel := ctx, func() {}
	if !j.capped() {
		waiting, cancel = context.WithTimeout(ctx, receiverTimeout)
	}
	defer cancel()
	entered := false
	unlock, err = r.receivers.Lock(waiting, key, func(ahead int, wait time.Duration) bool {
		entered = !j.capped() && wait <= receiverTimeout && l.receiverWaits.acquire(int(l.active.Load()), ahead, wait)
		return entered || j.capped()
	})
	if entered {
		l.receiverWaits.release()
	}
	switch {
	case err == nil:
		return unlock, nil
	case ctx.Err() != nil:
		return nil, retryLater(redisRetryDelay, laneClosing)
	}
	delay := r.receivers.Defer(key, deferral{lane: l, queue: j.queue, task: j.TaskID(), since: time.Now()})
	if !j.NotAfter.IsZero() { // its outcome does not wait longer than the task may
		delay = min(delay, j.NotAfter.Sub(r.now())+time.Nanosecond)
	}
	return nil, retryLater(delay, errReceiverBusy.Error())
}
