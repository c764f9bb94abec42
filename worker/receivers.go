package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// receiverPatience is how long a task waits at most for its receiver in a slot.
	receiverPatience = 2 * time.Second
	// assumedSend is how long a send to a receiver takes, until one has been measured.
	assumedSend = 50 * time.Millisecond
	// longestSend bounds what is measured: one call that hangs must not defer the tasks
	// after it by hours.
	longestSend = time.Second
	// longestDeferral bounds how long a task is deferred for its receiver.
	longestDeferral = 10 * time.Minute
	// sweepReceivers is how often receivers are looked for that have no use any more.
	sweepReceivers = 10 * time.Second
)

// errReceiverBusy says that a task may not wait for its receiver's lock.
var errReceiverBusy = errors.New("worker: others send to the same person")

// receiverLocks lets one task of this replica at a time send to one receiver. WeChat
// refuses a second message to an openid while the first is under way (43108).
//
// It also keeps a timetable of the tasks that were deferred because their receiver was
// busy, so that each of them comes back about when it can be sent. The timetable is not
// binding: a task that finds the lock free takes it.
type receiverLocks struct {
	mu        sync.Mutex
	receivers map[string]*receiver // guarded by mu, also what is in them
	sweeper   *time.Timer          // guarded by mu; nil while no receiver has deferred tasks
}

// A receiver is known from its first Lock until no task uses its lock and its timetable has
// passed.
type receiver struct {
	users    int           // tasks that hold the lock or wait for it
	unlocked chan struct{} // gets a token for a waiter at Unlock; nil until a task waits
	lockedAt time.Time
	send     time.Duration // how long the lock was held lately; 0 until the first Unlock
	deferred time.Time     // when the last deferred task is expected to have been sent
}

func newReceiverLocks() *receiverLocks {
	return &receiverLocks{receivers: make(map[string]*receiver)}
}

// TryLock takes a receiver's lock where it is free. unlock ends it, once.
func (l *receiverLocks) TryLock(key string) (unlock func(), ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receivers[key]
	if r == nil {
		r = new(receiver)
		l.receivers[key] = r
	}
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

// join adds a task to those that use a lock.
func (l *receiverLocks) join(key string, mayWait func(ahead int, wait time.Duration) bool) (r *receiver, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r = l.receivers[key]
	if r == nil {
		r = new(receiver) // unlocked meanwhile
		l.receivers[key] = r
	}
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
	took := min(time.Since(r.lockedAt), longestSend)
	if r.send == 0 {
		r.send = took
	}
	r.send += (took - r.send) / 4
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
	if r.deferred.IsZero() || time.Now().After(r.deferred) {
		delete(l.receivers, key)
	}
}

func (r *receiver) sendTime() time.Duration {
	if r.send == 0 {
		return assumedSend
	}
	return r.send
}

// Defer returns how long a task stays away whose receiver is busy: until those that use the
// lock, and those that were deferred before, have been sent.
func (l *receiverLocks) Defer(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receivers[key]
	if r == nil {
		r = new(receiver)
		l.receivers[key] = r
	}
	now := time.Now()
	place := now.Add(time.Duration(r.users) * r.sendTime())
	if r.deferred.After(place) {
		place = r.deferred
	}
	if last := now.Add(longestDeferral); place.After(last) {
		place = last
	}
	r.deferred = place.Add(r.sendTime())
	if l.sweeper == nil {
		l.sweeper = time.AfterFunc(sweepReceivers, l.sweep)
	}
	return place.Sub(now)
}

// sweep forgets the receivers whose timetables have passed.
func (l *receiverLocks) sweep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, deferred := time.Now(), false
	for key, r := range l.receivers {
		if r.users == 0 && now.After(r.deferred) {
			delete(l.receivers, key)
		}
		deferred = deferred || now.Before(r.deferred)
	}
	if l.sweeper = nil; deferred {
		l.sweeper = time.AfterFunc(sweepReceivers, l.sweep)
	}
}

// waitingRoom bounds how many of a lane's slots are held by tasks that wait for their
// receivers. While half of the slots are free, a task may wait: no other receiver lacks
// its slot. Beyond that, waiting tasks get a sixteenth of the slots, and those of one
// receiver two of these: as many as keep it busy.
type waitingRoom struct {
	slots   int
	waiting atomic.Int64
}

// enter takes a place where there is one, when busy slots of the lane are taken, the
// task's own among them, and ahead tasks are before it at its receiver.
func (w *waitingRoom) enter(busy, ahead int) bool {
	n := int(w.waiting.Add(1))
	if 2*busy <= w.slots || n <= w.slots/16 && ahead <= 2 {
		return true
	}
	w.leave()
	return false
}

func (w *waitingRoom) leave() { w.waiting.Add(-1) }

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
	r.limiter.release(ctx, j.permit)
	j.permit = nil
	waiting, cancel := ctx, func() {}
	if !j.capped() {
		waiting, cancel = context.WithTimeout(ctx, receiverPatience)
	}
	defer cancel()
	entered := false
	unlock, err = r.receivers.Lock(waiting, key, func(ahead int, wait time.Duration) bool {
		entered = !j.capped() && wait <= receiverPatience && l.room.enter(int(l.active.Load()), ahead)
		return entered || j.capped()
	})
	if entered {
		l.room.leave()
	}
	switch {
	case err == nil:
		return unlock, nil
	case ctx.Err() != nil:
		return nil, notNow(redisPause, laneCloses)
	}
	delay := r.receivers.Defer(key)
	if !j.NotAfter.IsZero() { // its outcome does not wait longer than the task may
		delay = min(delay, j.NotAfter.Sub(r.now())+time.Nanosecond)
	}
	return nil, notNow(delay, errReceiverBusy.Error())
}
