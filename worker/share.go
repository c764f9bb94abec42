package worker

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// mostShared is how many calls share a round trip at most: a reply of that many is read
// before the next caller is served.
const mostShared = 256

// sharing lets the script calls that a replica's tasks make at the same time share round
// trips: fences, outcomes, and what asynq says when a task is done. A call that is alone
// leaves at once; those that come while one is under way leave together after it. So
// nothing waits for company, and a slow or distant Redis makes the batches larger.
//
// Whoever comes first carries the others: there is no goroutine of its own.
type sharing struct {
	pipeline func() redis.Pipeliner

	mu    sync.Mutex
	busy  bool     // guarded by mu: somebody carries
	queue []*rider // guarded by mu: who waits for the next round trip
}

// rider is one call that waits for its round trip.
type rider struct {
	cmd  *redis.Cmd    // a copy: the caller may give up and go while it is under way
	wake chan struct{} // closed when cmd has its reply, or when lead is set
	lead bool          // it carries the next batch itself
}

// do sends a script call, with others if there are any. alone sends it by itself.
func (s *sharing) do(ctx context.Context, cmd *redis.Cmd, alone func() error) error {
	s.mu.Lock()
	if !s.busy {
		s.busy = true
		s.mu.Unlock()
		defer s.pass()
		return alone()
	}
	r := &rider{cmd: redis.NewCmd(context.WithoutCancel(ctx), cmd.Args()...), wake: make(chan struct{})}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	select {
	case <-r.wake:
	case <-ctx.Done():
		if s.leave(r) {
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
		<-r.wake // it is being carried, or is to carry others
	}
	if r.lead {
		s.carry(ctx, r)
	}
	cmd.SetVal(r.cmd.Val())
	cmd.SetErr(r.cmd.Err())
	return r.cmd.Err()
}

// leave takes out a rider whose caller gave up. It is false when that is too late.
func (s *sharing) leave(r *rider) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, r)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	return true
}

// pass lets the first who waits carry the next batch.
func (s *sharing) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		s.busy = false
		return
	}
	next := s.queue[0]
	s.queue = slices.Delete(s.queue, 0, 1)
	next.lead = true
	close(next.wake)
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
		close(r.wake)
	}
}
