package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wxcourier/wxcourier/internal/taskstate"
)

const (
	// receiverTimeout bounds the wait for a receiver's lock in a slot.
	receiverTimeout = 2 * time.Second
	// shortWait is the longest wait at which more than two tasks may wait for one receiver.
	shortWait = 100 * time.Millisecond
	// defaultSendTime is the assumed length of a send, until one has been measured.
	defaultSendTime = 50 * time.Millisecond
	// maxSendTime caps the measured length of a send: one call that hangs must not defer the
	// tasks after it by hours.
	maxSendTime = time.Second
)

// errReceiverBusy means that too many tasks wait for the receiver's lock already.
var errReceiverBusy = errors.New(taskstate.ReceiverBusy)

// receiverLocks serializes this replica's sends to each receiver. WeChat refuses a message
// to an openid while another one is under way (43108).
//
// It also remembers the tasks that were deferred because their receiver was busy, and
// recalls them one after the other.
type receiverLocks struct {
	recall func(key string, n int) // recalls n deferred tasks of a receiver; must not block

	mu        sync.Mutex
	receivers map[string]*receiver // guarded by mu, with all fields of the receivers
	deferred  int                  // guarded by mu; deferred tasks of all receivers
	closed    bool                 // guarded by mu; no more recalls
}

// A receiver is kept from its first Lock until no task uses its lock or is deferred.
type receiver struct {
	users       int           // tasks that hold the lock or wait for it
	unlocked    chan struct{} // gets a token for a waiter at unlock; nil until a task waits
	lockedAt    time.Time
	avgSend     time.Duration // moving average of how long the lock was held; 0 until the first unlock
	deferred    []deferral    // the oldest first
	recallTimer *time.Timer   // nil while no task is deferred
}

func newReceiverLocks(recall func(key string, n int)) *receiverLocks {
	return &receiverLocks{recall: recall, receivers: make(map[string]*receiver)}
}

// TryLock takes a receiver's lock where it is free. The caller calls unlock once.
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

// Lock waits for a receiver's lock. Where the lock is taken it calls mayWait first, with the
// number of tasks that hold the lock or wait for it, and the time that they will take. It
// returns errReceiverBusy when mayWait returns false, and ctx.Err() when ctx ends first.
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

// receiver returns a receiver, and adds it where it is new. The caller holds mu.
func (l *receiverLocks) receiver(key string) *receiver {
	r := l.receivers[key]
	if r == nil {
		r = new(receiver)
		l.receivers[key] = r
	}
	return r
}

// join adds a task to the users of a lock, unless mayWait returns false.
func (l *receiverLocks) join(key string, mayWait func(ahead int, wait time.Duration) bool) (r *receiver, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r = l.receiver(key) // the lock may be free by now
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

// unlock hands the lock to the next waiter, if there is one.
func (l *receiverLocks) unlock(key string, r *receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := min(time.Since(r.lockedAt), maxSendTime)
	if r.avgSend == 0 {
		r.avgSend = took
	}
	r.avgSend += (took - r.avgSend) / 4
	if l.leave(key, r); r.users > 0 {
		r.unlocked <- struct{}{} // the remaining users are waiters
	}
}

// leave removes one user of a lock. The caller holds mu.
func (l *receiverLocks) leave(key string, r *receiver) {
	if r.users--; r.users > 0 {
		return
	}
	r.unlocked = nil // drops the token that a canceled waiter did not take
	l.forget(key, r)
}

// forget deletes a receiver without users and deferred tasks. The caller holds mu.
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

// receiverWaitLimit bounds the slots of a lane that tasks hold while they wait for their
// receivers, so that tasks for other receivers find a slot: a sixteenth of the slots, or any
// while half of the slots are free. At most two tasks wait for one receiver, which is enough
// to keep it busy, or more where the wait is at most shortWait.
type receiverWaitLimit struct {
	slots   atomic.Int64
	waiting atomic.Int64
}

// acquire reports whether a task may wait in its slot; if so, the caller calls release. busy
// slots of the lane are taken, including the task's own, and ahead tasks are before it at
// its receiver, for the duration wait.
func (w *receiverWaitLimit) acquire(busy, ahead int, wait time.Duration) bool {
	n, slots := int(w.waiting.Add(1)), int(w.slots.Load())
	if (ahead <= 2 || wait <= shortWait) && (2*busy <= slots || n <= slots/16) {
		return true
	}
	w.release()
	return false
}

func (w *receiverWaitLimit) release() { w.waiting.Add(-1) }
