package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxBatch is how many calls share a round trip at most: a reply of that many is
	// read before the next caller is served.
	maxBatch = 256
	// overdue is how long a round trip may take before the next one no longer waits for
	// it, as when its connection is dead and nobody has noticed yet.
	overdue = 50 * time.Millisecond
	// maxInFlight is how many round trips may then be under way.
	maxInFlight = 8
)

// scriptBatcher lets the script calls that a replica's tasks make at the same time share round
// trips: fences, outcomes, and what asynq says when a task is done. A call that is alone
// leaves at once; those that come while one is under way leave together after it. So
// nothing waits for company, and a slow or distant Redis makes the batches larger.
//
// Whoever comes first carries the others: there is no goroutine of its own. One round
// trip is under way at a time, unless it is overdue.
type scriptBatcher struct {
	pipeline func() redis.Pipeliner
	calls    sync.Pool // there is one for nearly each call

	mu       sync.Mutex
	inFlight int            // guarded by mu: round trips under way
	waiting  []*batchedCall // guarded by mu: who waits for the next one
}

// batchedCall is one call that waits for its round trip. Its caller does not go before the call
// has been made, or was taken out of the queue.
type batchedCall struct {
	cmd   *redis.Cmd
	ready chan struct{} // gets a token when cmd has its reply, or when lead is set
	leads bool          // it carries the next batch itself
}

// do sends a script call, with others if there are any. alone sends it by itself.
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

// await waits until the rider's call has been made, or is to be made by it. It is false
// when ctx ended first. The first in the queue sees to it that an overdue round trip does
// not keep the queue waiting.
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
			<-r.ready // it is being carried, or is to carry others
			return true
		}
	}
}

// remove takes a rider out of the queue, to carry the next batch or because its caller gave
// up. It is false when that is too late, or when there are carriers enough.
func (s *scriptBatcher) remove(r *batchedCall, toCarry bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, r)
	if i < 0 || toCarry && s.inFlight >= maxInFlight {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	if toCarry {
		s.inFlight++
	}
	return true
}

// finish ends a round trip: the first who waits carries the next batch.
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

// flush sends the leader's call with all that wait.
func (s *scriptBatcher) flush(ctx context.Context, leader *batchedCall) {
	defer s.finish()
	s.mu.Lock()
	n := min(len(s.waiting), maxBatch-1)
	batch := append([]*batchedCall{leader}, s.waiting[:n]...)
	s.waiting = slices.Delete(s.waiting, 0, n)
	s.mu.Unlock()
	pipe := s.pipeline()
	ctx = context.WithoutCancel(ctx) // the others' lives do not hang on the leader's
	for _, r := range batch {
		_ = pipe.Process(ctx, r.cmd)
	}
	_, _ = pipe.Exec(ctx) // each call has its own error
	for _, r := range batch[1:] {
		r.ready <- struct{}{} // from here on it is its caller's again
	}
}
