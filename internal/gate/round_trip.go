package gate

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// laneDequeue is one lane's part of a round trip.
type laneDequeue struct {
	gate  *Gate
	queue int // the index among the gate's queues
	calls []dequeueOnce
}

// roundTrip dequeues from the queues of some gates at once, and keeps the tasks in d.tasks.
// It returns an error only when it got no task.
func (d *dequeuer) roundTrip(ctx context.Context, cmd *redis.Cmd, gates []*Gate, limit int, next redis.ProcessHook) error {
	dequeues, left := d.collect(ctx, cmd, gates, limit)
	if len(left) > 0 {
		d.mu.Lock()
		d.ready = slices.Concat(left, d.ready)
		d.mu.Unlock()
		signal(d.gateReady)
	}
	var calls []dequeueOnce
	for _, q := range dequeues {
		calls = append(calls, q.calls...)
	}
	switch {
	case len(calls) == 0:
		return nil
	case len(calls) == 1: // go-redis may send a single dequeue again
		calls[0].SetErr(next(ctx, calls[0].Cmd))
	default:
		pipe := d.pipeline()
		for _, c := range calls {
			_ = pipe.Process(ctx, c)
		}
		_, _ = pipe.Exec(ctx) // each has its own error
	}
	return d.handleReplies(dequeues)
}

// collect makes the dequeues of the gates, for at most so many tasks. left are the gates
// that must wait for the next round trip.
func (d *dequeuer) collect(ctx context.Context, cmd *redis.Cmd, gates []*Gate, tasks int) (dequeues []laneDequeue, left []*Gate) {
	now, size := time.Now(), 0
	for i, g := range gates {
		if size >= tasks {
			return dequeues, gates[i:]
		}
		limit := tasks - size
		if cmd.Name() == "eval" {
			limit = 1 // the command carries the whole script
		}
		queue, n := g.nextDequeue(now, limit)
		if n == 0 {
			signal(g.returned)
			continue
		}
		args := asynqwire.ReplaceQueue(cmd.Args(), d.queue, g.queues[queue].name)
		calls := make([]dequeueOnce, n)
		for j := range calls {
			calls[j] = dequeueOnce{redis.NewCmd(ctx, args...)}
		}
		dequeues, size = append(dequeues, laneDequeue{g, queue, calls}), size+n
	}
	return dequeues, nil
}

// handleReplies keeps the dequeued tasks, and returns the gates to their goroutines.
func (d *dequeuer) handleReplies(dequeues []laneDequeue) (failed error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range dequeues {
		got, last := 0, error(nil)
		for _, c := range q.calls {
			if err := c.Err(); err != nil {
				if last == nil || errors.Is(last, redis.Nil) {
					last = err // an error takes precedence over an empty queue
				}
				continue
			}
			d.tasks = append(d.tasks, prefetched{c.Val(), q.gate})
			got++
		}
		q.gate.dequeued(q.queue, len(q.calls), got, last)
		switch {
		case last == nil || errors.Is(last, redis.Nil):
		case redis.HasErrorPrefix(last, "NOSCRIPT"):
			d.noScript = last
		default:
			failed = last
		}
		signal(q.gate.returned)
	}
	if len(d.tasks) > 0 {
		failed = nil
	}
	return failed
}

// dequeueOnce is a dequeue that go-redis does not send again when its reply was lost. Each
// repetition of a batch could leave more tasks active without a handler until their leases
// expire. The gate dequeues again by itself.
type dequeueOnce struct{ *redis.Cmd }

// NoRetry implements the optional interface of go-redis commands.
func (dequeueOnce) NoRetry() bool { return true }
