package worker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// mostShared is how many calls share a round trip at most: a reply of that many is
	// read before the next caller is served.
	mostShared = 256
	// overdue is how long a round trip may take before the next one no longer waits for
	// it, as when its connection is dead and nobody has noticed yet.
	overdue = 50 * time.Millisecond
	// mostCarriers is how many round trips may then be under way.
	mostCarriers = 8
)

// sharing lets the script calls that a replica's tasks make at the same time share round
// trips: fences, outcomes, and what asynq says when a task is done. A call that is alone
// leaves at once; those that come while one is under way leave together after it. So
// nothing waits for company, and a slow or distant Redis makes the batches larger.
//
// Whoever comes first carries the others: there is no goroutine of its own. One round
// trip is under way at a time, unless it is overdue.
type sharing struct {
	pipeline func() redis.Pipeliner
	riders   sync.Pool // there is one for nearly each call

	mu       sync.Mutex
	carriers int      // guarded by mu: round trips under way
	queue    []*rider // guarded by mu: who waits for the next one
}

// rider is one call that waits for its round trip. Its caller does not go before the call
// has been made, or was taken out of the queue.
type rider struct {
	cmd  *redis.Cmd
	wake chan struct{} // gets a token when cmd has its reply, or when lead is set
	lead bool          // it carries the next batch itself
}

// do sends a script call, with others if there are any. alone sends it by itself.
func (s *sharing) do(ctx context.Context, cmd *redis.Cmd, alone func() error) error {
	s.mu.Lock()
	if s.carriers == 0 {
		s.carriers = 1
		s.mu.Unlock()
		defer s.pass()
		return alone()
	}
	r, ok := s.riders.Get().(*rider)
	if !ok {
		r = &rider{wake: make(chan struct{}, 1)}
	}
	r.cmd = cmd
	s.queue = append(s.queue, r)
	first := len(s.queue) == 1
	s.mu.Unlock()
	if !s.await(ctx, r, first) {
		cmd.SetErr(ctx.Err())
	} else if r.lead {
		s.carry(ctx, r)
	}
	r.cmd, r.lead = nil, false
	s.riders.Put(r)
	return cmd.Err()
}

// await waits until the rider's call has been made, or is to be made by it. It is false
// when ctx ended first. The first in the queue sees to it that an overdue round trip does
// not keep the queue waiting.
func (s *sharing) await(ctx context.Context, r *rider, first bool) bool {
	var late <-chan time.Time
	if first {
		t := time.NewTimer(overdue)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case <-r.wake:
			return true
		case <-late:
			if s.leave(r, true) {
				r.lead = true
				return true
			}
			late = nil
		case <-ctx.Done():
			if s.leave(r, false) {
				return false
			}
			<-r.wake // it is being carried, or is to carry others
			return true
		}
	}
}

// leave takes a rider out of the queue, to carry the next batch or because its caller gave
// up. It is false when that is too late, or when there are carriers enough.
func (s *sharing) leave(r *rider, toCarry bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, r)
	if i < 0 || toCarry && s.carriers >= mostCarriers {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	if toCarry {
		s.carriers++
	}
	return true
}

// pass ends a round trip: the first who waits carries the next batch.
func (s *sharing) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.carriers--
		return
	}
	next := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	next.lead = true
	next.wake <- struct{}{}
}

// carry sends the leader's call with all that wait.
func (s *sharing) carry(ctx context.Context, leader *rider) {
	defer s.pass()
	s.mu.Lock()
	n := min(len(s.queue), mostShared-1)
	batch := append([]*rider{leader}, s.queue[:n]...)
	s.queue = slices.Delete(s.queue, 0, n)
	s.mu.Unlock()
	pipe := s.pipeline()
	ctx = context.WithoutCancel(ctx) // the others' lives do not hang on the leader's
	for _, r := range batch {
		_ = pipe.Process(ctx, r.cmd)
	}
	_, _ = pipe.Exec(ctx) // each call has its own error
	for _, r := range batch[1:] {
		r.wake <- struct{}{} // from here on it is its caller's again
	}
}
