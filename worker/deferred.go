package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// recallEvery is how often deferred tasks are looked at, at least as long as a send
	// takes. A task is recalled settledAfter it was deferred, when asynq has surely put it
	// away.
	recallEvery  = 10 * time.Millisecond
	recallAfter = 100 * time.Millisecond
	// maxDeferred bounds the deferred tasks that are kept, some 10 MB. Others come back
	// by asynq's retry set alone.
	maxDeferred = 100_000
	// maxDeferral bounds how long a task stays in the retry set.
	maxDeferral = 10 * time.Minute
)

// deferral is a task that went back to asynq's retry set, as its receiver was busy.
type deferral struct {
	lane  *lane
	queue string
	task  string // asynq's id
	since time.Time
}

// Defer keeps a task to be recalled, and returns for how long it goes into asynq's retry
// set. That is for the case that it is not recalled, as its replica has ended: twice as
// long as the tasks before it should take, and two seconds.
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

// recallNext has as many deferred tasks of a receiver recalled as keep it busy until the
// next look.
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

// takeDeferred takes out up to n deferred tasks of a receiver, the oldest first.
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

// close ends all recalling.
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

// runRetry moves a task from asynq's retry set to the head of its queue, where it was
// before it was deferred.
//
// KEYS[1] retry set, KEYS[2] pending list, KEYS[3] task
// ARGV[1] id, ARGV[2] now in ns, as asynq keeps it
//
// Returns 1, or 0 when it is not in the retry set.
var runRetry = redis.NewScript(`
if redis.call("ZREM", KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call("RPUSH", KEYS[2], ARGV[1])
redis.call("HSET", KEYS[3], "state", "pending", "pending_since", ARGV[2])
return 1
`)

// recallDeferred brings n deferred tasks of a receiver back, in the background. Those that
// have come back by themselves are left out, and those of lanes that have closed.
func (r *Replica) recallDeferred(key string, n int) {
	r.background.Go(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, redisTimeout)
		defer cancel()
		for n > 0 {
			taken := r.receivers.takeDeferred(key, n)
			if len(taken) == 0 {
				return
			}
			for _, d := range taken {
				if d.lane.gate.ctx.Err() != nil {
					continue // it would wait there for as long as the lane is held
				}
				prefix := "asynq:{" + d.queue + "}:"
				moved, err := runRetry.Run(ctx, r.rdb, []string{prefix + "retry", prefix + "pending", prefix + "t:" + d.task}, d.task, time.Now().UnixNano()).Int()
				if err != nil {
					r.log.Debug("a deferred task could not be recalled", slog.Any("err", err)) // it comes back by itself
					return
				}
				if n -= moved; moved > 0 {
					d.lane.gate.wake()
				}
			}
		}
	})
}
