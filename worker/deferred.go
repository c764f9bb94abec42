package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

const (
	// recallEvery is the shortest interval between two recalls of one receiver's tasks.
	recallEvery = 10 * time.Millisecond
	// recallAfter is the age from which a deferred task is recalled. asynq has surely
	// written it to its retry set by then.
	recallAfter = 100 * time.Millisecond
	// maxDeferred bounds the deferred tasks that are kept in memory, to some 10 MB. Others
	// come back when their delay in asynq's retry set ends.
	maxDeferred = 100_000
	// maxDeferral bounds the delay of a task in the retry set.
	maxDeferral = 10 * time.Minute
)

// deferral is a task that goes back to asynq's retry set because its receiver is busy.
type deferral struct {
	lane  *lane
	queue string
	task  string // asynq's id
	since time.Time
}

// Defer remembers a task for a recall, and returns its delay in asynq's retry set: twice
// the time that the tasks before it should take, plus two seconds. The delay matters only
// when the task is not recalled, for instance because its replica has ended.
func (l *receiverLocks) Defer(key string, d deferral) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receiver(key)
	delay := min(2*time.Duration(r.users+len(r.deferred))*r.sendTime()+2*time.Second, maxDeferral)
	if l.deferred >= maxDeferred || l.closed {
		l.forget(key, r)
		return delay
	}
	l.deferred++
	r.deferred = append(r.deferred, d)
	if r.recallTimer == nil {
		r.recallTimer = time.AfterFunc(recallAfter, func() { l.recallNext(key, r) })
	}
	return delay
}

// recallNext recalls as many deferred tasks of a receiver as keep it busy until the next
// recall.
func (l *receiverLocks) recallNext(key string, r *receiver) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(r.deferred) == 0 || l.closed {
		r.recallTimer = nil
		return
	}
	send := r.sendTime()
	every := max(send, recallEvery)
	r.recallTimer.Reset(every)
	if n := 1 + int((every+send-1)/send) - r.users; n > 0 {
		l.recall(key, n)
	}
}

// takeDeferred removes and returns up to n deferred tasks of a receiver, the oldest first.
// It leaves those that are younger than recallAfter.
func (l *receiverLocks) takeDeferred(key string, n int) []deferral {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.receivers[key]
	if r == nil || l.closed {
		return nil
	}
	due := time.Now().Add(-recallAfter)
	n = min(n, len(r.deferred))
	for i, d := range r.deferred[:n] {
		if d.since.After(due) {
			n = i
			break
		}
	}
	taken := r.deferred[:n:n]
	if r.deferred = r.deferred[n:]; len(r.deferred) == 0 {
		r.deferred = nil
	}
	l.deferred -= n
	l.forget(key, r)
	return taken
}

// close stops all recalls.
func (l *receiverLocks) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, r := range l.receivers {
		if r.recallTimer != nil {
			r.recallTimer.Stop()
		}
	}
}

// recallDeferred moves n deferred tasks of a receiver back to their queues, in the
// background. It skips tasks that have come back by themselves and those of closed lanes.
func (d *deliverer) recallDeferred(key string, n int) {
	d.background.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		for n > 0 {
			taken := d.receivers.takeDeferred(key, n)
			if len(taken) == 0 {
				return
			}
			for _, t := range taken {
				if t.lane.gate.Context().Err() != nil {
					continue // in the queue it would wait until the hold ends
				}
				moved, err := asynqwire.RunRetry(ctx, d.rdb, t.queue, t.task)
				if err != nil {
					d.log.Debug("a deferred task could not be recalled", slog.Any("err", err)) // it comes back when its delay ends
					return
				}
				if moved {
					n--
					t.lane.gate.Wake()
				}
			}
		}
	})
}
