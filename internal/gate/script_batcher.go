package gate

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch bounds the calls of one round trip: all replies of a batch are read before
	// any caller gets its reply.
	maxBatch = 256
	// overdue is how long the waiting calls wait for a round trip before they start another
	// one: its connection may be dead.
	overdue = 50 * time.Millisecond
	// maxInFlight bounds the concurrent round trips when some are overdue.
	maxInFlight = 8
)

// scriptBatcher sends concurrent script calls of a replica's tasks in shared round trips:
// fences, outcomes, and asynq's scripts at the end of a task. A call is sent at once when no
// round trip is in flight; calls that arrive during a round trip are sent together after it.
// No call waits in order to fill a batch, and batches grow with the latency of Redis.
//
// It has no goroutine: the first waiting caller sends the batch. One round trip is in flight
// at a time, unless it is overdue.
type scriptBatcher struct {
	pipeline func() redis.Pipeliner
	calls    sync.Pool // of *batchedCall

	mu       sync.Mutex
	inFlight int            // guarded by mu; round trips in flight
	waiting  []*batchedCall // guarded by mu; calls for the next round trip
}

// batchedCall is a call that waits for a round trip. Its caller returns only when the call
// has its reply or was removed from waiting.
type batchedCall struct {
	cmd   *redis.Cmd
	ready chan struct{} // gets a token when cmd has its reply, or when leads is set
	leads bool          // its caller sends the next batch
}

// do sends a script call, alone or in a batch, and returns its error. alone sends it by
// itself.
func (s *scriptBatcher) do(ctx context.Context, cmd *redis.Cmd, alone func() error) error {
	s.mu.Lock()
	if s.inFlight == 0 {
		s.inFlight = 1
		s.mu.Unlock()
		defer s.finish()
		return alone()
	}
	r, ok := s.calls.Get().(*batchedCall)
	if !ok {
		r = &batchedCall{ready: make(chan struct{}, 1)}
	}
	r.cmd = cmd
	s.waiting = append(s.waiting, r)
	first := len(s.waiting) == 1
	s.mu.Unlock()
	if !s.await(ctx, r, first) {
		cmd.SetErr(ctx.Err())
	} else if r.leads {
		s.flush(ctx, r)
	}
	r.cmd, r.leads = nil, false
	s.calls.Put(r)
	return cmd.Err()
}

// await waits until a call has its reply, or its caller must send the next batch (r.leads).
// It returns false when ctx ends first. The first waiting call starts another round trip
// when the one in flight is overdue.
func (s *scriptBatcher) await(ctx context.Context, r *batchedCall, first bool) bool {
	var late <-chan time.Time
	if first {
		t := time.NewTimer(overdue)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case <-r.ready:
			return true
		case <-late:
			if s.remove(r, true) {
				r.leads = true
				return true
			}
			late = nil
		case <-ctx.Done():
			if s.remove(r, false) {
				return false
			}
			<-r.ready // the call is being sent, or must send the batch
			return true
		}
	}
}

// remove removes a call from waiting, because its caller gave up or, with toFlush, in order
// to send the next batch. It returns false when the call is no longer waiting, and with
// toFlush when maxInFlight round trips are in flight.
func (s *scriptBatcher) remove(r *batchedCall, toFlush bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, r)
	if i < 0 || toFlush && s.inFlight >= maxInFlight {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	if toFlush {
		s.inFlight++
	}
	return true
}

// finish ends a round trip, and makes the first waiting call lead the next batch.
func (s *scriptBatcher) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.inFlight--
		return
	}
	next := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	next.leads = true
	next.ready <- struct{}{}
}

// flush sends the leader's call together with the waiting calls.
func (s *scriptBatcher) flush(ctx context.Context, leader *batchedCall) {
	defer s.finish()
	s.mu.Lock()
	n := min(len(s.waiting), maxBatch-1)
	batch := append([]*batchedCall{leader}, s.waiting[:n]...)
	s.waiting = slices.Delete(s.waiting, 0, n)
	s.mu.Unlock()
	pipe := s.pipeline()
	ctx = context.WithoutCancel(ctx) // the end of the leader's ctx must not fail the others
	for _, r := range batch {
		_ = pipe.Process(ctx, r.cmd)
	}
	_, _ = pipe.Exec(ctx) // each call has its own error
	for _, r := range batch[1:] {
		r.ready <- struct{}{} // from here on the caller owns r
	}
}
